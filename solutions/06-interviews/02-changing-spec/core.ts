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

/** After step 2: right in one process, as long as each load ends and no reader minds to wait for it. */
// #region core
export function createCache({ ttlMs, maxEntries, now = () => performance.now() }: Options) {
  const entries = new Map<string, Entry>();
  const inFlight = new Map<string, Promise<unknown>>();

  /** The only place that stores: the key becomes the most recently used, and the oldest one leaves. */
  function store(key: string, entry: Entry): void {
    entries.delete(key);
    entries.set(key, entry);
    for (const oldest of entries.keys()) {
      if (entries.size <= maxEntries) return;
      entries.delete(oldest);
    }
  }

  function fetch(key: string, load: Load<unknown>): Promise<unknown> {
    const running = inFlight.get(key);
    if (running) return running;
    const started: Promise<unknown> = Promise.resolve()
      // In a callback: a load that throws rejects too.
      .then(() => load())
      .then((value) => {
        if (inFlight.get(key) === started) store(key, { value, freshUntil: now() + ttlMs });
        return value;
      })
      .finally(() => {
        if (inFlight.get(key) === started) inFlight.delete(key);
      });
    inFlight.set(key, started);
    return started;
  }

  return {
    async get<V>(key: string, load: Load<V>): Promise<V> {
      const entry = entries.get(key);
      if (entry) store(key, entry);
      if (entry && now() < entry.freshUntil) return entry.value as V;
      return (await fetch(key, load)) as V;
    },

    async invalidate(key: string): Promise<void> {
      entries.delete(key);
      inFlight.delete(key);
    },
  };
}
// #endregion
