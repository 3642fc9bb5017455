/** What one access did. A hit evicts nothing; a miss puts the key in, and may evict another to make room. */
export type Access<K> =
  | { readonly hit: true; readonly evicted?: undefined }
  | { readonly hit: false; readonly evicted?: K };

/**
 * Decides which keys a cache of a fixed size keeps. It holds keys only: a cache keeps its values beside it and drops
 * a value when the policy names its key as evicted.
 */
export interface Policy<K> {
  /** The most keys it ever holds. */
  readonly capacity: number;
  /** The keys it holds now. */
  readonly size: number;
  /**
   * One use of `key`, be it a read or a write. An absent key goes in; if the cache is full, one other key leaves
   * first and is named as `evicted`.
   */
  access(key: K): Access<K>;
}

/**
 * @returns `capacity`
 * @throws RangeError unless it is a whole number of 1 or more
 */
export function requireCapacity(capacity: number): number {
  if (!Number.isSafeInteger(capacity) || capacity < 1) {
    throw new RangeError(`capacity must be a whole number of 1 or more, not ${capacity}`);
  }
  return capacity;
}
