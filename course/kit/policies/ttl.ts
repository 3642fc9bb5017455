import { List, type Node } from './list';
import { type Access, type Policy, requireCapacity } from './policy';

interface Entry<K> {
  readonly key: K;
  readonly expiresAt: number;
}

/**
 * Expiry with one lifetime for all keys: a key that outlived it is a miss. That alone bounds nothing, so a full cache
 * evicts the key that expires first. With one lifetime, this is the key that came in first: FIFO, with misses added.
 */
export class Ttl<K> implements Policy<K> {
  readonly capacity: number;
  readonly #ttl: number;
  readonly #now: () => number;
  readonly #nodes = new Map<K, Node<Entry<K>>>();
  /** Head: expires last. Tail: expires first. */
  readonly #byExpiry = new List<Entry<K>>();

  /**
   * @param ttl in the unit of `now`
   * @param now milliseconds, or the number of the request: whatever never goes back
   */
  constructor(capacity: number, { ttl, now }: { ttl: number; now: () => number }) {
    this.capacity = requireCapacity(capacity);
    this.#ttl = ttl;
    this.#now = now;
  }

  /** Counts a key that has expired until it is asked for or evicted. */
  get size(): number {
    return this.#nodes.size;
  }

  access(key: K): Access<K> {
    const now = this.#now();
    const node = this.#nodes.get(key);
    if (node && node.value.expiresAt > now) return { hit: true };
    if (node) this.#byExpiry.remove(node);
    const evicted = node ? undefined : this.#makeRoom();
    this.#nodes.set(key, this.#byExpiry.addHead({ key, expiresAt: now + this.#ttl }));
    return { hit: false, evicted };
  }

  #makeRoom(): K | undefined {
    const first = this.#byExpiry.tail;
    if (!first || this.size < this.capacity) return;
    this.#byExpiry.remove(first);
    this.#nodes.delete(first.value.key);
    return first.value.key;
  }
}
