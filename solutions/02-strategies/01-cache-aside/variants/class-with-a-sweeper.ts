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

export const createProducts = (options: Options) => new CachedProducts(options);

/** A class. An interval sends the pending DELs, and a count tells the updates of a product apart. */
class CachedProducts {
  readonly #redis: Redis;
  readonly #db: Pool;
  readonly #onCacheError: (error: unknown) => void;
  readonly #pending = new Map<number, number>();
  #updates = 0;
  #sweeper: NodeJS.Timeout | undefined;

  constructor({ redis, db, onCacheError = () => {} }: Options) {
    this.#redis = redis;
    this.#db = db;
    this.#onCacheError = onCacheError;
  }

  async find(id: number): Promise<Product | null> {
    this.#check(id);
    if (this.#pending.has(id)) return selectProduct(this.#db, id);
    let text: string | null;
    try {
      text = await this.#redis.get(productKey(id));
    } catch (error) {
      this.#onCacheError(error);
      return selectProduct(this.#db, id);
    }
    if (text !== null) {
      try {
        return decode(text);
      } catch (error) {
        this.#onCacheError(error);
      }
    }
    const product = await selectProduct(this.#db, id);
    try {
      await this.#redis.set(productKey(id), encode(product), 'PX', product ? PRODUCT_TTL_MS : ABSENT_TTL_MS);
    } catch (error) {
      this.#onCacheError(error);
    }
    return product;
  }

  async update(id: number, changes: Changes): Promise<boolean> {
    this.#check(id);
    try {
      return await updateProduct(this.#db, id, changes);
    } finally {
      this.#pending.set(id, ++this.#updates);
      await this.#delete(id);
      this.#sweepWhilePending();
    }
  }

  async #delete(id: number): Promise<void> {
    const update = this.#pending.get(id);
    try {
      await this.#redis.del(productKey(id));
      if (this.#pending.get(id) === update) this.#pending.delete(id);
    } catch (error) {
      this.#onCacheError(error);
    }
  }

  #sweepWhilePending(): void {
    if (this.#pending.size === 0) return;
    this.#sweeper ??= setInterval(() => {
      for (const id of this.#pending.keys()) void this.#delete(id);
      if (this.#pending.size > 0) return;
      clearInterval(this.#sweeper);
      this.#sweeper = undefined;
    }, RETRY_MS).unref();
  }

  #check(id: number): void {
    if (!Number.isSafeInteger(id) || id <= 0) throw new InvalidIdError(id);
  }
}

export const cacheClientOptions = (): RedisOptions => ({
  commandTimeout: DEADLINE_MS,
  socketTimeout: 10 * DEADLINE_MS,
  enableOfflineQueue: false,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  retryStrategy: () => 100,
});
