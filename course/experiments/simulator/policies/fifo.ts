import type { Cache } from './cache';
import { Ring } from './ring';

/** Evicts the key that came in first. A hit changes nothing. */
export class Fifo implements Cache {
  readonly #capacity: number;
  readonly #held: Uint8Array;
  readonly #byAge: Ring;

  constructor(capacity: number, distinct: number) {
    this.#capacity = capacity;
    this.#held = new Uint8Array(distinct);
    this.#byAge = new Ring(Math.min(capacity, distinct));
  }

  replay(keys: Int32Array): number {
    const held = this.#held;
    const byAge = this.#byAge;
    let misses = 0;
    for (const key of keys) {
      if (held[key]) continue;
      misses++;
      if (byAge.size === this.#capacity) held[byAge.shift()] = 0;
      held[key] = 1;
      byAge.push(key);
    }
    return misses;
  }
}
