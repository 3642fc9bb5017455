import { InFlight } from '#kit/given';
import { decode, encode, entryKey, type Load, type Options } from './given';

interface Roll {
  readonly now: number;
  readonly expiresAt: number;
  readonly deltaMs: number;
  readonly beta: number;
  readonly random: () => number;
}

// #region core
export function shouldRefresh({ now, expiresAt, deltaMs, beta, random }: Roll): boolean {
  // 1 − random() is never 0: the logarithm of 0 is −Infinity.
  return now - deltaMs * beta * Math.log(1 - random()) >= expiresAt;
}

/** The version for an interview. Its refreshes are shared within one process, and fail unseen. */
export function createEarlyCache({ redis, ttlMs, beta = 1, random = Math.random, now = Date.now }: Options) {
  const loads = new InFlight<string>();

  const loadAndStore = (key: string, load: Load<unknown>) =>
    loads.run(key, async () => {
      const startedAt = now();
      const value = await load();
      const endedAt = now();
      const text = encode({ value, deltaMs: endedAt - startedAt, expiresAt: endedAt + ttlMs });
      await redis.set(entryKey(key), text, 'PX', ttlMs);
      return text;
    });

  return {
    async get<V>(key: string, load: Load<V>): Promise<V> {
      const bytes = await redis.getBuffer(entryKey(key));
      if (bytes === null) return JSON.parse(await loadAndStore(key, load)).value;
      const { value, deltaMs, expiresAt } = decode<V>(bytes);
      if (shouldRefresh({ now: now(), expiresAt, deltaMs, beta, random })) {
        loadAndStore(key, load).catch(() => {});
      }
      return value;
    },
  };
}
// #endregion
