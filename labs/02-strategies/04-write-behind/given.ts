import type { Redis } from 'ioredis';
import type { PoolConnection, RowDataPacket } from 'mysql2/promise';
import { toRecord } from '#kit/given';

/** Acknowledged writes that are not committed. */
export const STREAM = '{products}:writes';

/** The workers' group. The tests create it. In production: it may be lost. */
export const GROUP = 'workers';

/**
 * In production: writes that MySQL cannot store, each with `entry` (its id in STREAM), `error` (a text of MySQL) and its
 * fields. A Redis Cluster keeps both streams in one slot: the tag {products} decides.
 */
export const DEAD_LETTERS = '{products}:refused';

/** In production: how long `run` pauses when nothing waits, and after a failed step (ms). */
export const PAUSE_MS = 50;

/** New values. They replace the old ones. */
export interface Changes {
  /** As text: `'12.90'`. */
  readonly price?: string;
  readonly stock?: number;
}

/** A write in the stream. */
export interface Entry {
  /** Its stream id: `'1763600000000-0'`. */
  readonly id: string;
  readonly product: number;
  /** `price`, `stock` or both, as text. */
  readonly changes: Readonly<Record<string, string>>;
}

/** A locked row of `products`. Change `price`, `stock` and `marks`. */
export interface Row {
  readonly id: number;
  readonly name: string;
  readonly category_id: number;
  readonly updated_at: Date;
  price: string;
  stock: string;
  /** Yours: texts, committed with the row. Empty at first. */
  readonly marks: Record<string, string>;
}

/** In production: nothing was stored. Slow down, and try again later. */
export class BacklogFullError extends Error {
  override readonly name = 'BacklogFullError';

  constructor(atMost: number) {
    super(`${atMost} writes wait for MySQL already`);
  }
}

/** In production: nothing was sent. */
export class InvalidWriteError extends TypeError {
  override readonly name = 'InvalidWriteError';
}

/** In production: throws an InvalidWriteError for what no row can hold as it is. */
export function requireWrite(id: number, { price, stock }: Changes): void {
  const refuse = (why: string): never => {
    throw new InvalidWriteError(why);
  };
  if (!Number.isSafeInteger(id) || id < 1)
    refuse(`a product id is a positive safe integer, not ${String(id)}`);
  if (price === undefined && stock === undefined) refuse('a write has a price, a stock or both');
  if (price !== undefined && !/^\d{1,20}\.\d\d$/.test(price))
    refuse(`a price is a text like 12.90, not ${price}`);
  if (stock !== undefined && !Number.isSafeInteger(stock))
    refuse(`a stock is a safe integer, not ${String(stock)}`);
}

/** A write as fields for XADD: `['product', '1', 'stock', '7']`. */
export const toFields = (id: number, { price, stock }: Changes): string[] => [
  'product',
  String(id),
  ...(price === undefined ? [] : ['price', price]),
  ...(stock === undefined ? [] : ['stock', String(stock)]),
];

/** What XREADGROUP has answered, in the order of the stream. */
export function readEntries(reply: unknown): Entry[] {
  const [stream] = (reply ?? []) as [string, RawEntry[]][];
  return toEntries(stream?.[1] ?? []);
}

/** What XAUTOCLAIM has answered, in the order of the stream. */
export const claimedEntries = (reply: unknown): Entry[] => toEntries((reply as [string, RawEntry[]])[1]);

type RawEntry = [id: string, fields: string[] | null] | null;

/** A deleted entry has no fields. An entry without a product gets product 0, which does not exist. */
const toEntries = (raw: readonly RawEntry[]): Entry[] =>
  raw.flatMap((entry) => {
    if (!entry?.[1]) return [];
    const { product, ...changes } = toRecord(entry[1]);
    return [{ id: entry[0], product: Number(product) || 0, changes }];
  });

/** A stream id as text that sorts as the stream does: as ids, '5-10' sorts before '5-9'. */
export const sortable = (streamId: string): string =>
  streamId
    .split('-')
    .map((part) => part.padStart(20, '0'))
    .join('-');

/** In production: creates the stream and its group, unless they exist. */
export async function createGroup(redis: Redis): Promise<void> {
  await redis.xgroup('CREATE', STREAM, GROUP, '0', 'MKSTREAM').catch((error: Error) => {
    if (!error.message.startsWith('BUSYGROUP')) throw error;
  });
}

/** The tests create it. */
export const CREATE_APPLIED_WRITES = `CREATE TABLE IF NOT EXISTS applied_writes (
  product_id BIGINT UNSIGNED PRIMARY KEY,
  marks VARCHAR(500) NOT NULL
)`;

const COLUMNS = ['id', 'name', 'category_id', 'updated_at', 'price', 'stock'] as const;

/** Locks these rows until the transaction ends, and returns those that exist. Call it once. */
export async function lockProducts(connection: PoolConnection, ids: readonly number[]): Promise<Row[]> {
  if (ids.length === 0) return [];
  const [rows] = await connection.query<(Row & RowDataPacket)[]>(
    'SELECT ?? FROM products WHERE id IN (?) ORDER BY id FOR UPDATE',
    [COLUMNS, ids],
  );
  // After the lock: the snapshot of this first plain read holds what the worker before has committed.
  const [marks] = await connection.query<RowDataPacket[]>(
    'SELECT product_id, marks FROM applied_writes WHERE product_id IN (?)',
    [ids],
  );
  const marksOf = new Map(marks.map((row) => [Number(row.product_id), JSON.parse(row.marks)]));
  return rows.map((row) => ({ ...row, stock: String(row.stock), marks: marksOf.get(row.id) ?? {} }));
}

/** Writes rows and marks in two statements, whatever their number. */
export async function saveProducts(connection: PoolConnection, rows: readonly Row[]): Promise<void> {
  if (rows.length === 0) return;
  // The rows exist, so each INSERT ends as an UPDATE. MariaDB does not know the alias that MySQL prefers to VALUES().
  await connection.query(
    `INSERT INTO products (??) VALUES ?
     ON DUPLICATE KEY UPDATE price = VALUES(price), stock = VALUES(stock), version = version + 1, updated_at = NOW(3)`,
    [COLUMNS, rows.map((row) => COLUMNS.map((column) => row[column]))],
  );
  await connection.query(
    'INSERT INTO applied_writes (product_id, marks) VALUES ? ON DUPLICATE KEY UPDATE marks = VALUES(marks)',
    [rows.map(({ id, marks }) => [id, JSON.stringify(marks)])],
  );
}

/**
 * In production: whether MySQL refuses the data itself, and will again. SQLSTATE class 22 (out of range, too long) or 23 (a
 * constraint), and three errors that it files elsewhere. All else, such as a deadlock or a lost connection, may pass.
 */
export function isRefusal(error: unknown): error is Error {
  const { sqlState, errno } = error as { sqlState?: string; errno?: number };
  return /^2[23]/.test(sqlState ?? '') || [1265, 1366, 3819].includes(errno ?? 0);
}
