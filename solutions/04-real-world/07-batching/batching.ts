import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { withDeadline } from '#kit/given';
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
} from './given';

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

/** A load that waits for its product. */
interface Load {
  readonly id: number;
  readonly resolve: (product: Product | null) => void;
  readonly reject: (error: unknown) => void;
}

/** Loads products for one request: each request creates a loader. Keys, TTLs, codec and SQL are in `given.ts`. */
export function createProductLoader({ redis, db, onCacheError = () => {} }: Options): ProductLoader {
  /** What this request has asked for, answered or not. */
  const known = new Map<number, Promise<Product | null>>();
  /** The loads of this tick. */
  let waiting = new Map<number, Load>();
  /** A request pays for a silent Redis once. */
  let redisAnswers = true;

  // #region load
  function load(id: number): Promise<Product | null> {
    const asked = known.get(id);
    if (asked) return asked;
    const loading = new Promise<Product | null>((resolve, reject) => {
      requireId(id);
      if (waiting.size === 0) setImmediate(dispatch);
      // All callers of an id get one object: nobody may change it.
      waiting.set(id, { id, resolve: (product) => resolve(Object.freeze(product)), reject });
    });
    known.set(id, loading);
    // A failure is an answer to those who have asked, and to nobody after them.
    loading.catch(() => {
      if (known.get(id) === loading) known.delete(id);
    });
    return loading;
  }

  function clear(id: number): void {
    // A load that waits has not been sent yet: it will see the change.
    if (!waiting.has(id)) known.delete(id);
  }

  function dispatch(): void {
    const loads = [...waiting.values()];
    waiting = new Map();
    for (let at = 0; at < loads.length; at += MAX_BATCH) void ask(loads.slice(at, at + MAX_BATCH));
  }
  // #endregion

  // #region ask
  async function ask(loads: readonly Load[]): Promise<void> {
    const reads = new Map(loads.map(({ id }) => [id, known.get(id)]));
    const missing = await lookup(loads);
    if (missing.length === 0) return;
    try {
      const [rows] = await db.query<ProductRow[]>(SELECT_PRODUCTS, [missing.map(({ id }) => id)]);
      // The rows come in any order, and there may be fewer of them.
      const found = new Map(rows.map((row) => [row.id, { ...row }]));
      for (const { id, resolve } of missing) resolve(found.get(id) ?? null);
      // What was read before a clear is old.
      const current = missing.filter(({ id }) => known.get(id) === reads.get(id));
      void store(current.map(({ id }) => [id, found.get(id) ?? null]));
    } catch (error) {
      for (const { reject } of missing) reject(error);
    }
  }

  /** Answers the loads that Redis can answer. @returns the others */
  async function lookup(loads: readonly Load[]): Promise<readonly Load[]> {
    if (!redisAnswers) return loads;
    let texts: (string | null)[];
    try {
      texts = await withDeadline(redis.mget(loads.map(({ id }) => productKey(id))), DEADLINE_MS);
    } catch (error) {
      redisAnswers = false;
      onCacheError(error);
      return loads;
    }
    return loads.filter(({ resolve }, at) => {
      const text = texts[at] ?? null;
      if (text === null) return true;
      try {
        resolve(decode(text));
        return false;
      } catch (error) {
        onCacheError(error);
        return true;
      }
    });
  }

  /** Nobody waits for it, so it never rejects. */
  async function store(products: readonly (readonly [number, Product | null])[]): Promise<void> {
    if (!redisAnswers) return;
    const pipeline = redis.pipeline();
    for (const [id, product] of products) {
      pipeline.set(productKey(id), encode(product), 'PX', product ? PRODUCT_TTL_MS : ABSENT_TTL_MS);
    }
    try {
      // exec() resolves although a command has failed: each answer has its own error.
      for (const [error] of (await pipeline.exec()) ?? []) if (error) onCacheError(error);
    } catch (error) {
      onCacheError(error);
    }
  }
  // #endregion

  return { load, clear };
}
