import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  ABSENT_TTL_MS,
  decode,
  encode,
  PRODUCT_TTL_MS,
  type Product,
  type ProductRow,
  productKey,
  SELECT_PRODUCTS,
} from './given';

interface Load {
  readonly id: number;
  readonly resolve: (product: Product | null) => void;
  readonly reject: (error: unknown) => void;
}

/** One MGET and one SELECT for the loads of a tick. When Redis fails, all of them fail. */
// #region core
export function createProductLoader({ redis, db }: { redis: Redis; db: Pool }) {
  const known = new Map<number, Promise<Product | null>>();
  let waiting: Load[] = [];

  async function ask(loads: readonly Load[]): Promise<void> {
    const texts = await redis.mget(loads.map(({ id }) => productKey(id)));
    const missing: Load[] = [];
    for (const [at, load] of loads.entries()) {
      const text = texts[at] ?? null;
      if (text === null) missing.push(load);
      else load.resolve(decode(text));
    }
    if (missing.length === 0) return;
    const [rows] = await db.query<ProductRow[]>(SELECT_PRODUCTS, [missing.map(({ id }) => id)]);
    const found = new Map(rows.map((row) => [row.id, { ...row }]));
    const fills = redis.pipeline();
    for (const { id } of missing) {
      const product = found.get(id) ?? null;
      fills.set(productKey(id), encode(product), 'PX', product ? PRODUCT_TTL_MS : ABSENT_TTL_MS);
    }
    await fills.exec();
    for (const { id, resolve } of missing) resolve(found.get(id) ?? null);
  }

  function dispatch(): void {
    const loads = waiting;
    waiting = [];
    ask(loads).catch((error: unknown) => {
      for (const { reject } of loads) reject(error);
    });
  }

  return {
    load(id: number): Promise<Product | null> {
      const asked = known.get(id);
      if (asked) return asked;
      const loading = new Promise<Product | null>((resolve, reject) => {
        if (waiting.length === 0) setImmediate(dispatch);
        waiting.push({ id, resolve, reject });
      });
      known.set(id, loading);
      return loading;
    },

    clear(id: number): void {
      known.delete(id);
    },
  };
}
// #endregion
