import type { LruOptions } from './lru';

const ABSENT = -1;
/** So many keys of one hash stand in the table; what comes after them goes to the Map. */
const ALIKE = 4;

/**
 * `Lru`, laid out for the processor: an entry is a slot number, and what belongs to slot 5 stands at index 5 of a few
 * flat arrays. String keys are found through a hash table of our own (open addressing, linear probing, deletion by
 * backward shift: Knuth, The Art of Computer Programming 3, 6.4, Algorithm R); every other key through a Map.
 * The arrays are allocated for the whole capacity at once: about 45 bytes an entry.
 */
export class FastLru<K, V> {
  readonly #capacity: number;
  readonly #onEvict: LruOptions<K, V>['onEvict'];

  // #region layout
  /** Key at 2 × slot, value at 2 × slot + 1: one cache line holds both. */
  readonly #items: unknown[];
  /** Next newer slot at 2 × slot, next older at 2 × slot + 1. Slot `capacity` is the list's two ends in one. */
  readonly #links: Int32Array;
  /** Hash of the slot's key, so that eviction need not read the key again. */
  readonly #hashes: Int32Array;
  /** Hash at 2 × bucket, slot + 1 at 2 × bucket + 1; 0 is an empty bucket. At most half of it is used. */
  readonly #table: Int32Array;
  /** Slots of the keys that are no strings, and of strings that hash like too many others. Made when needed. */
  #others: Map<unknown, number> | undefined;
  // #endregion
  readonly #mask: number;
  /** Nobody outside can choose keys that share a bucket. */
  readonly #seed = (Math.random() * 2 ** 32) | 0;
  #wholeKeys = false;
  #size = 0;
  /** Slots from here on were never used. */
  #fresh = 0;
  /** The slot freed last; its link leads to the one freed before it. */
  #free = ABSENT;

  constructor(capacity: number, options: LruOptions<K, V> = {}) {
    if (!Number.isSafeInteger(capacity) || capacity < 1 || capacity > 2 ** 27) {
      throw new RangeError(`capacity must be a whole number from 1 to 2^27, not ${capacity}`);
    }
    const buckets = 2 ** Math.ceil(Math.log2(2 * capacity));
    this.#capacity = capacity;
    this.#onEvict = options.onEvict;
    this.#items = new Array(2 * capacity);
    this.#links = new Int32Array(2 * capacity + 2).fill(capacity, 2 * capacity);
    this.#hashes = new Int32Array(capacity);
    this.#table = new Int32Array(2 * buckets);
    this.#mask = 2 * buckets - 2;
  }

  get size(): number {
    return this.#size;
  }

  get(key: K): V | undefined {
    const slot = this.#find(key);
    if (slot === ABSENT) return undefined;
    this.#use(slot);
    return this.#items[2 * slot + 1] as V;
  }

  peek(key: K): V | undefined {
    const slot = this.#find(key);
    return slot === ABSENT ? undefined : (this.#items[2 * slot + 1] as V);
  }

  has(key: K): boolean {
    return this.#find(key) !== ABSENT;
  }

  set(key: K, value: V): void {
    const hash = typeof key === 'string' ? this.#hash(key) : 0;
    const present = this.#findHashed(key, hash);
    if (present !== ABSENT) {
      this.#items[2 * present + 1] = value;
      this.#use(present);
      return;
    }
    if (this.#size < this.#capacity) {
      this.#fill(this.#unusedSlot(), key, value, hash);
      this.#size++;
      return;
    }
    const slot = this.#links[2 * this.#capacity] as number;
    const evictedKey = this.#items[2 * slot] as K;
    const evictedValue = this.#items[2 * slot + 1] as V;
    this.#forget(evictedKey, slot);
    this.#unlink(slot);
    this.#fill(slot, key, value, hash);
    this.#onEvict?.(evictedKey, evictedValue);
  }

  delete(key: K): boolean {
    const slot = this.#find(key);
    if (slot === ABSENT) return false;
    this.#forget(key, slot);
    this.#unlink(slot);
    this.#items[2 * slot] = undefined;
    this.#items[2 * slot + 1] = undefined;
    this.#links[2 * slot] = this.#free;
    this.#free = slot;
    this.#size--;
    return true;
  }

  #unusedSlot(): number {
    if (this.#free === ABSENT) return this.#fresh++;
    const slot = this.#free;
    this.#free = this.#links[2 * slot] as number;
    return slot;
  }

  #fill(slot: number, key: K, value: V, hash: number): void {
    this.#items[2 * slot] = key;
    this.#items[2 * slot + 1] = value;
    this.#append(slot);
    this.#insert(key, slot, hash);
  }

