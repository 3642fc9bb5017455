import type { LruOptions } from './lru';

const ABSENT = -1;
/** So many keys of one mark stand in the table; what comes after them goes to the Map. */
const ALIKE = 4;
/** Keys shorter than this are hashed whole. */
const TAIL = 7;

/**
 * `Lru`, laid out for the processor: an entry is a slot number, and what belongs to slot 5 stands at index 5 of a few
 * flat arrays, allocated for the whole capacity at once. String keys are found through a hash table of our own (open
 * addressing, linear probing, deletion by shifting back: Knuth, The Art of Computer Programming 3, 6.4, Algorithm R);
 * every other key through a Map. The methods are `private` and not `#private` because V8 checks the latter at each call.
 */
export class FastLru<K, V> {
  readonly #capacity: number;
  readonly #onEvict: LruOptions<K, V>['onEvict'];

  // #region layout
  /** Key at 2 × slot, value at 2 × slot + 1: one cache line holds both. */
  readonly #items: unknown[];
  /** Next newer slot at 2 × slot, next older at 2 × slot + 1. Slot `capacity` is both ends of the list. */
  readonly #links: Int32Array;
  /** The hash of the key in each slot: its low bits choose the bucket where the search begins. */
  readonly #hashes: Int32Array;
  /** A bucket holds slot + 1 in its low bits and the hash in the others; 0 is an empty one. Two fifths full at most. */
  readonly #table: Int32Array;
  /** Slots of the keys that are no strings, and of strings that hash like too many others. Made when needed. */
  #others: Map<K, number> | undefined;
  // #endregion
  readonly #bucketBits: number;
  readonly #slotBits: number;
  /** Which keys share a bucket differs from cache to cache. */
  readonly #seed = (Math.random() * 2 ** 32) | 0;
  #wholeKeys = false;
  #size = 0;
  /** Slots from here on were never used. */
  #fresh = 0;
  /** The slot freed last; its link leads to the one freed before it. */
  #free = ABSENT;

  /**
   * @param capacity entries, a whole number from 1 to 2^27
   * @throws {RangeError} for any other capacity
   */
  constructor(capacity: number, options: LruOptions<K, V> = {}) {
    if (!Number.isSafeInteger(capacity) || capacity < 1 || capacity > 2 ** 27) {
      throw new RangeError(`capacity must be a whole number from 1 to 2^27, not ${capacity}`);
    }
    this.#capacity = capacity;
    this.#onEvict = options.onEvict;
    this.#bucketBits = powerOfTwo(2.5 * capacity) - 1;
    this.#slotBits = powerOfTwo(capacity + 1) - 1;
    this.#items = new Array(2 * capacity);
    this.#links = new Int32Array(2 * capacity + 2).fill(capacity, 2 * capacity);
    this.#hashes = new Int32Array(capacity);
    this.#table = new Int32Array(this.#bucketBits + 1);
  }

  get size(): number {
    return this.#size;
  }

  get(key: K): V | undefined {
    // As find() does, without the call: this is the path that counts.
    const slot = typeof key === 'string' ? this.findString(key, this.hash(key)) : this.findOther(key);
    if (slot === ABSENT) return undefined;
    this.use(slot);
    return this.#items[2 * slot + 1] as V;
  }

