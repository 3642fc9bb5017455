import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { toRecord, transaction } from '#kit/given';

export interface Product {
  readonly id: number;
  readonly name: string;
  /** DECIMAL as text: `'12.90'`. */
  readonly price: string;
  readonly stock: number;
}

/** New values of one column or both. */
export type Changes = Partial<Pick<Product, 'price' | 'stock'>>;

/** An accepted write. */
export interface Write {
  /** Its stream id: `'1767225600000-0'`. */
  readonly id: string;
  readonly product: number;
  readonly changes: Changes;
}

/** Accepted writes that the worker has not finished. In production: in a cluster, the braces decide its slot. */
export const STREAM = '{products}:writes';

/** How long a copy of the row lives (ms). */
export const VIEW_TTL_MS = 60_000;

/** In production: how long one Redis command may take (ms). */
export const DEADLINE_MS = 100;

/** The arguments of XADD behind the `*`. */
export const streamFields = (id: number, changes: Changes): string[] => [
  'product',
  String(id),
  'changes',
  JSON.stringify(changes),
];

/** In production: a stream id as a text that sorts as the stream does, where `5-10` comes after `5-9`. */
export const sortable = (streamId: string): string =>
  streamId
    .split('-')
    .map((part) => part.padStart(20, '0'))
    .join('-');

/** A product from the fields of a row or of a hash. */
export const toProduct = (id: number, { name, price, stock }: Record<string, unknown>): Product => ({
  id,
  name: String(name),
  price: String(price),
  stock: Number(stock),
});

/** The row, or null when there is none. @throws when MySQL cannot be asked */
export async function selectProduct(db: Pool, id: number): Promise<Product | null> {
  const [rows] = await db.query<RowDataPacket[]>('SELECT name, price, stock FROM products WHERE id = ?', [
    id,
  ]);
  return rows[0] ? toProduct(id, rows[0]) : null;
}

// What follows is the worker of lesson 2.4, as short as it can be. You need not read it.

const GROUP = 'workers';

// For each column of a product: the newest write that has reached it.
export const APPLIED_WRITES = `
  CREATE TABLE IF NOT EXISTS applied_writes (
    product_id BIGINT UNSIGNED, column_name VARCHAR(10), write_id CHAR(41) CHARACTER SET ascii NOT NULL,
    PRIMARY KEY (product_id, column_name))`;

interface View {
  committed(write: Write): Promise<unknown>;
  refused(write: Write): Promise<unknown>;
}

// Takes what waits in the stream, at most `count` writes, and finishes one after the other.
export async function work(redis: Redis, db: Pool, view: View, count = 1000): Promise<void> {
  for (const write of await take(redis, 'worker', count)) await finish(redis, db, view, write);
}

// Takes writes for a worker, in the order of the stream. No other worker gets them.
export async function take(redis: Redis, worker: string, count = 1000): Promise<Write[]> {
  await redis.xgroup('CREATE', STREAM, GROUP, '0', 'MKSTREAM').catch((error: Error) => {
    if (!error.message.startsWith('BUSYGROUP')) throw error;
  });
  const reply = await redis.xreadgroup('GROUP', GROUP, worker, 'COUNT', count, 'STREAMS', STREAM, '>');
  const [stream] = (reply ?? []) as [string, [string, string[]][]][];
  return (stream?.[1] ?? []).map(([id, fields]) => {
    const { product, changes = '{}' } = toRecord(fields);
    return { id, product: Number(product), changes: JSON.parse(changes) };
  });
}

// First MySQL, then the view, then the stream. A worker that dies between two of them leaves the write to the next.
export async function finish(redis: Redis, db: Pool, view: View, write: Write): Promise<void> {
  if (await apply(db, write)) await view.committed(write);
  else await view.refused(write);
  await redis.multi().xack(STREAM, GROUP, write.id).xdel(STREAM, write.id).exec();
}

// True once MySQL has committed the write; false when it refuses it. A write that comes late or twice undoes nothing.
export async function apply(db: Pool, { id, product, changes }: Write): Promise<boolean> {
  try {
    return await transaction(db, async (connection) => {
      const [rows] = await connection.query<RowDataPacket[]>(
        'SELECT id FROM products WHERE id = ? FOR UPDATE',
        [product],
      );
      for (const [column, value] of Object.entries(changes)) {
        const mark = [product, column, sortable(id)];
        await connection.query(
          `UPDATE products SET ?? = ?, updated_at = NOW(3) WHERE id = ? AND NOT EXISTS (
             SELECT 1 FROM applied_writes WHERE product_id = ? AND column_name = ? AND write_id >= ?)`,
          [column, value, product, ...mark],
        );
        await connection.query(
          `INSERT INTO applied_writes (product_id, column_name, write_id) VALUES (?)
           ON DUPLICATE KEY UPDATE write_id = GREATEST(write_id, VALUES(write_id))`,
          [mark],
        );
      }
      return rows.length > 0;
    });
  } catch (error) {
    // Classes 22 and 23: MySQL refuses the data, and will again. After all else the write comes again.
    if (/^2[23]/.test((error as { sqlState?: string }).sqlState ?? '')) return false;
    throw error;
  }
}
