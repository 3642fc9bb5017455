import { type Access, type Policy, requireCapacity } from './policy';

/** Evicts any key, each as likely as the next. A hit changes nothing. */
export class Random<K> implements Policy<K> {
  readonly capacity: number;
  readonly #random: () => number;
  readonly #held = new Set<K>();
  readonly #slots: K[] = [];

  /** @param random a number in [0, 1); a seeded one makes the evictions repeatable */
  constructor(capacity: number, random: () => number) {
    this.capacity = requireCapacity(capacity);
    this.#random = random;
  }

  get size(): number {
    return this.#held.size;
  }

  access(key: K): Access<K> {
    if (this.#held.has(key)) return { hit: true };
    this.#held.add(key);
    if (this.#slots.length < this.capacity) {
      this.#slots.push(key);
      return { hit: false };
    }
    const slot = Math.floor(this.#random() * this.capacity);
    const evicted = this.#slots[slot] as K;
    this.#slots[slot] = key;
    this.#held.delete(evicted);
    return { hit: false, evicted };
  }
}
