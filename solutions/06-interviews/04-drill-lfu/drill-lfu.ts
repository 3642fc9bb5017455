export interface Entry<K, V> {
  readonly key: K;
  readonly value: V;
}

/** An entry with its uses, and its neighbours among those with as many uses. */
interface Counted<K, V> {
  readonly key: K;
  value: V;
  uses: number;
  older: Counted<K, V> | undefined;
  newer: Counted<K, V> | undefined;
}

/**
 * A cache of at most `capacity` entries. To make room it evicts the entry with the fewest uses; if several have as few, the
 * one of them that was used least recently. Every call costs the same at any capacity.
 */
export class Lfu<K, V> {
  readonly #capacity: number;
  readonly #entries = new Map<K, Counted<K, V>>();
  /** By number of uses. Empty lists are dropped: a popular key would leave one behind at each use. */
  readonly #lists = new Map<number, List<K, V>>();
  /** The fewest uses of an entry. After a `delete` it may be too low until the next new key, and nobody is evicted before. */
  #fewest = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** The value; undefined when there is none. A hit is a use. */
  get(key: K): V | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    this.#use(entry);
    return entry.value;
  }

  /** Stores the value, which is a use. @returns the evicted entry, if there was one */
  set(key: K, value: V): Entry<K, V> | undefined {
    const present = this.#entries.get(key);
    if (present) {
      present.value = value;
      this.#use(present);
      return undefined;
    }
    // Before the new entry is in: it would be the one with the fewest uses.
    const evicted = this.#entries.size === this.#capacity ? this.#lists.get(this.#fewest)?.oldest : undefined;
    if (evicted) this.#remove(evicted);
    const entry = { key, value, uses: 1, older: undefined, newer: undefined };
    this.#entries.set(key, entry);
    this.#append(entry);
    this.#fewest = 1;
    return evicted && { key: evicted.key, value: evicted.value };
  }

  /** Removes the entry, and forgets its uses. @returns whether there was one */
  delete(key: K): boolean {
    const entry = this.#entries.get(key);
    if (entry) this.#remove(entry);
    return entry !== undefined;
  }

  #use(entry: Counted<K, V>): void {
    this.#leaveList(entry);
    if (entry.uses === this.#fewest && !this.#lists.has(entry.uses)) this.#fewest++;
    entry.uses++;
    this.#append(entry);
  }

  #remove(entry: Counted<K, V>): void {
    this.#entries.delete(entry.key);
    this.#leaveList(entry);
  }

  #append(entry: Counted<K, V>): void {
    const list = this.#lists.get(entry.uses) ?? new List<K, V>();
    this.#lists.set(entry.uses, list);
    list.append(entry);
  }

  #leaveList(entry: Counted<K, V>): void {
    const list = this.#lists.get(entry.uses);
    list?.remove(entry);
    if (!list?.oldest) this.#lists.delete(entry.uses);
  }
}

class List<K, V> {
  oldest: Counted<K, V> | undefined;
  #newest: Counted<K, V> | undefined;

  append(entry: Counted<K, V>): void {
    entry.older = this.#newest;
    entry.newer = undefined;
    if (entry.older) entry.older.newer = entry;
    else this.oldest = entry;
    this.#newest = entry;
  }

  remove({ older, newer }: Counted<K, V>): void {
    if (older) older.newer = newer;
    else this.oldest = newer;
    if (newer) newer.older = older;
    else this.#newest = older;
  }
}
