export interface Options {
  /** How many entries the cache may hold. */
  readonly capacity: number;
  /** How long a value lives after its `set` (ms). */
  readonly ttlMs: number;
  /** The clock (ms). */
  readonly now: () => number;
}

export interface ExpiringLru<K, V> {
  /** The value; undefined when there is none, or when it has expired. */
  get(key: K): V | undefined;
  /** Stores the value. A new key in a full cache takes the place of an expired entry, else of the least recently used. */
  set(key: K, value: V): void;
}

/** Every call takes constant time, at any capacity. */
export function createExpiringLru<K, V>({ capacity, ttlMs, now }: Options): ExpiringLru<K, V> {
  throw new Error('not implemented');
}