  // #region links
  #use(slot: number): void {
    const links = this.#links;
    const end = this.#capacity;
    const newer = links[2 * slot] as number;
    if (newer === end) return;
    const older = links[2 * slot + 1] as number;
    links[2 * newer + 1] = older;
    links[2 * older] = newer;
    this.#append(slot);
  }

  #append(slot: number): void {
    const links = this.#links;
    const end = this.#capacity;
    const newest = links[2 * end + 1] as number;
    links[2 * slot] = end;
    links[2 * slot + 1] = newest;
    links[2 * newest] = slot;
    links[2 * end + 1] = slot;
  }
  // #endregion

  #unlink(slot: number): void {
    const newer = this.#links[2 * slot] as number;
    const older = this.#links[2 * slot + 1] as number;
    this.#links[2 * newer + 1] = older;
    this.#links[2 * older] = newer;
  }

  #find(key: K): number {
    return this.#findHashed(key, typeof key === 'string' ? this.#hash(key) : 0);
  }

  // #region find
  #findHashed(key: K, hash: number): number {
    if (typeof key === 'string') {
      const table = this.#table;
      const mask = this.#mask;
      for (let at = (hash << 1) & mask; ; at = (at + 2) & mask) {
        const mark = table[at + 1] as number;
        if (mark === 0) break;
        if (table[at] === hash && this.#items[2 * mark - 2] === key) return mark - 1;
      }
    }
    return this.#others === undefined ? ABSENT : (this.#others.get(key) ?? ABSENT);
  }
  // #endregion

  #insert(key: K, slot: number, hash: number): void {
    this.#hashes[slot] = hash;
    if (typeof key === 'string' && this.#place(slot, hash)) return;
    if (typeof key === 'string' && !this.#wholeKeys) {
      this.#readWholeKeys();
    } else {
      this.#others ??= new Map();
      this.#others.set(key, slot);
    }
  }

  #place(slot: number, hash: number): boolean {
    const table = this.#table;
    const mask = this.#mask;
    let at = (hash << 1) & mask;
    for (let alike = 0; table[at + 1] !== 0; at = (at + 2) & mask) {
      if (table[at] === hash && ++alike === ALIKE) return false;
    }
    table[at] = hash;
    table[at + 1] = slot + 1;
    return true;
  }

  /** Once in a cache's life: the ends of its keys were too much alike. */
  #readWholeKeys(): void {
    this.#wholeKeys = true;
    this.#table.fill(0);
    for (let slot = this.#links[2 * this.#capacity] as number; slot !== this.#capacity; ) {
      const key = this.#items[2 * slot] as K;
      if (typeof key === 'string') this.#insert(key, slot, this.#hash(key));
      slot = this.#links[2 * slot] as number;
    }
  }

  #forget(key: K, slot: number): void {
    if (this.#others?.delete(key)) return;
    const mask = this.#mask;
    let at = ((this.#hashes[slot] as number) << 1) & mask;
    while (this.#table[at + 1] !== slot + 1) at = (at + 2) & mask;
    this.#empty(at);
  }

  // #region empty
  /** Moves back what stands behind the hole, so that no search stops at it too early. */
  #empty(hole: number): void {
    const table = this.#table;
    const mask = this.#mask;
    let at = (hole + 2) & mask;
    for (let mark = table[at + 1] as number; mark !== 0; mark = table[at + 1] as number) {
      const home = ((table[at] as number) << 1) & mask;
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        table[hole] = table[at] as number;
        table[hole + 1] = mark;
        hole = at;
      }
      at = (at + 2) & mask;
    }
    table[hole + 1] = 0;
  }
  // #endregion

  #hash(key: string): number {
    return this.#wholeKeys || key.length < 7 ? wholeHash(key, this.#seed) : tailHash(key, this.#seed);
  }
}

// #region hash
/** Of the length and the last seven characters: seven products that do not wait for one another. */
function tailHash(key: string, seed: number): number {
  const end = key.length;
  return mix(
    (seed + end) ^
      (Math.imul(key.charCodeAt(end - 1), 0x2c1b3c6d) + Math.imul(key.charCodeAt(end - 2), 0x297a2d39)) ^
      (Math.imul(key.charCodeAt(end - 3), 0x1b56c4e9) + Math.imul(key.charCodeAt(end - 4), 0x5bd1e995)) ^
      (Math.imul(key.charCodeAt(end - 5), 0x2545f491) + Math.imul(key.charCodeAt(end - 6), 0x7feb352d)) ^
      Math.imul(key.charCodeAt(end - 7), 0x31848bab),
  );
}

/** FNV-1a over all characters. */
function wholeHash(key: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return mix(hash);
}

/** The table uses the low bits: let every bit count there. */
function mix(hash: number): number {
  const folded = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return folded ^ (folded >>> 13);
}
// #endregion
