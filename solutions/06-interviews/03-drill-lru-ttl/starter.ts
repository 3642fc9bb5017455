export interface Options {
  /** The most entries at a time. */
  readonly capacity: number;
  /** How long a value lives after its `set` (ms). */
  readonly ttlMs: number;
  /** The time (ms). */
  readonly now: () => number;
}

export interface ExpiringLru<K, V> {
  /** The value; undefined when there is none, or when its time is over. */
  get(key: K): V | undefined;
  /** Stores the value. A new key in a full cache takes the place of an expired entry, else of the least recently used. */
  set(key: K, value: V): void;
}

/** Every call costs the same at any capacity. */
export function createExpiringLru<K, V>({ capacity, ttlMs, now }: Options): ExpiringLru<K, V> {
  throw new Error('not implemented');
}
