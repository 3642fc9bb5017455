import type { Load } from './given';

interface Entry {
  readonly value: unknown;
  readonly freshUntil: number;
}

interface Options {
  readonly ttlMs: number;
  readonly maxEntries: number;
  readonly now?: () => number;
}

/** After step 1. For the measure only: how the cache grew. core.ts is step 2. */
export function createCache({ ttlMs, maxEntries, now = () => performance.now() }: Options) {
  const entries = new Map<string, Entry>();

  /** The only place that stores: the key becomes the most recently used, and the oldest one leaves. */
  function store(key: string, entry: Entry): void {
    entries.delete(key);
    entries.set(key, entry);
    for (const oldest of entries.keys()) {
      if (entries.size <= maxEntries) return;
      entries.delete(oldest);
    }
  }

  return {
    async get<V>(key: string, load: Load<V>): Promise<V> {
      const entry = entries.get(key);
      if (entry) store(key, entry);
      if (entry && now() < entry.freshUntil) return entry.value as V;
      const value = await load();
      store(key, { value, freshUntil: now() + ttlMs });
      return value;
    },

    async invalidate(key: string): Promise<void> {
      entries.delete(key);
    },
  };
}
