import type { Redis, RedisOptions } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { Changes, Product } from './given';

export interface Products {
  /**
   * The product, or null when there is none: from Redis, or on a miss from MySQL.
   * @throws what the query of MySQL throws
   */
  find(id: number): Promise<Product | null>;
  /**
   * Changes the row and deletes its entry. False when there is no such product.
   * @throws what the update of MySQL throws
   */
  update(id: number, changes: Changes): Promise<boolean>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** In production: called with each error of Redis and of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/**
 * Products by cache-aside. TTLs, keys, `encode`, `decode` and both SQL statements are in `given.ts`. In production: the
 * timer of a retry does not keep a process alive.
 */
export function createProducts({ redis, db, onCacheError = () => {} }: Options): Products {
  throw new Error('not implemented');
}

/**
 * In production: the ioredis options for a Redis that may be away. A command settles within DEADLINE_MS. It is sent at
 * once or not at all, and never twice. A connection that is silent for half a second is replaced, and reconnecting never
 * ends.
 */
export function cacheClientOptions(): RedisOptions {
  throw new Error('not implemented');
}
