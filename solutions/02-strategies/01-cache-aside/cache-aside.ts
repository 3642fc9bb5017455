import { type Redis, type RedisOptions, ReplyError } from 'ioredis';
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
} from './given';

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
  /** Products whose DEL is unconfirmed, each with the update that needs it. */
  const unconfirmed = new Map<number, symbol>();
  let flushIsDue = false;

  // #region find
  async function find(id: number): Promise<Product | null> {
    requireId(id);
    const cached = unconfirmed.has(id) ? 'unusable' : await lookup(id);
    if (typeof cached === 'object') return cached.product;
    const product = await selectProduct(db, id);
    if (cached === 'miss') await fill(id, product);
    return product;
  }

  async function lookup(id: number): Promise<{ product: Product | null } | 'miss' | 'unusable'> {
    let text: string | null;
    try {
      text = await redis.get(productKey(id));
    } catch (error) {
      onCacheError(error);
      // Without an answer to the GET, a SET would only cost a second deadline.
      return 'unusable';
    }
    if (text === null) return 'miss';
    try {
      return { product: decode(text) };
    } catch (error) {
      onCacheError(error);
      return 'miss';
    }
  }

  async function fill(id: number, product: Product | null): Promise<void> {
    const ttlMs = product === null ? ABSENT_TTL_MS : PRODUCT_TTL_MS;
    await redis.set(productKey(id), encode(product), 'PX', ttlMs).catch(onCacheError);
  }
  // #endregion

  // #region update
  async function update(id: number, changes: Changes): Promise<boolean> {
    requireId(id);
    try {
      return await updateProduct(db, id, changes);
    } finally {
      // After a rejection too: MySQL may have committed, and only its answer was lost.
      unconfirmed.set(id, Symbol());
      await invalidate(id);
    }
  }

  /** Never rejects: the update is committed, whatever Redis says. @returns whether Redis has answered */
  async function invalidate(id: number): Promise<boolean> {
    const sentFor = unconfirmed.get(id);
    try {
      await redis.del(productKey(id));
      // An update that came after this DEL was sent needs a DEL of its own.
      if (unconfirmed.get(id) === sentFor) unconfirmed.delete(id);
      return true;
    } catch (error) {
      onCacheError(error);
      flushLater();
      return error instanceof ReplyError;
    }
  }

  function flushLater(): void {
    if (flushIsDue) return;
    flushIsDue = true;
    setTimeout(flushPending, RETRY_MS).unref();
  }

  /** One DEL for each product, so that a key which Redis refuses does not hold up the others. */
  async function flushPending(): Promise<void> {
    for (const id of unconfirmed.keys()) {
      // A Redis that does not answer for one product does not answer for ten thousand.
      if (!(await invalidate(id))) break;
    }
    flushIsDue = false;
    if (unconfirmed.size > 0) flushLater();
  }
  // #endregion

  return { find, update };
}

function requireId(id: number): void {
  if (!Number.isSafeInteger(id) || id < 1) throw new InvalidIdError(id);
}

// #region options
/**
 * In production: the ioredis options for a Redis that may be away. A command settles within DEADLINE_MS. It is sent at
 * once or not at all, and never twice. A connection that is silent for half a second is replaced, and reconnecting never
 * ends.
 */
export function cacheClientOptions(): RedisOptions {
  return {
    commandTimeout: DEADLINE_MS,
    connectTimeout: 1000,
    socketTimeout: 500,
    // A command without a connection fails at once, and is not kept …
    enableOfflineQueue: false,
    // … and an unanswered command is not sent again on the next connection.
    maxRetriesPerRequest: 0,
    retryStrategy: (attempt) => Math.min(attempt * 50, 1000),
  };
}
// #endregion
