import type { Cache } from './cache';
import { Lists } from './lists';

/**
 * Evicts the key that was used least often since it came in; among equals, the one that was used longest ago. Counts do
 * not age, and are forgotten with the key.
 *
 * Keys of one count share a bucket, and the buckets are in order: every operation takes the same time.
 */
export class Lfu implements Cache {
  readonly #capacity: number;
  readonly #held: Uint8Array;
  /** One list for each bucket. Head: used last. */
  readonly #keys: Lists;
  readonly #bucketOf: Int32Array;
  /** Head: the highest count. */
  readonly #buckets: Lists;
  readonly #countOf: Float64Array;
  readonly #sizeOf: Int32Array;
  /** Buckets that hold nothing: a stack. */
  readonly #free: Int32Array;
  #freeSize: number;
  #size = 0;

  constructor(capacity: number, distinct: number) {
    // A key that moves to a new bucket may leave the last one for a moment.
    const buckets = Math.min(capacity, distinct) + 1;
    this.#capacity = capacity;
    this.#held = new Uint8Array(distinct);
    this.#keys = new Lists(distinct, buckets);
    this.#bucketOf = new Int32Array(distinct);
    this.#buckets = new Lists(buckets, 1);
    this.#countOf = new Float64Array(buckets + 1);
    this.#sizeOf = new Int32Array(buckets);
    this.#free = new Int32Array(buckets).map((_, at) => at);
    this.#freeSize = buckets;
  }

  replay(keys: Int32Array): number {
    const held = this.#held;
    let misses = 0;
    for (const key of keys) {
      if (held[key]) this.#hit(key);
      else {
        misses++;
        if (this.#size < this.#capacity) this.#size++;
        else held[this.#evict()] = 0;
        held[key] = 1;
        this.#join(key, this.#bucketFor(1, this.#buckets.tail(0)));
      }
    }
    return misses;
  }

  #hit(key: number): void {
    const bucket = this.#bucketOf[key] as number;
    const count = (this.#countOf[bucket] as number) + 1;
    const ahead = this.#buckets.ahead(bucket);
    const isAlone = this.#sizeOf[bucket] === 1;
    // The anchor counts 0: no key has that count.
    if (isAlone && this.#countOf[ahead] !== count) {
      this.#countOf[bucket] = count;
      return;
    }
    this.#keys.remove(key);
    this.#join(key, this.#bucketFor(count, ahead));
    this.#leave(bucket);
  }

  #evict(): number {
    const bucket = this.#buckets.tail(0);
    const key = this.#keys.removeTail(bucket);
    this.#leave(bucket);
    return key;
  }

  #join(key: number, bucket: number): void {
    this.#keys.addHead(bucket, key);
    this.#bucketOf[key] = bucket;
    this.#sizeOf[bucket] = (this.#sizeOf[bucket] as number) + 1;
  }

  #leave(bucket: number): void {
    const left = (this.#sizeOf[bucket] as number) - 1;
    this.#sizeOf[bucket] = left;
    if (left > 0) return;
    this.#buckets.remove(bucket);
    this.#free[this.#freeSize++] = bucket;
  }

  /** @param place the bucket of this count, if there is one; else the bucket ahead of its place, or the anchor */
  #bucketFor(count: number, place: number): number {
    if (this.#countOf[place] === count) return place;
    const bucket = this.#free[--this.#freeSize] as number;
    this.#countOf[bucket] = count;
    this.#buckets.insertBehind(place, bucket);
    return bucket;
  }
}
