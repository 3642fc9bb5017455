import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/** `stock` is the number of units that are left to sell. The tests create both tables. */
export const CREATE_ITEMS = `CREATE TABLE IF NOT EXISTS sale_items (
  id BIGINT UNSIGNED PRIMARY KEY,
  stock INT NOT NULL
)`;

export const CREATE_ORDERS = `CREATE TABLE IF NOT EXISTS sale_orders (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  item_id BIGINT UNSIGNED NOT NULL,
  buyer_id BIGINT UNSIGNED NOT NULL,
  request_id VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  status ENUM('reserved', 'paid', 'expired') NOT NULL DEFAULT 'reserved',
  pay_before TIMESTAMP(3) NOT NULL,
  UNIQUE KEY request (buyer_id, item_id, request_id),
  KEY unpaid (status, pay_before)
)`;

export interface Request {
  readonly itemId: number;
  readonly buyerId: number;
  /** Made by the buyer's page, a UUID. In production: a page that gets no answer sends the same request again. */
  readonly requestId: string;
}

export type Outcome =
  | { readonly kind: 'reserved'; readonly orderId: number }
  | { readonly kind: 'sold out' }
  /** In production. */
  | { readonly kind: 'over the limit' };

/** The gate: how many units are left, as a decimal number. The braces keep all keys of an item in one cluster slot. */
export const gateKey = (itemId: number): string => `sale:{${itemId}}:units`;

/** In production: the key of your note about a request. */
export const requestKey = ({ itemId, buyerId, requestId }: Request): string =>
  `sale:{${itemId}}:request:${buyerId}:${encodeURIComponent(requestId)}`;

/** In production: how many units of an item a buyer may have, the expired ones not counted. */
export const LIMIT_PER_BUYER = 2;

/** How long a buyer has to pay. */
export const PAY_WITHIN_MS = 10 * 60_000;

/** In production: how long the note about a request lives. Longer than its order may be unpaid. */
export const REMEMBER_MS = PAY_WITHIN_MS + 60_000;

/** In production: thrown when too many calls ask MySQL without the gate. Try again later. */
export class BusyError extends Error {
  override readonly name = 'BusyError';

  constructor(calls: number) {
    super(`${calls} calls ask MySQL without the gate already`);
  }
}

/** Runs a statement. @returns how many rows it matched */
export async function change(
  db: Pool | PoolConnection,
  sql: string,
  values: readonly unknown[],
): Promise<number> {
  const [{ affectedRows }] = await db.query<ResultSetHeader>(sql, [...values]);
  return affectedRows;
}

/** The stock of the row; 0 for an item that does not exist. */
export async function readStock(db: Pool | PoolConnection, itemId: number): Promise<number> {
  const [rows] = await db.query<RowDataPacket[]>('SELECT stock FROM sale_items WHERE id = ?', [itemId]);
  return rows[0]?.stock ?? 0;
}

/** INSERTs a reserved order. @returns its id */
export async function insertOrder(db: Pool | PoolConnection, request: Request): Promise<number> {
  const { itemId, buyerId, requestId } = request;
  const [{ insertId }] = await db.query<ResultSetHeader>(
    `INSERT INTO sale_orders (item_id, buyer_id, request_id, pay_before)
     VALUES (?, ?, ?, NOW(3) + INTERVAL ? MICROSECOND)`,
    [itemId, buyerId, requestId, PAY_WITHIN_MS * 1000],
  );
  return insertId;
}

/** In production: all orders of this buyer for this item. */
export async function ordersOf(
  db: Pool | PoolConnection,
  { itemId, buyerId }: Request,
): Promise<{ orderId: number; requestId: string; isExpired: boolean }[]> {
  const [rows] = await db.query<RowDataPacket[]>(
    'SELECT id, request_id, status FROM sale_orders WHERE buyer_id = ? AND item_id = ?',
    [buyerId, itemId],
  );
  return rows.map(({ id, request_id, status }) => ({
    orderId: id,
    requestId: request_id,
    isExpired: status === 'expired',
  }));
}

/** In production: up to a hundred reserved orders whose time to pay has ended. */
export async function ordersDue(db: Pool | PoolConnection): Promise<(Request & { orderId: number })[]> {
  const [rows] = await db.query<RowDataPacket[]>(
    `SELECT id, item_id, buyer_id, request_id FROM sale_orders
     WHERE status = 'reserved' AND pay_before < NOW(3) ORDER BY pay_before LIMIT 100`,
  );
  return rows.map(({ id, item_id, buyer_id, request_id }) => ({
    orderId: id,
    itemId: item_id,
    buyerId: buyer_id,
    requestId: request_id,
  }));
}

/** In production: the checkout calls this. False when the order is no longer reserved. */
export async function payOrder(db: Pool | PoolConnection, orderId: number): Promise<boolean> {
  const sql = `UPDATE sale_orders SET status = 'paid' WHERE id = ? AND status = 'reserved'`;
  return (await change(db, sql, [orderId])) > 0;
}

/** In production: how often a transaction is tried. */
export const TRIES = 3;

/**
 * In production: MySQL has ended the transaction because of others, and a second try may succeed: a lock wait timeout, a
 * deadlock, or (MariaDB) a row that has changed since the snapshot.
 */
export const isTransient = (error: unknown): boolean =>
  [1205, 1213, 1020].includes((error as { errno?: number }).errno ?? 0);
