import type { Redis } from 'ioredis';
import { withDeadline } from '#kit/given';
import {
  type Entry,
  type Layer,
  type LayerStats,
  LayerTimeoutError,
  type Lookup,
  type Prediction,
  type Share,
  type Source,
} from './given';

export interface LookupOptions {
  /** The clock (ms since the epoch). */
  readonly now?: () => number;
  /** In production: called with the name of a cache and each error of its `get` and `set`. It never throws. */
  readonly onFailure?: (layer: string, error: unknown) => void;
}

// #region lookup
/**
 * A lookup that asks `caches` in their order, then `source`. The first entry that has not expired is the answer, and the
 * caches that missed get a copy.
 * @throws what `source` throws
 */
export function createLookup(
  caches: readonly Layer[],
  source: Source,
  { now = Date.now, onFailure = () => {} }: LookupOptions = {},
): Lookup {
  async function ask(cache: Layer, key: string): Promise<Entry | 'miss' | 'failed'> {
    try {
      const entry = await within(cache, cache.get(key));
      return entry && entry.expiresAt > now() ? entry : 'miss';
    } catch (error) {
      onFailure(cache.name, error);
      return 'failed';
    }
  }

  /** The reader has its answer: it waits for no fill. */
  function fill(missed: readonly Layer[], key: string, entry: Entry): void {
    for (const cache of missed) {
      within(cache, cache.set(key, entry)).catch((error: unknown) => onFailure(cache.name, error));
    }
  }

  return async (key) => {
    const missed: Layer[] = [];
    for (const cache of caches) {
      const entry = await ask(cache, key);
      if (typeof entry === 'object') {
        fill(missed, key, entry);
        return { ...entry, layer: cache.name };
      }
      // A cache that has just failed would only be sent one more command.
      if (entry === 'miss') missed.push(cache);
    }
    const entry = await within(source, source.get(key));
    if (entry) fill(missed, key, entry);
    return entry && { ...entry, layer: source.name };
  };
}

const within = <T>(layer: Source, answer: Promise<T>): Promise<T> =>
  withDeadline(answer, layer.timeoutMs, () => new LayerTimeoutError(layer));
// #endregion

export interface RedisLayerOptions {
  readonly redis: Redis;
  readonly timeoutMs: number;
  readonly now?: () => number;
}

// #region redis
/** One step: between a GET and a PTTL, another client can replace the value. */
const VALUE_AND_TIME_LEFT = `
  local value = redis.call('GET', KEYS[1])
  return value and { value, redis.call('PTTL', KEYS[1]) }`;

/** Redis as a layer named `redis`. Redis drops a copy when its entry expires. A key without a TTL has expired. */
export function redisLayer({ redis, timeoutMs, now = Date.now }: RedisLayerOptions): Layer {
  return {
    name: 'redis',
    timeoutMs,
    async get(key) {
      // The time left is that of the moment when Redis answers, which is not before this one.
      const asked = now();
      const found = (await redis.eval(VALUE_AND_TIME_LEFT, 1, key)) as [string, number] | null;
      return found ? { value: found[0], expiresAt: asked + found[1] } : undefined;
    },
    async set(key, { value, expiresAt }) {
      const leftMs = Math.floor(expiresAt - now());
      if (leftMs > 0) await redis.set(key, value, 'PX', leftMs);
    },
  };
}
// #endregion

// #region predict
/** Predicts the mean time and the funnel of layers that are asked in this order. */
export function predict(layers: readonly LayerStats[]): Prediction {
  let reached = 1;
  let effectiveMs = 0;
  const funnel = layers.map(({ name, hitRate, latencyMs }): Share => {
    if (!(hitRate >= 0 && hitRate <= 1)) {
      throw new RangeError(`the hit rate of ${name} must be from 0 to 1, and is ${hitRate}`);
    }
    if (!(latencyMs >= 0 && latencyMs < Infinity)) {
      throw new RangeError(`the latency of ${name} must be 0 ms or more, and is ${latencyMs}`);
    }
    // A request that misses here has waited here too.
    effectiveMs += reached * latencyMs;
    const share = { name, reached, served: reached * hitRate };
    reached -= share.served;
    return share;
  });
  return { effectiveMs, funnel, absent: reached };
}
// #endregion
