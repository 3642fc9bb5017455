import { type Access, type Policy, requireCapacity } from '#kit/policies';

/**
 * Least frequently used: evicts the key with the fewest uses, and of several such keys the key used longest ago. A new
 * key has one use. Uses are counted in full as long as the key stays, and forgotten when it goes. An access costs the
 * same at any capacity.
 */
export class Lfu<K> implements Policy<K> {
  readonly capacity: number;

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  /** The number of keys. */
  get size(): number {
    throw new Error('not implemented');
  }

  /** One use of `key`. A miss evicts a key if the cache is full, and then puts `key` in. */
  access(key: K): Access<K> {
    throw new Error('not implemented');
  }
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

  constructor(capacity: number) {
    this.capacity = requireCapacity(capacity);
  }

  /** The number of keys. */
  get size(): number {
    throw new Error('not implemented');
  }

  /** One use of `key`. A miss evicts a key if the cache is full, and then puts `key` in. */
  access(key: K): Access<K> {
    throw new Error('not implemented');
  }
}
