import { deserialize, serialize } from 'node:v8';
import type { Redis } from 'ioredis';

export interface Options<V> {
  readonly redis: Redis;
  /** How long a value is fresh after it was stored (ms). */
  readonly softTtlMs: number;
  /** How long an entry lives in Redis (ms). Longer than softTtlMs. */
  readonly hardTtlMs: number;
  /** Asks the source; undefined when there is no such thing. In production: `signal` aborts at the deadline. */
  readonly load: (key: string, signal: AbortSignal) => Promise<V | undefined>;
  /** Milliseconds. */
  readonly now?: () => number;
  /** In production: how long a load may take (ms). */
  readonly loadDeadlineMs: number;
  /** In production: how long a Redis command may take (ms), whatever the options of the client are. */
  readonly cacheDeadlineMs: number;
  /** In production: called with each error that no caller gets: of Redis, of `decode`, of a refresh. It never throws. */
  readonly onError?: (error: unknown) => void;
}

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

/** The braces keep the entry of a key and its lock in one slot of a cluster. */
export const entryKey = (key: string): string => `swr:entry:{${key}}`;

/** In production: held by the process that refreshes the entry of a key. */
export const lockKey = (key: string): string => `swr:lock:{${key}}`;

/** In production: how long a lock lives (ms). A load and three commands have ended by then, by their own deadlines. */
export const lockTtlMs = (options: Pick<Options<unknown>, 'loadDeadlineMs' | 'cacheDeadlineMs'>): number =>
  options.loadDeadlineMs + 3 * options.cacheDeadlineMs;

/** What an entry holds. */
export interface Entry<V> {
  readonly value: V;
  /** When it was stored, by `now`. */
  readonly storedAt: number;
}

/** An entry as bytes. A Date comes back as a Date. */
export const encode = <V>(entry: Entry<V>): Buffer => serialize(entry);

/** The first byte of what `encode` makes. */
const FORMAT = 0xff;

/** The reverse of `encode`: a new copy at each call. @throws when the bytes are not an entry */
export function decode<V>(bytes: Buffer): Entry<V> {
  const entry: unknown = bytes[0] === FORMAT ? deserialize(bytes) : undefined;
  if (typeof entry !== 'object' || entry === null || !('storedAt' in entry)) {
    throw new TypeError('not an entry of this cache');
  }
  return entry as Entry<V>;
}
