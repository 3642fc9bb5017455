import type { Redis, RedisOptions } from 'ioredis';

export interface TwoTier {
  /** The text that Redis holds for the key, or null: from L1, else by asking Redis. @throws what Redis says */
  get(key: string): Promise<string | null>;
  /** Ends the channel and all timers. After that, `get` asks Redis. */
  close(): void;
}

export interface Options {
  /** The client of the application: all reads go through it. */
  readonly redis: Redis;
  /** Opens another connection to the same Redis: for the channel. */
  readonly connect: (options: RedisOptions) => Redis;
  /** L1 keeps keys that begin with it, and no others. */
  readonly prefix: string;
  /** How many keys L1 keeps at most. */
  readonly maxKeys: number;
  /** In production: L1 is not used when the channel has been silent for longer (ms). */
  readonly maxSilenceMs?: number;
  /** In production: the time in ms, for that silence and for TTLs. */
  readonly now?: () => number;
  /** In production: called with each failure of the channel. It never throws. */
  readonly onError?: (error: unknown) => void;
}

/**
 * L1 in the memory of this process, before Redis. Redis tells the channel which keys have changed, by any writer. Until
 * the channel is tracked, `get` asks Redis.
 */
export function createTwoTier({
  redis,
  connect,
  prefix,
  maxKeys,
  maxSilenceMs = 1_000,
  now = () => performance.now(),
  onError = () => {},
}: Options): TwoTier {
  throw new Error('not implemented');
}
