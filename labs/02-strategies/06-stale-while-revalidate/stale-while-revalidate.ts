import { deserialize, serialize } from 'node:v8';
import type { Redis } from 'ioredis';

/** Where the entry of a key lives. The braces keep it in one cluster slot with its lock. */
export const entryKey = (key: string): string => `swr:entry:{${key}}`;

/** Held by the one who refreshes the entry of a key. */
export const lockKey = (key: string): string => `swr:lock:{${key}}`;

/** What lies in Redis. */
export interface Entry<V> {
  readonly value: V;
  /** When the load of the value began, by `now` (ms). */
  readonly loadedAt: number;
}

/** An entry as bytes, and back. A Date comes back as a Date. Provided. */
export const encode = <V>(entry: Entry<V>): Buffer => serialize(entry);

/** Each call gives a value of its own. @throws when the bytes are no entry. Provided. */
export function decode<V>(bytes: Buffer): Entry<V> {
  const entry: unknown = deserialize(bytes);
  if (typeof entry !== 'object' || entry === null || !('loadedAt' in entry)) throw new TypeError('no entry');
  return entry as Entry<V>;
}

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

export class CacheTimeoutError extends Error {
  override readonly name = 'CacheTimeoutError';

  constructor(ms: number) {
    super(`Redis did not answer within ${ms} ms`);
  }
}

export interface SwrOptions<V> {
  readonly redis: Redis;
  /** A value is fresh until this long after its load began (ms). */
  readonly softTtlMs: number;
  /**
   * A value is gone this long after its load began (ms): the PX of its entry is what is left of that. An entry that
   * is older by `now` is a miss too. Longer than softTtlMs.
   */
  readonly hardTtlMs: number;
  /** Asks the source; undefined when there is no such thing. `signal` aborts at the deadline, in a refresh too. */
  readonly load: (key: string, signal: AbortSignal) => Promise<V | undefined>;
  /** How long one load may take (ms). */
  readonly loadDeadlineMs: number;
  /** How long one command to Redis may take (ms), whatever the client's own options are. */
  readonly cacheDeadlineMs: number;
  /** Milliseconds, the same in all processes up to the skew of their clocks. */
  readonly now?: () => number;
  /** Told why a refresh has failed, whether Redis or the load did. What it throws is ignored. */
  readonly onRefreshError?: (error: unknown, key: string) => void;
}

export interface Swr<V> {
  /**
   * - Fresh: the value from Redis; nothing is loaded.
   * - Soft-expired: the stale value from Redis at once, and a refresh in the background. There is one refresh of a key
   *   at a time, over all processes: who refreshes holds {@link lockKey}. Whoever gets the lock when another has
   *   just refreshed the entry does not load. The owner releases the lock when it is done, and nobody else does; by
   *   itself it expires no sooner than loadDeadlineMs + 3 × cacheDeadlineMs, the longest that a refresh can take, and
   *   no later than twice that. It is never without an expiry, not even between two commands.
   *   Who has lost the lock, to another or to nobody, stores nothing and releases nothing, even when it is lost just
   *   before the last command. A refresh has a load of its own, which no miss joins. So a writer that deletes entry
   *   and lock together cancels a refresh.
   *   When the load gives undefined, the entry is deleted. When the load fails or is late, the entry stays as it is,
   *   with the time it has left, and the lock stays too: there is no other refresh before it has expired.
   * - Missing, hard-expired, or bytes that {@link decode} refuses: waits for a load, which all callers of this object
   *   that wait share, and stores its value over them; undefined is not stored. A value that cannot be stored is returned too.
   * - Redis fails, or does not answer in time: as if missing, and nothing is stored, not even when Redis is back by
   *   the end of the load.
   *
   * Callers share no object.
   * @throws while it waits for a load only: what `load` throws, or {@link LoadTimeoutError}; forgotten with the load
   */
  get(key: string): Promise<V | undefined>;
  /** Resolves when nothing of this object is going on in the background: await it before its clients are closed. Never rejects. */
  settled(): Promise<void>;
}

/** A cache over Redis that answers with the old value while it fetches the new one. */
export function createSwr<V>({
  redis,
  softTtlMs,
  hardTtlMs,
  load,
  loadDeadlineMs,
  cacheDeadlineMs,
  now = Date.now,
  onRefreshError = () => {},
}: SwrOptions<V>): Swr<V> {
  throw new Error('not implemented');
}
