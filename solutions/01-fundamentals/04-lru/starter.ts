export interface LruOptions<K, V> {
  /**
   * Called once for each entry that had to go because the cache was full, after the new entry is in place. So it may
   * use the cache, and if it throws, `set` throws the same and the cache is whole. Not called by `delete`, nor when
   * a value is overwritten.
   */
  readonly onEvict?: (key: K, value: V) => void;
}

/**
 * A cache that holds at most `capacity` entries and, when one more comes, drops the one that was used least recently.
 * Every operation costs the same whatever the capacity. Keys are compared as a Map compares them; any value may be
 * stored, `undefined` too.
 */
export class Lru<K, V> {
  /**
   * @param capacity entries, a whole number from 1
   * @throws {RangeError} for any other capacity
   */
  constructor(capacity: number, options: LruOptions<K, V> = {}) {
    throw new Error('not implemented');
  }

  /** Entries held now: 0 to `capacity`. */
  get size(): number {
    throw new Error('not implemented');
  }

  /** The value, or undefined when the key is absent. Counts as a use. */
  get(key: K): V | undefined {
    throw new Error('not implemented');
  }

  /** The value, or undefined when the key is absent. Does not count as a use. */
  peek(key: K): V | undefined {
    throw new Error('not implemented');
  }

  /** Whether the key is held: what tells a stored `undefined` from an absent key. Does not count as a use. */
  has(key: K): boolean {
    throw new Error('not implemented');
  }

  /** Stores the value and counts as a use. A new key in a full cache evicts the entry used least recently. */
  set(key: K, value: V): void {
    throw new Error('not implemented');
  }

  /** Removes the entry. Returns whether there was one. */
  delete(key: K): boolean {
    throw new Error('not implemented');
  }
}
