import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  decode,
  encode,
  idOf,
  insertReview,
  loadPart,
  PARTS,
  type Part,
  partKey,
  type Review,
  SELECT_FOUND,
  type Search,
  TTL_MS,
  toPage,
  updateCategory,
  updatePrice,
} from './given';

/** The textbook version. */
// #region core
export function createShop({ redis, db }: { redis: Redis; db: Pool }) {
  async function get(part: Part, id: number, cached: Buffer | null | undefined) {
    if (cached) return decode(part, cached);
    const value = await loadPart(db, part, id);
    await redis.set(partKey(part, id), encode(value), 'PX', TTL_MS[value === null ? 'absent' : part]);
    return value;
  }

  return {
    async page(at: { category: number; product: number }) {
      const cached = await redis.mgetBuffer(PARTS.map((part) => partKey(part, idOf(part, at))));
      const values = await Promise.all(PARTS.map((part, i) => get(part, idOf(part, at), cached[i])));
      return toPage(at, Object.fromEntries(PARTS.map((part, i) => [part, values[i]])));
    },

    async search({ text, page, size }: Search) {
      const key = `search:${text}:${page}:${size}`;
      const cached = await redis.get(key);
      if (cached !== null) return JSON.parse(cached);
      const sql = `${SELECT_FOUND} ORDER BY view_count DESC LIMIT ? OFFSET ?`;
      const [found] = await db.query(sql, [`%${text}%`, size, (page - 1) * size]);
      await redis.set(key, JSON.stringify(found), 'PX', TTL_MS.list);
      return found;
    },

    async setPrice(product: number, price: string) {
      const category = await updatePrice(db, product, price);
      if (category !== null) await redis.del(partKey('core', product), partKey('list', category));
    },

    async addReview(product: number, review: Review) {
      await insertReview(db, product, review);
      await redis.del(partKey('rating', product));
    },

    async move(product: number, category: number) {
      await updateCategory(db, product, category);
      await redis.del(partKey('core', product), partKey('list', category));
    },

    async buy(product: number, pieces: number) {
      const key = partKey('stock', product);
      const stock = await get('stock', product, await redis.getBuffer(key));
      if (!stock || !('left' in stock) || stock.left < pieces) return false;
      await db.query('UPDATE products SET stock = stock - ? WHERE id = ?', [pieces, product]);
      await redis.del(key);
      return true;
    },
  };
}
// #endregion
