/** The next use of a key that is not used again. */
export const NEVER = 2 ** 31 - 1;

/**
 * The ceiling: evicts the key whose next use is furthest away. No policy that must put in every key it misses has fewer
 * misses. It must know of each request when its key comes next, so it is not a `Cache`.
 *
 * L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966.
 */
export class Belady {
  readonly #capacity: number;
  readonly #nextUse: Int32Array;
  /** The held keys; on top the one whose next use is furthest away. */
  readonly #heap: Int32Array;
  /** Where in the heap a key is; −1 if it is not held. */
  readonly #placeOf: Int32Array;
  #size = 0;

  constructor(capacity: number, distinct: number) {
    this.#capacity = capacity;
    this.#nextUse = new Int32Array(distinct);
    this.#heap = new Int32Array(Math.min(capacity, distinct));
    this.#placeOf = new Int32Array(distinct).fill(-1);
  }

  /** @param nextUses for each request the position at which its key comes again, or `NEVER` */
  replay(keys: Int32Array, nextUses: Int32Array): number {
    let misses = 0;
    for (let at = 0; at < keys.length; at++) {
      const key = keys[at] as number;
      this.#nextUse[key] = nextUses[at] as number;
      const place = this.#placeOf[key] as number;
      // Of the held keys, this one had the nearest next use: it can only rise.
      if (place >= 0) this.#rise(key, place);
      else {
        misses++;
        if (this.#size < this.#capacity) this.#rise(key, this.#size++);
        else this.#replaceTop(key);
      }
    }
    return misses;
  }

  #replaceTop(key: number): void {
    this.#placeOf[this.#heap[0] as number] = -1;
    this.#sink(key, 0);
  }

  #rise(key: number, from: number): void {
    const use = this.#nextUse[key] as number;
    let place = from;
    while (place > 0) {
      const above = (place - 1) >> 1;
      const other = this.#heap[above] as number;
      if ((this.#nextUse[other] as number) >= use) break;
      this.#set(place, other);
      place = above;
    }
    this.#set(place, key);
  }

  #sink(key: number, from: number): void {
    const use = this.#nextUse[key] as number;
    let place = from;
    while (true) {
      let below = 2 * place + 1;
      if (below >= this.#size) break;
      if (below + 1 < this.#size && this.#useAt(below + 1) > this.#useAt(below)) below++;
      if (this.#useAt(below) <= use) break;
      this.#set(place, this.#heap[below] as number);
      place = below;
    }
    this.#set(place, key);
  }

  #useAt(place: number): number {
    return this.#nextUse[this.#heap[place] as number] as number;
  }

  #set(place: number, key: number): void {
    this.#heap[place] = key;
    this.#placeOf[key] = place;
  }
}
