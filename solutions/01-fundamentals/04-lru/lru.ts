export interface LruOptions<K, V> {
  /**
   * Called with each evicted entry, as the last step of `set`: it may call the cache, and `set` throws what it throws.
   * A deleted entry or an overwritten value is not evicted.
   */
  readonly onEvict?: (key: K, value: V) => void;
}

interface Entry<K, V> {
  readonly key: K;
  value: V;
  newer: Entry<K, V> | undefined;
  older: Entry<K, V> | undefined;
}

/**
 * A cache of at most `capacity` entries. A new key in a full cache evicts the entry that was used least recently.
 * Keys are compared as a Map compares them, and any value may be stored. Every call costs the same at any capacity.
 */
export class Lru<K, V> {
  readonly #capacity: number;
  readonly #onEvict: LruOptions<K, V>['onEvict'];
  readonly #entries = new Map<K, Entry<K, V>>();
  #newest: Entry<K, V> | undefined;
  #oldest: Entry<K, V> | undefined;

  /** @throws RangeError unless `capacity` is a whole number of 1 or more */
  constructor(capacity: number, options: LruOptions<K, V> = {}) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw new RangeError(`capacity must be a whole number of 1 or more, not ${capacity}`);
    }
    this.#capacity = capacity;
    this.#onEvict = options.onEvict;
  }

  /** The number of entries. */
  get size(): number {
    return this.#entries.size;
  }

  // #region get
  /** The value, or undefined when there is no such entry. Counts as a use. */
  get(key: K): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#use(entry);
    return entry.value;
  }
  // #endregion

  /** The value, or undefined when there is no such entry. Does not count as a use. */
  peek(key: K): V | undefined {
    return this.#entries.get(key)?.value;
  }

  /** Whether there is such an entry. Does not count as a use. */
  has(key: K): boolean {
    return this.#entries.has(key);
  }

  // #region set
  /** Stores the value. Counts as a use. */
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
    // Last: the callback may call the cache, and may throw.
    if (evicted !== undefined) this.#onEvict?.(evicted.key, evicted.value);
  }
  // #endregion

  /** Removes the entry. @returns whether there was one */
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
