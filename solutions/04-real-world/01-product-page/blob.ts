import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { type Address, idOf, loadPart, PARTS, type Page, TTL_MS, toPage } from './given';

/** The page of one product, and a sale of it. */
export interface Contender {
  page(at: Address): Promise<Page | null>;
  buy(product: number, pieces: number): Promise<unknown>;
}

/** One entry for the whole page: it lives as long as its most volatile part, and each change deletes it. */
export function createBlob(redis: Redis, db: Pool): Contender {
  const ttlMs = Math.min(...PARTS.map((part) => TTL_MS[part]));
  return {
    async page(at) {
      const cached = await redis.get(`blob:${at.product}`);
      if (cached !== null) return JSON.parse(cached);
      const page = await loadPage(db, at);
      await redis.set(`blob:${at.product}`, JSON.stringify(page), 'PX', ttlMs);
      return page;
    },
    async buy(product, pieces) {
      await db.query('UPDATE products SET stock = stock - ? WHERE id = ?', [pieces, product]);
      await redis.del(`blob:${product}`);
    },
  };
}

/** Five queries at once. */
export async function loadPage(db: Pool, at: Address): Promise<Page | null> {
  const values = await Promise.all(
    PARTS.map(async (part) => [part, await loadPart(db, part, idOf(part, at))]),
  );
  return toPage(at, Object.fromEntries(values));
}