  peek(key: K): V | undefined {
    const slot = this.find(key);
    return slot === ABSENT ? undefined : (this.#items[2 * slot + 1] as V);
  }

  has(key: K): boolean {
    return this.find(key) !== ABSENT;
  }

  set(key: K, value: V): void {
    const hash = typeof key === 'string' ? this.hash(key) : 0;
    const present = typeof key === 'string' ? this.findString(key, hash) : this.findOther(key);
    if (present !== ABSENT) {
      this.#items[2 * present + 1] = value;
      this.use(present);
      return;
    }
    if (this.#size < this.#capacity) {
      this.#size++;
      this.fill(this.unusedSlot(), key, value, hash);
      return;
    }
    const slot = this.#links[2 * this.#capacity] as number;
    const evictedKey = this.#items[2 * slot] as K;
    const evictedValue = this.#items[2 * slot + 1] as V;
    this.forget(evictedKey, slot);
    this.unlink(slot);
    this.fill(slot, key, value, hash);
    this.#onEvict?.(evictedKey, evictedValue);
  }

  delete(key: K): boolean {
    const slot = this.find(key);
    if (slot === ABSENT) return false;
    this.forget(key, slot);
    this.unlink(slot);
    this.#items[2 * slot] = undefined;
    this.#items[2 * slot + 1] = undefined;
    this.#links[2 * slot] = this.#free;
    this.#free = slot;
    this.#size--;
    return true;
  }

  private unusedSlot(): number {
    if (this.#free === ABSENT) return this.#fresh++;
    const slot = this.#free;
    this.#free = this.#links[2 * slot] as number;
    return slot;
  }

  private fill(slot: number, key: K, value: V, hash: number): void {
    this.#items[2 * slot] = key;
    this.#items[2 * slot + 1] = value;
    this.append(slot);
    this.insert(key, slot, hash);
  }

  // #region links
  private use(slot: number): void {
    const links = this.#links;
    const newer = links[2 * slot] as number;
    if (newer === this.#capacity) return;
    const older = links[2 * slot + 1] as number;
    links[2 * newer + 1] = older;
    links[2 * older] = newer;
    this.append(slot);
  }

  private append(slot: number): void {
    const links = this.#links;
    const ends = this.#capacity;
    const newest = links[2 * ends + 1] as number;
    links[2 * slot] = ends;
    links[2 * slot + 1] = newest;
    links[2 * newest] = slot;
    links[2 * ends + 1] = slot;
  }
  // #endregion

  private unlink(slot: number): void {
    const links = this.#links;
    const newer = links[2 * slot] as number;
    const older = links[2 * slot + 1] as number;
    links[2 * newer + 1] = older;
    links[2 * older] = newer;
  }

  private find(key: K): number {
    return typeof key === 'string' ? this.findString(key, this.hash(key)) : this.findOther(key);
  }

  // #region find
  private findString(key: K & string, hash: number): number {
    const table = this.#table;
    const items = this.#items;
    const bucketBits = this.#bucketBits;
    const slotBits = this.#slotBits;
    for (let at = hash & bucketBits; ; at = (at + 1) & bucketBits) {
      const mark = table[at] as number;
      if (mark === 0) return this.findOther(key);
      // The key itself, far away in memory, is read only where the other bits of the hash agree.
      if (((mark ^ hash) & ~slotBits) === 0) {
        const slot = (mark & slotBits) - 1;
        if (items[2 * slot] === key) return slot;
      }
    }
  }
  // #endregion

  private findOther(key: K): number {
    return this.#others === undefined ? ABSENT : (this.#others.get(key) ?? ABSENT);
  }

  private insert(key: K, slot: number, hash: number): void {
    if (typeof key === 'string') {
      this.#hashes[slot] = hash;
      if (this.place(slot, hash)) return;
      if (!this.#wholeKeys) {
        this.readWholeKeys();
        return;
      }
    }
    this.#others ??= new Map();
    this.#others.set(key, slot);
  }

  private place(slot: number, hash: number): boolean {
    const table = this.#table;
    const bucketBits = this.#bucketBits;
    const slotBits = this.#slotBits;
    let at = hash & bucketBits;
    let alike = 0;
    for (let mark = table[at] as number; mark !== 0; mark = table[at] as number) {
      if (((mark ^ hash) & ~slotBits) === 0 && ++alike === ALIKE) return false;
      at = (at + 1) & bucketBits;
    }
    table[at] = (hash & ~slotBits) | (slot + 1);
    return true;
  }

  /** Once in a cache's life, when the ends of its keys turn out to be alike: hashes all of them anew. */
  private readWholeKeys(): void {
    this.#wholeKeys = true;
    this.#table.fill(0);
    for (let slot = this.#links[2 * this.#capacity] as number; slot !== this.#capacity; ) {
      const key = this.#items[2 * slot] as K;
      if (typeof key === 'string') this.insert(key, slot, this.hash(key));
      slot = this.#links[2 * slot] as number;
    }
  }

  private forget(key: K, slot: number): void {
    if (this.#others?.delete(key)) return;
    const hash = this.#hashes[slot] as number;
    const mark = (hash & ~this.#slotBits) | (slot + 1);
    let at = hash & this.#bucketBits;
    while (this.#table[at] !== mark) at = (at + 1) & this.#bucketBits;
    this.empty(at);
  }

  // #region empty
  /** Moves back the entries behind the hole that began their search before it: no mark of the deleted one remains. */
  private empty(hole: number): void {
    const table = this.#table;
    const bucketBits = this.#bucketBits;
    let at = (hole + 1) & bucketBits;
    for (let mark = table[at] as number; mark !== 0; mark = table[at] as number) {
      const home = this.#hashes[(mark & this.#slotBits) - 1] as number;
      if (((at - home) & bucketBits) >= ((at - hole) & bucketBits)) {
        table[hole] = mark;
        hole = at;
      }
      at = (at + 1) & bucketBits;
    }
    table[hole] = 0;
  }
  // #endregion

  private hash(key: string): number {
    return this.#wholeKeys || key.length < TAIL ? wholeHash(key, this.#seed) : tailHash(key, this.#seed);
  }
}

// #region hash
/** Of the length and the last seven characters, in products that do not wait for one another. */
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

/** Of every character: FNV-1a. */
function wholeHash(key: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  return mix(hash);
}

/** The bucket is chosen by the low bits: let all the others count there. */
function mix(hash: number): number {
  const folded = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return folded ^ (folded >>> 13);
}
// #endregion

function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(atLeast));
}
