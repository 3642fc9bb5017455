export interface LruOptions<K, V> {
  /**
   * Called with each evicted entry, as the last step of `set`: it may call the cache, and `set` throws what it throws.
   * A deleted entry or an overwritten value is not evicted.
   */
  readonly onEvict?: (key: K, value: V) => void;
}

/**
 * A cache of at most `capacity` entries. A new key in a full cache evicts the entry that was used least recently.
 * Keys are compared as a Map compares them, and any value may be stored. Every call costs the same at any capacity.
 */
export class Lru<K, V> {
  /** @throws RangeError unless `capacity` is a whole number of 1 or more */
  constructor(capacity: number, options: LruOptions<K, V> = {}) {
    throw new Error('not implemented');
  }

  /** The number of entries. */
  get size(): number {
    throw new Error('not implemented');
  }

  /** The value, or undefined when there is no such entry. Counts as a use. */
  get(key: K): V | undefined {
    throw new Error('not implemented');
  }

  /** The value, or undefined when there is no such entry. Does not count as a use. */
  peek(key: K): V | undefined {
    throw new Error('not implemented');
  }

  /** Whether there is such an entry. Does not count as a use. */
  has(key: K): boolean {
    throw new Error('not implemented');
  }

  /** Stores the value. Counts as a use. */
  set(key: K, value: V): void {
    throw new Error('not implemented');
  }

  /** Removes the entry. @returns whether there was one */
  delete(key: K): boolean {
    throw new Error('not implemented');
  }
}
