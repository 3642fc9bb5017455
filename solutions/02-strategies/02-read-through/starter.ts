import type { Args, Options } from './given';

export interface ReadThrough<A extends Args, V> {
  /**
   * The value from Redis, or on a miss from `load`. Concurrent calls of one key share one load.
   * In production: no two calls share an object. `signal` ends this call only.
   * @throws what `load` throws; LoadTimeoutError; the reason of `signal`
   */
  get(args: A, options?: { readonly signal?: AbortSignal }): Promise<V>;
  /**
   * Deletes the entry. Call it after the commit.
   * In production: from the moment of this call, a `get` of this object returns nothing that was loaded before it. That
   * holds even if the DEL fails: then `get` loads, until Redis has confirmed a DEL or ttlMs is over.
   * @throws when Redis has not confirmed the DEL
   */
  invalidate(args: A): Promise<void>;
}

/** The key of a read, for `get` and for `invalidate`. The order of the arguments does not matter. */
export function cacheKey(name: string, args: Args): string {
  throw new Error('not implemented');
}

/** A read-through cache over Redis. Options, codec and errors are in `given.ts`. */
export function createReadThrough<A extends Args, V>({
  redis,
  name,
  load,
  ttlMs,
  loadDeadlineMs,
  cacheDeadlineMs,
  onCacheError = () => {},
}: Options<A, V>): ReadThrough<A, V> {
  throw new Error('not implemented');
}
