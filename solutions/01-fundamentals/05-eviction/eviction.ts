import { type Access, List, type Node, type Policy, requireCapacity } from '#kit/policies';

interface Counted<K> {
  readonly key: K;
  /** Uses since the key came in, the first one included. */
  readonly count: number;
}

/**
 * Least frequently used: evicts the key with the fewest uses, and of several such keys the one used longest ago.
 *
 * A key counts from 1 when it comes in. Its count is forgotten when it is evicted, and never fades while it stays.
 * Every access takes the same time, however many keys there are: one list of keys for each count, as in
 * Shah, Mitra, Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010.
 */
export class Lfu<K> implements Policy<K> {
  readonly capacity: number;
  readonly #nodes = new Map<K, Node<Counted<K>>>();
  /** For each count that some key has, its keys: used last at the head. Empty lists are dropped. */
  readonly #byCount = new Map<number, List<Counted<K>>>();
  #leastCount = 1;

  /**
   * @param capacity keys
   * @throws RangeError unless it is a whole number of 1 or more
   */
  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  /** The keys it holds now. */
  get size(): number {
    return this.#nodes.size;
  }

  /** One use of `key`. A miss evicts first, if the cache is full, and then puts `key` in. */
  // #region lfu
  access(key: K): Access<K> {
    const node = this.#nodes.get(key);
    if (node) {
      this.#take(node);
      this.#put({ key, count: node.value.count + 1 });
      return { hit: true };
    }
    // The victim is chosen before the newcomer is in: with a count of 1 it would be its own victim.
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
    // Right on a hit: the key that empties the lowest list goes to the very next count. After an eviction
    // the newcomer sets it to 1. So the least count is never searched for.
    if (this.#leastCount === count) this.#leastCount++;
  }
  // #endregion
}

interface Visited<K> {
  readonly key: K;
  visited: boolean;
}

/**
 * SIEVE: a queue in order of arrival, one bit for each key, and a hand.
 *
 * A key comes in at the head, not visited. A hit sets its bit and moves nothing. To evict, the hand walks from where
 * it stopped towards the head, and after the head comes the tail again; the first time it starts at the tail. It
 * clears the bits that are set, and evicts the first key whose bit is not set. It stays there, on the next key towards
 * the head; if the victim was the head, the next eviction starts at the tail, not at the newcomer. The keys that it
 * spared keep their places.
 *
 * Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024, algorithm 1.
 */
export class Sieve<K> implements Policy<K> {
  readonly capacity: number;
  readonly #nodes = new Map<K, Node<Visited<K>>>();
  /** Head: came in last. Tail: came in first. */
  readonly #queue = new List<Visited<K>>();
  /** Where the next eviction begins; none means at the tail. */
  #hand: Node<Visited<K>> | undefined;

  /**
   * @param capacity keys
   * @throws RangeError unless it is a whole number of 1 or more
   */
  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  /** The keys it holds now. */
  get size(): number {
    return this.#nodes.size;
  }

  /** One use of `key`. A miss evicts first, if the cache is full, and then puts `key` in. */
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
