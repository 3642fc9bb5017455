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

interface Entry<K, V> {
  readonly value: V;
  readonly expiresAt: number;
  used: Link<K>;
  readonly written: Link<K>;
}

/** Every call takes constant time, at any capacity. */
export function createExpiringLru<K, V>({ capacity, ttlMs, now }: Options): ExpiringLru<K, V> {
  const entries = new Map<K, Entry<K, V>>();
  const byUse = new Order<K>();
  // All have the same TTL: the key that was written first expires first.
  const byAge = new Order<K>();

  function leaveOrders({ used, written }: Entry<K, V>): void {
    byUse.remove(used);
    byAge.remove(written);
  }

  function makeRoom(): void {
    const [eldest, leastUsed] = [byAge.oldest, byUse.oldest].map((link) => link && entries.get(link.key));
    const victim = eldest && eldest.expiresAt <= now() ? eldest : leastUsed;
    if (!victim) return;
    entries.delete(victim.used.key);
    leaveOrders(victim);
  }

  return {
    get(key) {
      const entry = entries.get(key);
      if (!entry || entry.expiresAt <= now()) return undefined;
      byUse.remove(entry.used);
      entry.used = byUse.append(key);
      return entry.value;
    },

    set(key, value) {
      const present = entries.get(key);
      // A new value takes the place of the old one: it needs no room.
      if (present) leaveOrders(present);
      else if (entries.size === capacity) makeRoom();
      entries.set(key, {
        value,
        expiresAt: now() + ttlMs,
        used: byUse.append(key),
        written: byAge.append(key),
      });
    },
  };
}

interface Link<K> {
  readonly key: K;
  older: Link<K> | undefined;
  newer: Link<K> | undefined;
}

class Order<K> {
  oldest: Link<K> | undefined;
  #newest: Link<K> | undefined;

  append(key: K): Link<K> {
    const link: Link<K> = { key, older: this.#newest, newer: undefined };
    if (link.older) link.older.newer = link;
    else this.oldest = link;
    this.#newest = link;
    return link;
  }

  remove({ older, newer }: Link<K>): void {
    if (older) older.newer = newer;
    else this.oldest = newer;
    if (newer) newer.older = older;
    else this.#newest = older;
  }
}
