import { type Access, type Policy, requireCapacity } from '#kit/policies';

/**
 * Least frequently used: evicts the key with the fewest uses, and of several such keys the one used longest ago.
 *
 * A key counts from 1 when it comes in. Its count is forgotten when it is evicted, and never fades while it stays.
 * Every access takes the same time, however many keys there are: one list of keys for each count, as in
 * Shah, Mitra, Matani, "An O(1) algorithm for implementing the LFU cache eviction scheme", 2010.
 */
export class Lfu<K> implements Policy<K> {
  readonly capacity: number;

  /**
   * @param capacity keys
   * @throws RangeError unless it is a whole number of 1 or more
   */
  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  /** The keys it holds now. */
  get size(): number {
    throw new Error('not implemented');
  }

  /** One use of `key`. A miss evicts first, if the cache is full, and then puts `key` in. */
  access(key: K): Access<K> {
    throw new Error('not implemented');
  }
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

  /**
   * @param capacity keys
   * @throws RangeError unless it is a whole number of 1 or more
   */
  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  /** The keys it holds now. */
  get size(): number {
    throw new Error('not implemented');
  }

  /** One use of `key`. A miss evicts first, if the cache is full, and then puts `key` in. */
  access(key: K): Access<K> {
    throw new Error('not implemented');
  }
}
