import type { Cache } from './cache';
import { Lists } from './lists';

/** Evicts the key that was used longest ago. */
export class Lru implements Cache {
  readonly #capacity: number;
  readonly #held: Uint8Array;
  readonly #byUse: Lists;
  #size = 0;

  constructor(capacity: number, distinct: number) {
    this.#capacity = capacity;
    this.#held = new Uint8Array(distinct);
    this.#byUse = new Lists(distinct, 1);
  }

  replay(keys: Int32Array): number {
    const held = this.#held;
    const byUse = this.#byUse;
    let misses = 0;
    for (const key of keys) {
      if (held[key]) byUse.remove(key);
      else {
        misses++;
        if (this.#size < this.#capacity) this.#size++;
        else held[byUse.removeTail(0)] = 0;
        held[key] = 1;
      }
      byUse.addHead(0, key);
    }
    return misses;
  }
}
