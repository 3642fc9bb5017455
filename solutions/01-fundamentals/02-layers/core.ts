import type { Redis } from 'ioredis';
import type { Entry, Layer, LayerStats, Lookup, Prediction, Share, Source } from './given';

/** The textbook version: it trusts each layer, and each answer of Redis. */
// #region lookup
export function createLookup(
  caches: readonly Layer[],
  source: Source,
  { now = Date.now }: { now?: () => number } = {},
): Lookup {
  const fill = (missed: readonly Layer[], key: string, entry: Entry) =>
    Promise.all(missed.map((cache) => cache.set(key, entry)));

  return async (key) => {
    const missed: Layer[] = [];
    for (const cache of caches) {
      const entry = await cache.get(key);
      if (entry && entry.expiresAt > now()) {
        await fill(missed, key, entry);
        return { ...entry, layer: cache.name };
      }
      missed.push(cache);
    }
    const entry = await source.get(key);
    if (entry) await fill(missed, key, entry);
    return entry && { ...entry, layer: source.name };
  };
}
// #endregion

interface RedisLayerOptions {
  readonly redis: Redis;
  readonly timeoutMs: number;
  readonly now?: () => number;
}

// #region redis
export function redisLayer({ redis, timeoutMs, now = Date.now }: RedisLayerOptions): Layer {
  return {
    name: 'redis',
    timeoutMs,
    async get(key) {
      const value = await redis.get(key);
      const leftMs = await redis.pttl(key);
      // A PTTL of −1 says that the key has no TTL: such an entry has expired.
      return value === null ? undefined : { value, expiresAt: now() + leftMs };
    },
    async set(key, { value, expiresAt }) {
      await redis.set(key, value, 'PX', expiresAt - now());
    },
  };
}
// #endregion

// #region predict
export function predict(layers: readonly LayerStats[]): Prediction {
  let reached = 1;
  let effectiveMs = 0;
  const funnel = layers.map(({ name, hitRate, latencyMs }): Share => {
    // A request that misses here has waited here too.
    effectiveMs += reached * latencyMs;
    const share = { name, reached, served: reached * hitRate };
    reached -= share.served;
    return share;
  });
  return { effectiveMs, funnel, absent: reached };
}
// #endregion
