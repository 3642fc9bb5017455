import type { Redis } from 'ioredis';
import type { Product } from './given';

export interface Options {
  readonly redis: Redis;
  /** One query of the database. It rejects when the query fails, or takes too long. */
  readonly load: (id: number) => Promise<Product>;
  /** How many loads may run at once. */
  readonly limit: number;
  /** In production: how many reads may wait for a load to end; 0 if absent. */
  readonly maxWaiting?: number;
  /** In production: how many failed loads in a row open the breaker; FAILURES_TO_OPEN if absent. */
  readonly failuresToOpen?: number;
  /** In production: how long it then stays open (ms); OPEN_MS if absent. */
  readonly openMs?: number;
  /** In production: the clock (ms); performance.now if absent. */
  readonly now?: () => number;
}

export interface ProductCache {
  /**
   * The product: from Redis, else loaded once and stored for TTL_MS.
   * @param deadline in production: when the reader leaves (ms, by `now`)
   * @throws an OverloadedError at once if the product is not in Redis and may not be loaded now; the error of `load`
   */
  get(id: number, deadline?: number): Promise<Product>;
  /**
   * In production: puts products into Redis, a few at a time. Resolves when it has tried all of them.
   * @param ids the hottest first
   */
  warm(ids: readonly number[]): Promise<void>;
}

export function createProductCache({ redis, load, limit }: Options): ProductCache {
  throw new Error('not implemented');
}
