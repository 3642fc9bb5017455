import type { Cache } from './cache';
import { Lists } from './lists';
import { Ring } from './ring';

/** Where a key is. */
const NOWHERE = 0;
const GHOST = 1;
const HELD = 2;

const ENOUGH_FOR_MAIN = 2;
const FREQUENCY_AT_MOST = 3;

/**
 * Three FIFO queues. A new key enters the small queue, a tenth of the cache: keys that are used once leave from there
 * without troubling the main queue. The ghost remembers keys that have left the small queue, without values: a key that it
 * remembers enters the main queue at once.
 *
 * J. Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023, with the bounds of libCacheSim.
 */
export class S3Fifo implements Cache {
  readonly #capacity: number;
  readonly #mainAtMost: number;
  readonly #ghostAtMost: number;
  readonly #small: Ring;
  readonly #main: Ring;
  /** Head: came last. A list, because a key may leave from its middle. */
  readonly #ghost: Lists;
  #ghostSize = 0;
  readonly #where: Uint8Array;
  /** Uses since the key came into its queue. */
  readonly #frequency: Uint8Array;

  constructor(capacity: number, distinct: number) {
    // In whole numbers: 0.9 × 10 is not 9 everywhere in floating point.
    this.#capacity = capacity;
    this.#mainAtMost = capacity - Math.floor(capacity / 10);
    this.#ghostAtMost = Math.floor((capacity * 9) / 10);
    this.#small = new Ring(Math.min(capacity, distinct));
    this.#main = new Ring(Math.min(capacity, distinct));
    this.#ghost = new Lists(distinct, 1);
    this.#where = new Uint8Array(distinct);
    this.#frequency = new Uint8Array(distinct);
  }

  replay(keys: Int32Array): number {
    const where = this.#where;
    const frequency = this.#frequency;
    let misses = 0;
    for (const key of keys) {
      const place = where[key];
      if (place === HELD) {
        const uses = frequency[key] as number;
        if (uses < FREQUENCY_AT_MOST) frequency[key] = uses + 1;
        continue;
      }
      misses++;
      this.#insert(key, place === GHOST);
    }
    return misses;
  }

  #insert(key: number, isRemembered: boolean): void {
    // Before an eviction: the key that it puts into the ghost may push this one out.
    if (isRemembered) {
      this.#ghost.remove(key);
      this.#ghostSize--;
    }
    if (this.#small.size + this.#main.size === this.#capacity) this.#evict();
    this.#where[key] = HELD;
    this.#frequency[key] = 0;
    if (isRemembered) this.#main.push(key);
    else this.#small.push(key);
  }

  #evict(): void {
    const isMainFull = this.#main.size > this.#mainAtMost;
    if (isMainFull || !this.#evictFromSmall()) this.#evictFromMain();
  }

  /** @returns false if all that was in the small queue has moved to the main queue */
  #evictFromSmall(): boolean {
    while (this.#small.size > 0) {
      const key = this.#small.shift();
      if ((this.#frequency[key] as number) < ENOUGH_FOR_MAIN) {
        this.#remember(key);
        return true;
      }
      this.#frequency[key] = 0;
      this.#main.push(key);
    }
    return false;
  }

  #evictFromMain(): void {
    while (true) {
      const key = this.#main.shift();
      const uses = this.#frequency[key] as number;
      if (uses === 0) {
        this.#where[key] = NOWHERE;
        return;
      }
      this.#frequency[key] = uses - 1;
      this.#main.push(key);
    }
  }

  #remember(key: number): void {
    if (this.#ghostAtMost === 0) {
      this.#where[key] = NOWHERE;
      return;
    }
    if (this.#ghostSize < this.#ghostAtMost) this.#ghostSize++;
    else this.#where[this.#ghost.removeTail(0)] = NOWHERE;
    this.#ghost.addHead(0, key);
    this.#where[key] = GHOST;
  }
}
