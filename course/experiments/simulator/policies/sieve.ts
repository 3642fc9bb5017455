import type { Cache } from './cache';
import { Lists } from './lists';

/**
 * A hit marks its key as visited and moves nothing. A hand goes from the tail to the head, takes marks away, evicts the
 * first key without a mark, and stays there.
 *
 * Y. Zhang et al., "SIEVE is simpler than LRU", NSDI 2024.
 */
export class Sieve implements Cache {
  readonly #capacity: number;
  readonly #held: Uint8Array;
  readonly #visited: Uint8Array;
  /** Head: came in last. */
  readonly #byAge: Lists;
  /** Where the next eviction begins; at the anchor it begins at the tail. */
  #hand: number;
  #size = 0;

  constructor(capacity: number, distinct: number) {
    this.#capacity = capacity;
    this.#held = new Uint8Array(distinct);
    this.#visited = new Uint8Array(distinct);
    this.#byAge = new Lists(distinct, 1);
    this.#hand = this.#byAge.anchor(0);
  }

  replay(keys: Int32Array): number {
    const held = this.#held;
    let misses = 0;
    for (const key of keys) {
      if (held[key]) {
        this.#visited[key] = 1;
        continue;
      }
      misses++;
      if (this.#size < this.#capacity) this.#size++;
      else held[this.#evict()] = 0;
      held[key] = 1;
      this.#visited[key] = 0;
      this.#byAge.addHead(0, key);
    }
    return misses;
  }

  #evict(): number {
    const byAge = this.#byAge;
    const anchor = byAge.anchor(0);
    let key = this.#hand === anchor ? byAge.tail(0) : this.#hand;
    while (this.#visited[key]) {
      this.#visited[key] = 0;
      key = byAge.ahead(key);
      if (key === anchor) key = byAge.tail(0);
    }
    this.#hand = byAge.ahead(key);
    byAge.remove(key);
    return key;
  }
}
