import type { Redis, RedisOptions } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  ABSENT_TTL_MS,
  type Changes,
  decode,
  encode,
  PRODUCT_TTL_MS,
  type Product,
  productKey,
  selectProduct,
  updateProduct,
} from './given';

/** The textbook version. When Redis fails, it fails too. */
// #region core
export function createProducts({ redis, db }: { redis: Redis; db: Pool }) {
  return {
    async find(id: number): Promise<Product | null> {
      const cached = await redis.get(productKey(id));
      if (cached !== null) return decode(cached);
      const product = await selectProduct(db, id);
      const ttlMs = product === null ? ABSENT_TTL_MS : PRODUCT_TTL_MS;
      await redis.set(productKey(id), encode(product), 'PX', ttlMs);
      return product;
    },

    async update(id: number, changes: Changes): Promise<boolean> {
      const found = await updateProduct(db, id, changes);
      await redis.del(productKey(id));
      return found;
    },
  };
}
// #endregion

/** The defaults of ioredis. */
export const cacheClientOptions = (): RedisOptions => ({});
