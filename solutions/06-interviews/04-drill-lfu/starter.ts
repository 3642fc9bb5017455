export interface Entry<K, V> {
  readonly key: K;
  readonly value: V;
}

/**
 * A cache of at most `capacity` entries. To make room it evicts the entry with the fewest uses; if several have as few, the
 * one of them that was used least recently. Every call costs the same at any capacity.
 */
export class Lfu<K, V> {
  constructor(capacity: number) {}

  /** The value; undefined when there is none. A hit is a use. */
  get(key: K): V | undefined {
    throw new Error('not implemented');
  }

  /** Stores the value, which is a use. @returns the evicted entry, if there was one */
  set(key: K, value: V): Entry<K, V> | undefined {
    throw new Error('not implemented');
  }

  /** Removes the entry, and forgets its uses. @returns whether there was one */
  delete(key: K): boolean {
    throw new Error('not implemented');
  }
}
