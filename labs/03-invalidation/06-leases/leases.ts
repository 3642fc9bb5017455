import type { Redis } from 'ioredis';

/** Where the value of a key lives, as JSON. The braces keep it in one cluster slot with its lease. */
export const valueKey = (key: string): string => `leased:value:{${key}}`;

/** Holds the token of the one who may store the value of a key. */
export const leaseKey = (key: string): string => `leased:lease:{${key}}`;

/** The load took longer than its lease lives. */
export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

/** Redis did not confirm an invalidation: the old value may still be there. `cause` says why. */
export class InvalidationError extends Error {
  override readonly name = 'InvalidationError';

  constructor(key: string, cause: unknown) {
    super(`the invalidation of ${key} was not confirmed: try it again until it is`, { cause });
  }
}

export interface LeaseCacheOptions {
  /** It has a `commandTimeout`: each of its commands settles in bounded time. */
  readonly redis: Redis;
  /** From 0 (inclusive) to 1 (exclusive), for the pauses. */
  readonly random?: () => number;
  /** Told each failure of Redis that no caller is told. What it throws is ignored. */
  readonly onCacheError?: (error: unknown, key: string) => void;
}

/** All in whole milliseconds. */
export interface Times {
  /** The life of a stored value. */
  readonly ttlMs: number;
  /** The life of a lease, and how long any load may take. Longer than the slowest load that is to succeed. */
  readonly leaseMs: number;
  /** How long this call waits for a value that another caller is loading; 0 for not at all. */
  readonly waitMs: number;
}

export interface LeaseCache {
  /**
   * A call that begins after an {@link invalidate} of the key has resolved, in whatever process, never gets a value
   * whose load began before `invalidate` was called. One step in Redis (a GET before it is allowed) decides what the
   * call does:
   * - There is a value: returns it; its PX goes on. What cannot be parsed as JSON is none: the next fill replaces it.
   * - No value, and no lease: the call gets {@link leaseKey}, with a token by `randomUUID` and leaseMs as its PX, in
   *   the same step. It loads and then fills: if the lease still holds its token, the value is stored for ttlMs and the
   *   lease removed, in one step. Otherwise the fill is refused: nothing is stored, another's lease stays as it is, and
   *   the caller gets the value that it has loaded all the same. A load that fails gives its lease back, if it still
   *   holds its token. Redis has answered the fill, or the giving back, before the call settles. (A client whose
   *   connection broke before the answer asks again by itself: a lease with the token of the call is its own.)
   * - No value, and the lease is another's: pauses for {@link pauseMs}, the last time for what is left of waitMs, and
   *   looks again, until there is a value, or the lease is free and its own, or waitMs has passed. Then it loads for
   *   itself alone, and stores nothing.
   * - Redis fails or does not answer: loads, and stores nothing. (It may have granted the lease all the same: nobody
   *   uses that lease, and it ends by its PX.) A fill or a giving back that fails is told to onCacheError, and the
   *   caller gets what it has loaded, or the error of its load.
   *
   * Callers share no object: each gets what JSON makes of the value, after a load too.
   * @param load asks the source; what JSON can hold, null when there is no such thing. It may take leaseMs from when it
   *   begins, with the lease or without, however late that was granted; then its `signal` is aborted
   * @throws what `load` throws; {@link LoadTimeoutError}; a TypeError for what JSON cannot hold (undefined, a bigint):
   *   that is a load that has failed
   */
  getOrLoad<V>(key: string, load: (signal: AbortSignal) => Promise<V>, times: Times): Promise<V>;
  /**
   * Call it when the change is committed. Deletes value and lease, so that no fill can come between: what is being
   * loaded now will be refused. Resolves when Redis has confirmed it.
   * @throws InvalidationError when Redis has not; the writer leaves it to an outbox (lesson 3.2) then
   */
  invalidate(key: string): Promise<void>;
}

/** Whether there is a value in these bytes. Provided. */
export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** How long to pause before the next look (ms): 5 to 10 at attempt 0, then twice as long each time, up to 160. Provided. */
export function pauseMs(attempt: number, random: () => number): number {
  const longest = Math.min(10 * 2 ** attempt, 160);
  return (longest / 2) * (1 + random());
}

/** The promise, or the error of `late` when it has not settled after `ms`. Provided. */
export function withDeadline<T>(promise: Promise<T>, ms: number, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** A cache over Redis whose invalidations reach the fills in flight. */
export function createLeaseCache({
  redis,
  random = Math.random,
  onCacheError = () => {},
}: LeaseCacheOptions): LeaseCache {
  throw new Error('not implemented');
}
