import { InFlight } from '#kit/given';
import { decode, encode, entryKey, type Options } from './given';

// #region core
/** The textbook version. Its refreshes are shared within one process, and fail unseen. */
export function createSwr<V>({ redis, softTtlMs, hardTtlMs, load, now = Date.now }: Options<V>) {
  const loads = new InFlight<V | undefined>();

  async function loadAndStore(key: string): Promise<V | undefined> {
    const value = await load(key, new AbortController().signal);
    if (value !== undefined) {
      await redis.set(entryKey(key), encode({ value, storedAt: now() }), 'PX', hardTtlMs);
    }
    return value;
  }

  return {
    async get(key: string): Promise<V | undefined> {
      const bytes = await redis.getBuffer(entryKey(key));
      if (bytes === null) return loads.run(key, () => loadAndStore(key));
      const { value, storedAt } = decode<V>(bytes);
      const isStale = now() - storedAt >= softTtlMs;
      if (isStale) loads.run(key, () => loadAndStore(key)).catch(() => {});
      return value;
    },
  };
}
// #endregion
