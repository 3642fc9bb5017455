import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { Product } from './given';

export interface ProductLoader {
  /**
   * The product, or null when there is none: from Redis, else from MySQL. All loads of one tick are one batch, and
   * a loader asks for each id once. Never throws.
   * Rejects with the error of the MySQL query; in production, also with InvalidIdError.
   */
  load(id: number): Promise<Product | null>;
  /** Forgets what was read before. Called after this request has changed the product and deleted its entry. */
  clear(id: number): void;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** In production: called with each error of Redis and of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** Loads products for one request: each request creates a loader. Keys, TTLs, codec and SQL are in `given.ts`. */
export function createProductLoader({ redis, db, onCacheError = () => {} }: Options): ProductLoader {
  throw new Error('not implemented');
}
