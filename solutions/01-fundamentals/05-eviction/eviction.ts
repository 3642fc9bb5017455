import { type Access, List, type Node, type Policy, requireCapacity } from '#kit/policies';

interface Counted<K> {
  readonly key: K;
  /** Uses since the key came in, the first one included. */
  readonly count: number;
}

/**
 * Least frequently used: evicts the key with the fewest uses, and of several such keys the key used longest ago. A new
 * key has one use. Uses are counted in full as long as the key stays, and forgotten when it goes. An access costs the
 * same at any capacity.
 */
export class Lfu<K> implements Policy<K> {
  readonly capacity: number;
  readonly #nodes = new Map<K, Node<Counted<K>>>();
  /** For each count that some key has, its keys: used last at the head. Empty lists are dropped. */
  readonly #byCount = new Map<number, List<Counted<K>>>();
  #leastCount = 1;

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  /** The number of keys. */
  get size(): number {
    return this.#nodes.size;
  }

  /** One use of `key`. A miss evicts a key if the cache is full, and then puts `key` in. */
  // #region lfu
  access(key: K): Access<K> {
    const node = this.#nodes.get(key);
    if (node) {
      this.#take(node);
      this.#put({ key, count: node.value.count + 1 });
      return { hit: true };
    }
    // Before the new key is in: with a count of 1 it would evict itself.
    const evicted = this.#makeRoom();
    this.#put({ key, count: 1 });
    this.#leastCount = 1;
    return { hit: false, evicted };
  }

  #makeRoom(): K | undefined {
    const victim = this.#byCount.get(this.#leastCount)?.tail;
    if (!victim || this.size < this.capacity) return;
    this.#take(victim);
    this.#nodes.delete(victim.value.key);
    return victim.value.key;
  }

  #put(entry: Counted<K>): void {
    const list = this.#byCount.get(entry.count) ?? new List();
    this.#byCount.set(entry.count, list);
    this.#nodes.set(entry.key, list.addHead(entry));
  }
  // #endregion

  // #region least
  #take(node: Node<Counted<K>>): void {
    const { count } = node.value;
    const list = this.#byCount.get(count);
    list?.remove(node);
    if (!list?.isEmpty) return;
    this.#byCount.delete(count);
    // At a hit the key that empties the lowest list goes to the next count. After an eviction the new key sets the
    // least count to 1. So it is never searched for.
    if (this.#leastCount === count) this.#leastCount++;
  }
  // #endregion
}

interface Visited<K> {
  readonly key: K;
  visited: boolean;
}

/**
 * SIEVE: a queue in order of arrival, a bit for each key, and a hand. A new key comes in at the head, its bit not set. A
 * hit sets the bit and moves nothing. To evict, the hand walks from the tail towards the head, and after the head comes
 * the tail again. It clears each bit that is set, and evicts the first key whose bit is not set. There it stays, on the
 * next key towards the head. If it evicted the head, it begins at the tail again. On average an access costs the same at
 * any capacity.
 */
export class Sieve<K> implements Policy<K> {
  readonly capacity: number;
  readonly #nodes = new Map<K, Node<Visited<K>>>();
  /** Head: came in last. Tail: came in first. */
  readonly #queue = new List<Visited<K>>();
  /** Where the next eviction begins; none means at the tail. */
  #hand: Node<Visited<K>> | undefined;

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  /** The number of keys. */
  get size(): number {
    return this.#nodes.size;
  }

  /** One use of `key`. A miss evicts a key if the cache is full, and then puts `key` in. */
  // #region sieve
  access(key: K): Access<K> {
    const node = this.#nodes.get(key);
    if (node) {
      node.value.visited = true;
      return { hit: true };
    }
    const evicted = this.#makeRoom();
    this.#nodes.set(key, this.#queue.addHead({ key, visited: false }));
    return { hit: false, evicted };
  }

  #makeRoom(): K | undefined {
    if (this.size < this.capacity) return;
    let node = this.#hand ?? this.#queue.tail;
    while (node?.value.visited) {
      node.value.visited = false;
      node = node.towardsHead ?? this.#queue.tail;
    }
    if (!node) return;
    this.#hand = node.towardsHead;
    this.#queue.remove(node);
    this.#nodes.delete(node.value.key);
    return node.value.key;
  }
  // #endregion
}
