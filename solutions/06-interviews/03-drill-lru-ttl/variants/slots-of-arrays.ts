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

/** An entry is a slot number; the last slot is both ends of an order. */
function createOrder(capacity: number) {
  const older = new Int32Array(capacity + 1).fill(capacity);
  const newer = new Int32Array(capacity + 1).fill(capacity);
  const join = (from: number, to: number) => {
    newer[from] = to;
    older[to] = from;
  };
  return {
    oldest: () => newer[capacity] ?? capacity,
    append(slot: number): void {
      join(older[capacity] ?? capacity, slot);
      join(slot, capacity);
    },
    remove: (slot: number) => join(older[slot] ?? capacity, newer[slot] ?? capacity),
  };
}

export function createExpiringLru<K, V>({ capacity, ttlMs, now }: Options): ExpiringLru<K, V> {
  const slots = new Map<K, number>();
  const keys: K[] = [];
  const values: V[] = [];
  const deadlines = new Float64Array(capacity);
  const byUse = createOrder(capacity);
  const byAge = createOrder(capacity);
  const isExpired = (slot: number) => (deadlines[slot] ?? 0) <= now();

  /** A slot that is in no order: that of the key, a new one, or that of an entry which has to go. */
  function freeSlot(key: K): number {
    const own = slots.get(key);
    if (own === undefined && slots.size < capacity) return slots.size;
    const expired = byAge.oldest();
    const slot = own ?? (isExpired(expired) ? expired : byUse.oldest());
    if (own === undefined) slots.delete(keys[slot] as K);
    byUse.remove(slot);
    byAge.remove(slot);
    return slot;
  }

  return {
    get(key) {
      const slot = slots.get(key);
      if (slot === undefined || isExpired(slot)) return undefined;
      byUse.remove(slot);
      byUse.append(slot);
      return values[slot];
    },
    set(key, value) {
      const slot = freeSlot(key);
      slots.set(key, slot);
      keys[slot] = key;
      values[slot] = value;
      deadlines[slot] = now() + ttlMs;
      byUse.append(slot);
      byAge.append(slot);
    },
  };
}
