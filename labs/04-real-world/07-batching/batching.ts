import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { Product } from './given';

export interface ProductLoader {
  /**
   * The product, or null when there is none: from Redis, else from MySQL. The loads of one tick are asked together, and
   * an id is asked for once in the life of the loader. Never throws.
   * Rejects with what the query of MySQL throws; in production, with InvalidIdError.
   */
  load(id: number): Promise<Product | null>;
  /** Called after this request has changed the product and deleted its entry: forgets what was read before. */
  clear(id: number): void;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** In production: called with each error of Redis and of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** Products for one request: each request makes a loader of its own. Keys, TTLs, codec and SQL are in `given.ts`. */
export function createProductLoader({ redis, db, onCacheError = () => {} }: Options): ProductLoader {
  throw new Error('not implemented');
}
