import type { Cache } from './cache';
import { Lists } from './lists';

/** Where a key is. */
const WINDOW = 0;
const PROBATION = 1;
const PROTECTED = 2;
const NOWHERE = 3;

const COUNTED_AT_MOST = 10;

/**
 * A small LRU window, and a main part that a key enters only if it was used more often than the key that would have to
 * leave. Uses are counted for all keys, held or not. When 10 requests for each entry of the cache are counted, all counts are
 * halved, and the number of counted requests too. The counts are exact; Caffeine keeps a sketch of 4 bits, with other misses
 * (−7 to +12 %).
 *
 * G. Einziger, R. Friedman, B. Manes, "TinyLFU: a highly efficient cache admission policy", ACM ToS 13(4), 2017.
 */
export class WTinyLfu implements Cache {
  readonly #capacity: number;
  readonly #windowAtMost: number;
  readonly #protectedAtMost: number;
  /** Head: used last. */
  readonly #parts: Lists;
  readonly #sizes = new Int32Array(3);
  readonly #where: Uint8Array;
  readonly #counts: Uint32Array;
  /** The age at which a count was last halved: all at once would take too long. */
  readonly #ages: Uint32Array;
  #age = 0;
  #untilAgeing: number;

  constructor(capacity: number, distinct: number) {
    const main = Math.floor((capacity * 99) / 100);
    this.#capacity = capacity;
    this.#windowAtMost = capacity - main;
    this.#protectedAtMost = Math.floor((main * 8) / 10);
    this.#parts = new Lists(distinct, 3);
    this.#where = new Uint8Array(distinct).fill(NOWHERE);
    this.#counts = new Uint32Array(distinct);
    this.#ages = new Uint32Array(distinct);
    this.#untilAgeing = capacity * COUNTED_AT_MOST;
  }

  replay(keys: Int32Array): number {
    let misses = 0;
    for (const key of keys) {
      this.#count(key);
      const part = this.#where[key] as number;
      if (part !== NOWHERE) this.#hit(key, part);
      else {
        misses++;
        this.#add(WINDOW, key);
        if (this.#size(WINDOW) > this.#windowAtMost) this.#leaveWindow();
      }
    }
    return misses;
  }

  #hit(key: number, part: number): void {
    this.#remove(key);
    this.#add(part === WINDOW ? WINDOW : PROTECTED, key);
    if (this.#size(PROTECTED) > this.#protectedAtMost) this.#move(this.#parts.tail(PROTECTED), PROBATION);
  }

  /** The key that the window gives up takes the place of another one in the main part, or is evicted. */
  #leaveWindow(): void {
    const candidate = this.#parts.tail(WINDOW);
    this.#move(candidate, PROBATION);
    if (this.#size(WINDOW) + this.#size(PROBATION) + this.#size(PROTECTED) <= this.#capacity) return;
    const victim = this.#parts.tail(PROBATION);
    this.#remove(this.#uses(candidate) > this.#uses(victim) ? victim : candidate);
  }

  #count(key: number): void {
    this.#counts[key] = this.#uses(key) + 1;
    this.#untilAgeing--;
    if (this.#untilAgeing > 0) return;
    this.#untilAgeing = (this.#capacity * COUNTED_AT_MOST) / 2;
    this.#age++;
  }

  #uses(key: number): number {
    const missed = this.#age - (this.#ages[key] as number);
    if (missed === 0) return this.#counts[key] as number;
    const uses = missed > 31 ? 0 : (this.#counts[key] as number) >>> missed;
    this.#counts[key] = uses;
    this.#ages[key] = this.#age;
    return uses;
  }

  #size(part: number): number {
    return this.#sizes[part] as number;
  }

  #move(key: number, part: number): void {
    this.#remove(key);
    this.#add(part, key);
  }

  #add(part: number, key: number): void {
    this.#parts.addHead(part, key);
    this.#where[key] = part;
    this.#sizes[part] = this.#size(part) + 1;
  }

  #remove(key: number): void {
    const part = this.#where[key] as number;
    this.#parts.remove(key);
    this.#where[key] = NOWHERE;
    this.#sizes[part] = this.#size(part) - 1;
  }
}
