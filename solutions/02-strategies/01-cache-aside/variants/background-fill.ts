import type { Redis, RedisOptions } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  ABSENT_TTL_MS,
  type Changes,
  DEADLINE_MS,
  decode,
  encode,
  InvalidIdError,
  PRODUCT_TTL_MS,
  type Product,
  productKey,
  RETRY_MS,
  selectProduct,
  updateProduct,
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  readonly onCacheError?: (error: unknown) => void;
}

/** The caller does not wait for the fill. Each product with a failed DEL has a retry loop of its own. */
export function createProducts({ redis, db, onCacheError = () => {} }: Options) {
  const retrying = new Map<number, { again: boolean }>();

  async function find(id: number): Promise<Product | null> {
    assertId(id);
    if (retrying.has(id)) return selectProduct(db, id);
    const bytes = await redis.getBuffer(productKey(id)).catch((error: unknown) => {
      onCacheError(error);
      return undefined;
    });
    if (bytes) {
      try {
        return decode(bytes.toString('utf8'));
      } catch (error) {
        onCacheError(error);
      }
    }
    const product = await selectProduct(db, id);
    if (bytes !== undefined) void fill(id, product);
    return product;
  }

  const fill = (id: number, product: Product | null) =>
    redis
      .psetex(productKey(id), product ? PRODUCT_TTL_MS : ABSENT_TTL_MS, encode(product))
      .catch(onCacheError);

  async function update(id: number, changes: Changes): Promise<boolean> {
    assertId(id);
    const [written] = await Promise.allSettled([updateProduct(db, id, changes)]);
    // A DEL of the loop may have been sent before this update: it needs another one.
    const loop = retrying.get(id);
    if (loop) loop.again = true;
    const deleted = await del(id);
    if (!deleted && !retrying.has(id)) void retryUntilDeleted(id);
    if (written.status === 'rejected') throw written.reason;
    return written.value;
  }

  async function retryUntilDeleted(id: number): Promise<void> {
    const loop = { again: true };
    retrying.set(id, loop);
    while (loop.again) {
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref());
      loop.again = false;
      if (!(await del(id))) loop.again = true;
    }
    retrying.delete(id);
  }

  async function del(id: number): Promise<boolean> {
    try {
      await redis.unlink(productKey(id));
      return true;
    } catch (error) {
      onCacheError(error);
      return false;
    }
  }

  return { find, update };
}

function assertId(id: unknown): asserts id is number {
  if (!Number.isSafeInteger(id) || Number(id) < 1) throw new InvalidIdError(id);
}

export function cacheClientOptions(): RedisOptions {
  return {
    commandTimeout: DEADLINE_MS,
    socketTimeout: 400,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (attempt) => Math.min(2 ** Math.min(attempt, 11), 2000) + 20 * Math.random(),
  };
}
