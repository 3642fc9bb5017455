import { type Access, type Policy, requireCapacity } from './policy';

/** Evicts the key that came in first. A hit changes nothing. */
export class Fifo<K> implements Policy<K> {
  readonly capacity: number;
  readonly #held = new Set<K>();
  /** A ring: once it is full, the oldest key is the one about to be overwritten. */
  readonly #ring: K[] = [];
  #oldest = 0;

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  get size(): number {
    return this.#held.size;
  }

  access(key: K): Access<K> {
    if (this.#held.has(key)) return { hit: true };
    this.#held.add(key);
    if (this.#ring.length < this.capacity) {
      this.#ring.push(key);
      return { hit: false };
    }
    const evicted = this.#ring[this.#oldest] as K;
    this.#ring[this.#oldest] = key;
    this.#oldest = (this.#oldest + 1) % this.capacity;
    this.#held.delete(evicted);
    return { hit: false, evicted };
  }
}
