import type { Redis, RedisOptions } from 'ioredis';

export interface TwoTier {
  /** The text that Redis holds for the key, or null: from L1, else from Redis. @throws the error of Redis */
  get(key: string): Promise<string | null>;
  /** Ends the channel and all timers. After that, `get` asks Redis. */
  close(): void;
}

export interface Options {
  /** The client of the application. Send all reads through it. */
  readonly redis: Redis;
  /** Opens a second connection to the same Redis, for the channel. */
  readonly connect: (options: RedisOptions) => Redis;
  /** L1 keeps only keys that begin with this prefix. */
  readonly prefix: string;
  /** How many keys L1 keeps at most. */
  readonly maxKeys: number;
  /** In production: `get` does not use L1 when the channel has been silent for longer than this (ms). */
  readonly maxSilenceMs?: number;
  /** In production: the clock (ms) for this silence and for TTLs. */
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
