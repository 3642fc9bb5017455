import type { Redis } from 'ioredis';
import { withDeadline } from '#kit/given';
import {
  type Entry,
  type Found,
  type Layer,
  type LayerStats,
  LayerTimeoutError,
  type Lookup,
  type Prediction,
  type Source,
} from '../given';

interface LookupOptions {
  readonly now?: () => number;
  readonly onFailure?: (layer: string, error: unknown) => void;
}

/** Each cache wraps the lookup below it, and fills itself on the way back. A cache that has failed is filled too. */
export function createLookup(
  caches: readonly Layer[],
  source: Source,
  { now = Date.now, onFailure = () => {} }: LookupOptions = {},
): Lookup {
  const ask = <T>(layer: Source, answer: Promise<T>): Promise<T> =>
    withDeadline(answer, layer.timeoutMs, () => new LayerTimeoutError(layer));

  const named = (entry: Entry, { name }: Source): Found => ({ ...entry, layer: name });

  const fromSource: Lookup = async (key) => {
    const entry = await ask(source, source.get(key));
    return entry && named(entry, source);
  };

  const above = (below: Lookup, cache: Layer): Lookup => {
    const report = (error: unknown) => onFailure(cache.name, error);
    return async (key) => {
      const entry = await ask(cache, cache.get(key)).catch(report);
      if (entry && now() < entry.expiresAt) return named(entry, cache);
      const found = await below(key);
      if (found) {
        const { value, expiresAt } = found;
        ask(cache, cache.set(key, { value, expiresAt })).catch(report);
      }
      return found;
    };
  };

  return caches.reduceRight(above, fromSource);
}

/** Value and time left by a script, which Redis keeps: EVALSHA sends its digest only. */
export function redisLayer({
  redis,
  timeoutMs,
  now = Date.now,
}: {
  redis: Redis;
  timeoutMs: number;
  now?: () => number;
}): Layer {
  redis.defineCommand('valueAndTimeLeft', {
    numberOfKeys: 1,
    lua: "return { redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1]) }",
  });
  const { valueAndTimeLeft } = redis as unknown as {
    valueAndTimeLeft(key: string): Promise<[string | null, number]>;
  };
  return {
    name: 'redis',
    timeoutMs,
    async get(key) {
      const asked = now();
      const [value, leftMs] = await valueAndTimeLeft.call(redis, key);
      return value === null || leftMs < 0 ? undefined : { value, expiresAt: asked + leftMs };
    },
    async set(key, { value, expiresAt }) {
      const left = Math.floor(expiresAt - now());
      if (left > 0) await redis.set(key, value, 'PX', left);
    },
  };
}

export function predict(layers: readonly LayerStats[]): Prediction {
  const [top, ...rest] = layers;
  if (!top) return { effectiveMs: 0, funnel: [], absent: 1 };
  const { name, hitRate, latencyMs } = top;
  if (!(hitRate >= 0 && hitRate <= 1)) throw new RangeError(`${name}: ${hitRate} is not a rate`);
  if (!(latencyMs >= 0 && latencyMs < Number.POSITIVE_INFINITY)) {
    throw new RangeError(`${name}: ${latencyMs} is not a latency`);
  }
  const below = predict(rest);
  const missed = 1 - hitRate;
  return {
    effectiveMs: latencyMs + missed * below.effectiveMs,
    funnel: [
      { name, reached: 1, served: hitRate },
      ...below.funnel.map((share) => ({
        name: share.name,
        reached: missed * share.reached,
        served: missed * share.served,
      })),
    ],
    absent: missed * below.absent,
  };
}
