import type { Load } from './given';

interface Options {
  readonly ttlMs: number;
  readonly maxEntries: number;
}

/** Step 1 by somebody who begins with a timer for each key. For the measure only. */
export function createCache({ ttlMs, maxEntries }: Options) {
  const values = new Map<string, unknown>();
  const timers = new Map<string, NodeJS.Timeout>();

  function remove(key: string): void {
    clearTimeout(timers.get(key));
    timers.delete(key);
    values.delete(key);
  }

  return {
    async get<V>(key: string, load: Load<V>): Promise<V> {
      if (values.has(key)) {
        const value = values.get(key);
        values.delete(key);
        values.set(key, value);
        return value as V;
      }
      const value = await load();
      remove(key);
      values.set(key, value);
      timers.set(key, setTimeout(() => remove(key), ttlMs).unref());
      const [oldest] = values.keys();
      if (values.size > maxEntries && oldest !== undefined) remove(oldest);
      return value;
    },

    async invalidate(key: string): Promise<void> {
      remove(key);
    },
  };
}
