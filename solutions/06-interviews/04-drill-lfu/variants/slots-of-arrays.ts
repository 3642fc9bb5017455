export interface Entry<K, V> {
  readonly key: K;
  readonly value: V;
}

/** The ends of a list of slots. */
interface Ends {
  oldest: number;
  newest: number;
}

const NONE = -1;

/** An entry is a slot number; its uses and neighbours stand in arrays. */
export class Lfu<K, V> {
  readonly #slots = new Map<K, number>();
  readonly #free: number[] = [];
  readonly #entries: (Entry<K, V> | undefined)[] = [];
  readonly #uses: Float64Array;
  readonly #older: Int32Array;
  readonly #newer: Int32Array;
  readonly #lists = new Map<number, Ends>();
  #fewest = 1;

  constructor(readonly capacity: number) {
    this.#uses = new Float64Array(capacity);
    this.#older = new Int32Array(capacity);
    this.#newer = new Int32Array(capacity);
  }

  get(key: K): V | undefined {
    const slot = this.#slots.get(key);
    if (slot === undefined) return undefined;
    this.#moveTo(slot, this.#usesOf(slot) + 1);
    return this.#entries[slot]?.value;
  }

  set(key: K, value: V): Entry<K, V> | undefined {
    const present = this.#slots.get(key);
    let evicted: Entry<K, V> | undefined;
    if (present === undefined && this.#slots.size === this.capacity) {
      evicted = this.#entries[this.#lists.get(this.#fewest)?.oldest ?? NONE];
      if (evicted) this.delete(evicted.key);
    }
    const slot = present ?? this.#free.pop() ?? this.#slots.size;
    this.#slots.set(key, slot);
    this.#entries[slot] = { key, value };
    if (present !== undefined) this.#moveTo(slot, this.#usesOf(slot) + 1);
    else {
      this.#append(slot, 1);
      this.#fewest = 1;
    }
    return evicted;
  }

  delete(key: K): boolean {
    const slot = this.#slots.get(key);
    if (slot === undefined) return false;
    this.#leave(slot);
    this.#entries[slot] = undefined;
    this.#free.push(slot);
    return this.#slots.delete(key);
  }

  #usesOf(slot: number): number {
    return this.#uses[slot] ?? 0;
  }

  #moveTo(slot: number, uses: number): void {
    this.#leave(slot);
    if (!this.#lists.has(this.#fewest)) this.#fewest = uses;
    this.#append(slot, uses);
  }

  #append(slot: number, uses: number): void {
    const ends = this.#lists.get(uses) ?? { oldest: slot, newest: NONE };
    this.#lists.set(uses, ends);
    this.#uses[slot] = uses;
    this.#older[slot] = ends.newest;
    this.#newer[slot] = NONE;
    if (ends.newest !== NONE) this.#newer[ends.newest] = slot;
    ends.newest = slot;
  }

  #leave(slot: number): void {
    const uses = this.#usesOf(slot);
    const [older = NONE, newer = NONE] = [this.#older[slot], this.#newer[slot]];
    const ends = this.#lists.get(uses);
    if (older !== NONE) this.#newer[older] = newer;
    else if (ends) ends.oldest = newer;
    if (newer !== NONE) this.#older[newer] = older;
    else if (ends) ends.newest = older;
    if (ends?.oldest === NONE) this.#lists.delete(uses);
  }
}
