import type { Redis } from 'ioredis';
import { decode, encode, OverloadedError, type Product, productKey, TTL_MS } from './given';

/** The textbook version: right as long as Redis answers, and the database is only slow. */
interface Options {
  readonly redis: Redis;
  readonly load: (id: number) => Promise<Product>;
  readonly limit: number;
}

// #region core
export function createProductCache({ redis, load, limit }: Options) {
  let underWay = 0;

  async function limitedLoad(id: number): Promise<Product> {
    if (underWay >= limit) throw new OverloadedError();
    underWay++;
    try {
      return await load(id);
    } finally {
      underWay--;
    }
  }

  async function get(id: number): Promise<Product> {
    const cached = decode(await redis.getBuffer(productKey(id)));
    if (cached) return cached;
    const product = await limitedLoad(id);
    await redis.set(productKey(id), encode(product), 'PX', TTL_MS);
    return product;
  }

  return {
    get,
    async warm(ids: readonly number[]): Promise<void> {
      await Promise.all(ids.map(get));
    },
  };
}
// #endregion
