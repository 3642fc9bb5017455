export interface Options {
  /** How many entries the cache may hold. */
  readonly capacity: number;
  /** How long a value lives after its `set` (ms). */
  readonly ttlMs: number;
  /** The clock (ms). */
  readonly now: () => number;
}

export interface ExpiringLru<K, V> {
  /** The value; undefined when there is none, or when it has expired. */
  get(key: K): V | undefined;
  /** Stores the value. A new key in a full cache takes the place of an expired entry, else of the least recently used. */
  set(key: K, value: V): void;
}

interface Entry<K, V> {
  readonly key: K;
  value: V;
  expiresAt: number;
  older: Entry<K, V>;
  newer: Entry<K, V>;
}

interface Write<K, V> {
  readonly entry: Entry<K, V>;
  readonly expiresAt: number;
  next?: Write<K, V>;
}

/** A queue of all writes in place of a second order. What was replaced since stays in it until its time is over. */
class WithQueue<K, V> implements ExpiringLru<K, V> {
  readonly #entries = new Map<K, Entry<K, V>>();
  readonly #options: Options;
  /** Both ends of the order of use: newest before it, oldest after it. */
  #end: Entry<K, V> | undefined;
  #firstWrite: Write<K, V> | undefined;
  #lastWrite: Write<K, V> | undefined;

  constructor(options: Options) {
    this.#options = options;
  }

  get(key: K): V | undefined {
    this.#expire();
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    this.#unlink(entry);
    this.#append(entry);
    return entry.value;
  }

  set(key: K, value: V): void {
    this.#expire();
    const present = this.#entries.get(key);
    if (present) this.#unlink(present);
    else if (this.#entries.size >= this.#options.capacity && this.#end) this.#remove(this.#end.newer);

    const entry = { key, value, expiresAt: this.#options.now() + this.#options.ttlMs } as Entry<K, V>;
    this.#entries.set(key, entry);
    this.#append(entry);
    const write = { entry, expiresAt: entry.expiresAt };
    if (this.#lastWrite) this.#lastWrite.next = write;
    else this.#firstWrite = write;
    this.#lastWrite = write;
  }

  /** Each write is taken off the queue once: O(1) a write, on average. */
  #expire(): void {
    const now = this.#options.now();
    while (this.#firstWrite && this.#firstWrite.expiresAt <= now) {
      const { entry, next } = this.#firstWrite;
      if (this.#entries.get(entry.key) === entry) this.#remove(entry);
      this.#firstWrite = next;
      if (!next) this.#lastWrite = undefined;
    }
  }

  #remove(entry: Entry<K, V>): void {
    this.#entries.delete(entry.key);
    this.#unlink(entry);
  }

  /** The ring begins at `#end`, the newest one: its `newer` is the oldest. */
  #unlink(entry: Entry<K, V>): void {
    entry.older.newer = entry.newer;
    entry.newer.older = entry.older;
    if (this.#end === entry) this.#end = entry.older === entry ? undefined : entry.older;
  }

  #append(entry: Entry<K, V>): void {
    const newest = this.#end ?? entry;
    entry.older = newest;
    entry.newer = this.#end ? newest.newer : entry;
    entry.newer.older = entry;
    newest.newer = entry;
    this.#end = entry;
  }
}

export const createExpiringLru = <K, V>(options: Options): ExpiringLru<K, V> => new WithQueue(options);
