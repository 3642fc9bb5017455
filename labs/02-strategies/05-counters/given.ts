import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';

/** The most that one call of `increment` may add. */
export const MAX_BY = 1_000_000_000;

/** In production: the most different ids that may wait in Redis for the next drain. */
export const MAX_IDS = 10_000;

/** In production: how long an increment or a read may take in all (ms). */
export const TIMEOUT_MS = 500;

/** In production: how long a drain may take in all (ms). */
export const DRAIN_TIMEOUT_MS = 30_000;

/** The hash of views that wait for the next drain. */
export const PENDING_KEY = '{views}:pending';

/** The batch that a drain is moving. A Redis Cluster keeps both keys in one slot: the tag {views} decides. */
export const DRAINING_KEY = '{views}:draining';

/** In production: one row for each batch whose views are in `products`. The tests create the table. */
export const CREATE_VIEW_BATCHES = `CREATE TABLE IF NOT EXISTS view_batches (
  id CHAR(36) CHARACTER SET ascii PRIMARY KEY,
  applied_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
)`;

export class InvalidIdError extends TypeError {
  override readonly name = 'InvalidIdError';

  constructor(id: unknown) {
    super(`a product id is a positive safe integer, not ${String(id)}`);
  }
}

export class InvalidIncrementError extends TypeError {
  override readonly name = 'InvalidIncrementError';

  constructor(by: unknown) {
    super(`an increment is an integer from 1 to ${MAX_BY}, not ${String(by)}`);
  }
}

export class BufferFullError extends Error {
  override readonly name = 'BufferFullError';

  constructor(maxIds: number) {
    super(`${maxIds} ids wait for a drain already`);
  }
}

/**
 * Adds the views to `products.view_count` in one statement, whatever their number. An id without a product is skipped.
 * @param views by id, as a hash of Redis has them: `{ '1': '5' }`
 */
export async function addViews(
  db: Pool | PoolConnection,
  views: Readonly<Record<string, string>>,
): Promise<void> {
  await db.query(
    `UPDATE products
     JOIN JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$[0]', views BIGINT UNSIGNED PATH '$[1]')) AS batch
       ON products.id = batch.id
     SET products.view_count = products.view_count + batch.views`,
    [JSON.stringify(Object.entries(views))],
  );
}

/** `products.view_count`, or null when there is no such product. */
export async function selectViews(db: Pool | PoolConnection, id: number): Promise<number | null> {
  const [rows] = await db.query<RowDataPacket[]>('SELECT view_count AS views FROM products WHERE id = ?', [
    id,
  ]);
  return rows[0] ? Number(rows[0].views) : null;
}
