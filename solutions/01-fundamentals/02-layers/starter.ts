import type { Redis } from 'ioredis';
import type { Layer, LayerStats, Lookup, Prediction, Source } from './given';

export interface LookupOptions {
  /** The clock (ms since the epoch). */
  readonly now?: () => number;
  /** In production: called with the name of a cache and each error of its `get` and `set`. It never throws. */
  readonly onFailure?: (layer: string, error: unknown) => void;
}

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
  throw new Error('not implemented');
}

export interface RedisLayerOptions {
  readonly redis: Redis;
  readonly timeoutMs: number;
  readonly now?: () => number;
}

/** Redis as a layer named `redis`. Redis drops a copy when its entry expires. A key without a TTL has expired. */
export function redisLayer({ redis, timeoutMs, now = Date.now }: RedisLayerOptions): Layer {
  throw new Error('not implemented');
}

/** Predicts the mean time and the funnel of layers that are asked in this order. */
export function predict(layers: readonly LayerStats[]): Prediction {
  throw new Error('not implemented');
}
