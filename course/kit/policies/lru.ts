import { List, type Node } from './list';
import { type Access, type Policy, requireCapacity } from './policy';

/** Evicts the key that was used longest ago. Every hit moves its key to the head. */
export class Lru<K> implements Policy<K> {
  readonly capacity: number;
  readonly #nodes = new Map<K, Node<K>>();
  /** Head: used last. Tail: used longest ago. */
  readonly #byUse = new List<K>();

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  get size(): number {
    return this.#nodes.size;
  }

  access(key: K): Access<K> {
    const node = this.#nodes.get(key);
    if (node) {
      this.#byUse.remove(node);
      this.#nodes.set(key, this.#byUse.addHead(key));
      return { hit: true };
    }
    const evicted = this.#makeRoom();
    this.#nodes.set(key, this.#byUse.addHead(key));
    return { hit: false, evicted };
  }

  #makeRoom(): K | undefined {
    const oldest = this.#byUse.tail;
    if (!oldest || this.size < this.capacity) return;
    this.#byUse.remove(oldest);
    this.#nodes.delete(oldest.value);
    return oldest.value;
  }
}
