import { Buffer } from 'node:buffer';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  ABSENT_TTL_MS,
  DEADLINE_MS,
  decode,
  encode,
  MAX_BATCH,
  PRODUCT_TTL_MS,
  type Product,
  type ProductRow,
  productKey,
  requireId,
  SELECT_PRODUCTS,
} from '../given';

interface Entry {
  readonly product: Promise<Product | null>;
}

/** Two batchers behind each other: misses of all MGETs of a tick are packed again. One Lua script stores. */
export function createProductLoader({
  redis,
  db,
  onCacheError = () => {},
}: {
  redis: Redis;
  db: Pool;
  onCacheError?: (error: unknown) => void;
}) {
  const memory = new Map<number, Entry>();
  let redisFailed = false;

  const fromRedis = batched<string | null>(async (ids) => {
    const late = sleep(DEADLINE_MS, undefined, { ref: false }).then(() => Promise.reject(new Error('late')));
    const bytes = await Promise.race([redis.mgetBuffer(ids.map(productKey)), late]);
    return new Map(ids.map((id, at) => [id, bytes[at] ? Buffer.from(bytes[at]).toString() : null]));
  });
  const fromMySql = batched<Product | null>(async (ids) => {
    const [rows] = await db.query<ProductRow[]>(SELECT_PRODUCTS, [ids]);
    const products = new Map<number, Product | null>(ids.map((id) => [id, null]));
    for (const { id, name, price, stock, updatedAt } of rows)
      products.set(id, { id, name, price, stock, updatedAt });
    return products;
  });
  const toRedis = batched<void, string>(async (ids, texts) => {
    const ttls = texts.map((text) => (text === 'null' ? ABSENT_TTL_MS : PRODUCT_TTL_MS));
    const script = `for i, key in ipairs(KEYS) do redis.call('SET', key, ARGV[2 * i - 1], 'PX', ARGV[2 * i]) end`;
    const args = texts.flatMap((text, at) => [text, ttls[at] ?? 0]);
    await redis.eval(script, ids.length, ...ids.map(productKey), ...args);
    return new Map();
  });

  async function read(id: number, isCurrent: () => boolean): Promise<Product | null> {
    requireId(id);
    if (!redisFailed) {
      try {
        const text = await fromRedis(id);
        if (text !== null && text !== undefined) return Object.freeze(decode(text));
      } catch (error) {
        if (!(error instanceof SyntaxError || error instanceof TypeError)) redisFailed = true;
        onCacheError(error);
      }
    }
    const product = Object.freeze((await fromMySql(id)) ?? null);
    if (!redisFailed && isCurrent()) toRedis(id, encode(product)).catch(onCacheError);
    return product;
  }

  return {
    load(id: number): Promise<Product | null> {
      const known = memory.get(id);
      if (known) return known.product;
      const entry: Entry = { product: read(id, () => memory.get(id) === entry) };
      entry.product.catch(() => memory.get(id) === entry && memory.delete(id));
      memory.set(id, entry);
      return entry.product;
    },
    clear: (id: number) => void memory.delete(id),
  };
}

function batched<V, A = void>(ask: (ids: number[], args: A[]) => Promise<Map<number, V>>) {
  let queue: { id: number; arg: A; done: (answers: Promise<V | undefined>) => void }[] = [];
  const flush = () => {
    const all = queue;
    queue = [];
    for (let at = 0; at < all.length; at += MAX_BATCH) {
      const part = all.slice(at, at + MAX_BATCH);
      const answers = ask(
        part.map(({ id }) => id),
        part.map(({ arg }) => arg),
      );
      for (const { id, done } of part) done(answers.then((map) => map.get(id)));
    }
  };
  return (id: number, arg: A) =>
    new Promise<V | undefined>((done) => {
      if (queue.push({ id, arg, done }) === 1) setImmediate(flush);
    });
}
