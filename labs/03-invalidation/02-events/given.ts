import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/** One row is one event: a key of Redis that a committed change has made old. */
export const CREATE_OUTBOX = `CREATE TABLE IF NOT EXISTS outbox (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  cache_key VARCHAR(190) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
)`;

export const productKey = (productId: number): string => `product:${productId}`;
/** The list of the products of a category. */
export const categoryKey = (categoryId: number): string => `category:${categoryId}:products`;

// How long an entry lives: the bound for a fill that comes after the DEL.
const ENTRY_TTL_MS = 10 * 60_000;

export interface Product {
  readonly id: number;
  readonly name: string;
  readonly price: string;
  readonly categoryId: number;
}

/** A field that is left out stays as it is. */
export interface Changes {
  readonly price?: string;
  readonly categoryId?: number;
}

/** UPDATEs the row. False when there is no such product. */
export async function changeProduct(
  connection: PoolConnection,
  id: number,
  { price = null, categoryId = null }: { readonly [Name in keyof Changes]: Changes[Name] | null },
): Promise<boolean> {
  const [{ affectedRows }] = await connection.query<ResultSetHeader>(
    `UPDATE products SET price = COALESCE(?, price), category_id = COALESCE(?, category_id), updated_at = NOW(3)
     WHERE id = ?`,
    [price, categoryId, id],
  );
  return affectedRows > 0;
}

// Cache-aside for the reads: without Redis, nothing is stored.
export async function cached<T>(redis: Redis, key: string, load: () => Promise<T>): Promise<T> {
  let text: string | null;
  try {
    text = await redis.get(key);
  } catch {
    return load();
  }
  if (text !== null) return JSON.parse(text) as T;
  const value = await load();
  await redis.set(key, JSON.stringify(value), 'PX', ENTRY_TTL_MS).catch(() => {});
  return value;
}

const COLUMNS = 'id, name, price, category_id AS categoryId';

export async function selectProduct(db: Pool, id: number): Promise<Product | null> {
  const sql = `SELECT ${COLUMNS} FROM products WHERE id = ?`;
  const [rows] = await db.execute<(Product & RowDataPacket)[]>(sql, [id]);
  return rows[0] ? { ...rows[0] } : null;
}

export async function selectCategory(db: Pool, categoryId: number): Promise<Product[]> {
  const sql = `SELECT ${COLUMNS} FROM products WHERE category_id = ? ORDER BY id`;
  const [rows] = await db.execute<(Product & RowDataPacket)[]>(sql, [categoryId]);
  return rows.map((row) => ({ ...row }));
}

/** Waits `ms`. In production: it ends at once when the signal aborts, and never rejects. */
export const pauseFor = (ms: number, signal?: AbortSignal): Promise<unknown> =>
  sleep(ms, undefined, { signal }).catch(() => {});
