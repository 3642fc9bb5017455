interface LruOptions<K, V> {
  readonly onEvict?: (key: K, value: V) => void;
}

/**
 * An entry is a slot number, and both links of slot 5 stand at index 5 of two arrays of integers: no object for an entry,
 * less for the garbage collector to visit. `lru-cache` and mnemonist keep their order in this way.
 */
export class Lru<K, V> {
  readonly #capacity: number;
  readonly #onEvict: LruOptions<K, V>['onEvict'];
  readonly #slots = new Map<K, number>();
  readonly #keys: (K | undefined)[] = [];
  readonly #values: (V | undefined)[] = [];
  /** Slot `capacity` is no entry: it stands between the newest and the oldest. */
  readonly #newer: Uint32Array;
  readonly #older: Uint32Array;
  readonly #free: number[] = [];

  constructor(capacity: number, { onEvict }: LruOptions<K, V> = {}) {
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw new RangeError(`capacity must be a whole number of 1 or more, not ${capacity}`);
    }
    this.#capacity = capacity;
    this.#onEvict = onEvict;
    this.#newer = new Uint32Array(capacity + 1).fill(capacity);
    this.#older = new Uint32Array(capacity + 1).fill(capacity);
  }

  get size(): number {
    return this.#slots.size;
  }

  get(key: K): V | undefined {
    const slot = this.#slots.get(key);
    if (slot === undefined) return undefined;
    this.#unlink(slot);
    this.#append(slot);
    return this.#values[slot];
  }

  peek(key: K): V | undefined {
    const slot = this.#slots.get(key);
    return slot === undefined ? undefined : this.#values[slot];
  }

  has(key: K): boolean {
    return this.#slots.has(key);
  }

  set(key: K, value: V): void {
    const present = this.#slots.get(key);
    if (present !== undefined) {
      this.#values[present] = value;
      this.#unlink(present);
      this.#append(present);
    } else if (this.size < this.#capacity) {
      this.#fill(this.#free.pop() ?? this.#keys.length, key, value);
    } else {
      // The newer neighbour of the place between the ends is the oldest entry.
      const slot = this.#newer[this.#capacity] as number;
      const [evictedKey, evictedValue] = [this.#keys[slot] as K, this.#values[slot] as V];
      this.#slots.delete(evictedKey);
      this.#unlink(slot);
      this.#fill(slot, key, value);
      this.#onEvict?.(evictedKey, evictedValue);
    }
  }

  delete(key: K): boolean {
    const slot = this.#slots.get(key);
    if (slot === undefined) return false;
    this.#unlink(slot);
    this.#keys[slot] = undefined;
    this.#values[slot] = undefined;
    this.#free.push(slot);
    return this.#slots.delete(key);
  }

  #fill(slot: number, key: K, value: V): void {
    this.#keys[slot] = key;
    this.#values[slot] = value;
    this.#slots.set(key, slot);
    this.#append(slot);
  }

  #unlink(slot: number): void {
    const [newer, older] = [this.#newer[slot] as number, this.#older[slot] as number];
    this.#older[newer] = older;
    this.#newer[older] = newer;
  }

  #append(slot: number): void {
    const ends = this.#capacity;
    const newest = this.#older[ends] as number;
    this.#newer[slot] = ends;
    this.#older[slot] = newest;
    this.#newer[newest] = slot;
    this.#older[ends] = slot;
  }
}
