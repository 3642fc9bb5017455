export interface LruOptions<K, V> {
  /**
   * Called once for each entry that had to go because the cache was full, after the new entry is in place. So it may
   * use the cache, and if it throws, `set` throws the same and the cache is whole. Not called by `delete`, nor when
   * a value is overwritten.
   */
  readonly onEvict?: (key: K, value: V) => void;
}

// #region entry
interface Entry<K, V> {
  readonly key: K;
  value: V;
  newer: Entry<K, V> | undefined;
  older: Entry<K, V> | undefined;
}
// #endregion

/**
 * A cache that holds at most `capacity` entries and, when one more comes, drops the one that was used least recently.
 * Every operation costs the same whatever the capacity. Keys are compared as a Map compares them; any value may be
 * stored, `undefined` too.
 */
export class Lru<K, V> {
  readonly #capacity: number;
  readonly #onEvict: LruOptions<K, V>['onEvict'];
  readonly #entries = new Map<K, Entry<K, V>>();
  #newest: Entry<K, V> | undefined;
  #oldest: Entry<K, V> | undefined;

  /**
   * @param capacity entries, a whole number from 1
   * @throws {RangeError} for any other capacity
   */
  constructor(capacity: number, options: LruOptions<K, V> = {}) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw new RangeError(`capacity must be a whole number of at least 1, not ${capacity}`);
    }
    this.#capacity = capacity;
    this.#onEvict = options.onEvict;
  }

  /** Entries held now: 0 to `capacity`. */
  get size(): number {
    return this.#entries.size;
  }

  // #region get
  /** The value, or undefined when the key is absent. Counts as a use. */
  get(key: K): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#use(entry);
    return entry.value;
  }
  // #endregion

  /** The value, or undefined when the key is absent. Does not count as a use. */
  peek(key: K): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Whether the key is held: what tells a stored `undefined` from an absent key. Does not count as a use. */
  has(key: K): boolean {
    return this.#entries.has(key);
  }

  // #region set
  /** Stores the value and counts as a use. A new key in a full cache evicts the entry used least recently. */
  set(key: K, value: V): void {
    const present = this.#entries.get(key);
    if (present !== undefined) {
      present.value = value;
      this.#use(present);
      return;
    }
    const evicted = this.#entries.size === this.#capacity ? this.#oldest : undefined;
    if (evicted !== undefined) this.#remove(evicted);

    const entry: Entry<K, V> = { key, value, newer: undefined, older: undefined };
    this.#entries.set(key, entry);
    this.#append(entry);
    // Last, so that a callback that throws, or that calls the cache, meets it whole.
    if (evicted !== undefined) this.#onEvict?.(evicted.key, evicted.value);
  }
  // #endregion

  /** Removes the entry. Returns whether there was one. */
  delete(key: K): boolean {
    const entry = this.#entries.get(key);
    if (entry === undefined) return false;
    this.#remove(entry);
    return true;
  }

  // #region list
  #use(entry: Entry<K, V>): void {
    if (entry === this.#newest) return;
    this.#unlink(entry);
    this.#append(entry);
  }

  #remove(entry: Entry<K, V>): void {
    this.#entries.delete(entry.key);
    this.#unlink(entry);
  }

  #unlink({ newer, older }: Entry<K, V>): void {
    if (newer === undefined) this.#newest = older;
    else newer.older = older;
    if (older === undefined) this.#oldest = newer;
    else older.newer = newer;
  }

  #append(entry: Entry<K, V>): void {
    entry.newer = undefined;
    entry.older = this.#newest;
    if (this.#newest === undefined) this.#oldest = entry;
    else this.#newest.newer = entry;
    this.#newest = entry;
  }
  // #endregion
}
