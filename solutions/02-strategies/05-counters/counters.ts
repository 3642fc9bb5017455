import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/** The most that one call of `increment` may add. */
export const MAX_BY = 1000;
/** The most different ids that may wait in Redis for the next batch. */
export const MAX_IDS = 10_000;
/** How long an increment and a read may take (ms). */
export const TIMEOUT_MS = 500;
/** How long a drain may take (ms). A batch that needs longer than this can never be applied: be generous. */
export const DRAIN_TIMEOUT_MS = 30_000;

/** Both names carry the tag {views}: a Redis Cluster keeps them in one slot, and a script may use both. */
export const PENDING_KEY = '{views}:pending';
export const DRAINING_KEY = '{views}:draining';

/** One row for each batch whose views are in `products`. The tests create the table and empty it. */
export const CREATE_VIEW_BATCHES = `CREATE TABLE IF NOT EXISTS view_batches (
  id CHAR(36) CHARACTER SET ascii PRIMARY KEY,
  applied_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)
)`;

export interface ViewCounterOptions {
  redis: Redis;
  /**
   * A call that gives up on its connection destroys it: no one else may meet its transaction or wait behind its
   * statement. One that comes free too late is not kept from the pool either.
   */
  db: Pool;
  /** See {@link MAX_IDS}. */
  maxIds?: number;
  /** See {@link TIMEOUT_MS}. */
  timeoutMs?: number;
  /** See {@link DRAIN_TIMEOUT_MS}. */
  drainTimeoutMs?: number;
}

export interface ViewCounter {
  /**
   * Counts views of a product, in Redis only. Once it has resolved, the views are in every `read` and will be in
   * `products.view_count`. When it rejects with another error than the first three below, they may have been
   * counted or not: whoever calls again may count them twice.
   * @param id a positive safe integer. Whether there is such a product is not asked.
   * @param by an integer from 1 to {@link MAX_BY}
   * @throws {InvalidIdError} @throws {InvalidIncrementError} before Redis is asked
   * @throws {BufferFullError} when `maxIds` ids wait already and this is not one of them: nothing was counted
   * @throws {DeadlineError} when Redis has not answered within `timeoutMs`
   */
  increment(id: number, by?: number): Promise<void>;
  /**
   * Moves one batch to `products.view_count`: the one that an earlier drain has left behind, or else all that
   * waits. Each batch is applied exactly once, though a drain may die between any two requests to a server, and
   * several may run at once.
   * Ids without a product are dropped. When it rejects, the batch may have been applied or not: the next call finds
   * out at once, and does what is left to do.
   * @throws {DeadlineError} when MySQL or Redis has not answered within `drainTimeoutMs`, or no connection came free
   */
  drain(): Promise<void>;
  /**
   * The views of a product, or null when there is no such product: what is in the database, what is on its way and
   * what waits, each view once. Every increment that had resolved before the call is in it; one that runs meanwhile
   * may be. So a read that begins after another has ended is never smaller, wherever a batch is in between.
   * Exact up to 2^53.
   * @throws {InvalidIdError} @throws {DeadlineError} when Redis or MySQL has not answered within `timeoutMs`, or no
   * connection came free
   */
  read(id: number): Promise<number | null>;
}

export class InvalidIdError extends Error {
  override name = 'InvalidIdError';
}

export class InvalidIncrementError extends Error {
  override name = 'InvalidIncrementError';
}

export class BufferFullError extends Error {
  override name = 'BufferFullError';
}

export class DeadlineError extends Error {
  override name = 'DeadlineError';
}

/** The promise, or a {@link DeadlineError} after `ms`. What becomes of a promise that came too late is ignored. */
export async function withDeadline<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DeadlineError(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The field that names the batch. No id looks like it. */
const BATCH = '#batch';

// #region increment
/** The batch gets its id with its first view: whoever sees the views also sees in which batch they will be applied. */
const INCREMENT = `
  local known = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1
  if not known and redis.call('HLEN', KEYS[1]) > tonumber(ARGV[3]) then return 0 end
  redis.call('HSETNX', KEYS[1], '${BATCH}', ARGV[4])
  redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
  return 1`;
// #endregion

// #region take
/** A batch left behind comes first: RENAMENX does nothing while there is one. */
const TAKE = `
  if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAMENX', KEYS[1], KEYS[2]) end
  return redis.call('HGETALL', KEYS[2])`;

/** Another drainer may have ended this batch and begun the next under the same name. */
const END = `
  if redis.call('HGET', KEYS[1], '${BATCH}') == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
  return 1`;
// #endregion

// #region apply
/** One statement for all rows, one parameter for all numbers. An id without a product joins nothing. */
const APPLY = `
  UPDATE products
  JOIN JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$[0]', views BIGINT UNSIGNED PATH '$[1]')) AS batch
    ON products.id = batch.id
  SET products.view_count = products.view_count + batch.views`;
// #endregion

// #region read
/** Both batches, each with its id, at one moment. */
const WAITING = `
  local draining = redis.call('HMGET', KEYS[1], '${BATCH}', ARGV[1])
  local pending = redis.call('HMGET', KEYS[2], '${BATCH}', ARGV[1])
  return {draining[1], draining[2], pending[1], pending[2]}`;

/** One statement, so one snapshot: a batch is noted in it if and only if its views are in this view_count. */
const READ = `
  SELECT view_count
    + IF(EXISTS (SELECT 1 FROM view_batches WHERE id = ?), 0, ?)
    + IF(EXISTS (SELECT 1 FROM view_batches WHERE id = ?), 0, ?) AS views
  FROM products WHERE id = ?`;
// #endregion

/** A view counter before `products.view_count`. Redis must not evict: what waits in it has no copy elsewhere. */
export function createViewCounter({
  redis,
  db,
  maxIds = MAX_IDS,
  timeoutMs = TIMEOUT_MS,
  drainTimeoutMs = DRAIN_TIMEOUT_MS,
}: ViewCounterOptions): ViewCounter {
  return {
    // #region counter
    async increment(id, by = 1) {
      checkId(id);
      if (!Number.isInteger(by) || by < 1 || by > MAX_BY) {
        throw new InvalidIncrementError(`by is an integer from 1 to ${MAX_BY}, not ${String(by)}`);
      }
      const counting = redis.eval(INCREMENT, 1, PENDING_KEY, id, by, maxIds, randomUUID());
      if ((await withDeadline(counting, timeoutMs)) === 0) {
        throw new BufferFullError(`${maxIds} ids wait for a drain: product ${id} was not counted`);
      }
    },

    async drain() {
      const taking = redis.eval(TAKE, 2, PENDING_KEY, DRAINING_KEY) as Promise<string[]>;
      const { [BATCH]: batch, ...views } = pairs(await withDeadline(taking, drainTimeoutMs));
      if (batch === undefined) return;
      await withConnection(db, drainTimeoutMs, (connection) => applyOnce(connection, batch, views));
      await withDeadline(redis.eval(END, 1, DRAINING_KEY, batch), drainTimeoutMs);
    },

    async read(id) {
      checkId(id);
      // Redis before the database: a batch that moves in between is found there, and its id with it.
      const asking = redis.eval(WAITING, 2, DRAINING_KEY, PENDING_KEY, id) as Promise<(string | null)[]>;
      const [draining, moving, pending, waiting] = await withDeadline(asking, timeoutMs);
      const values = [draining ?? '', Number(moving), pending ?? '', Number(waiting), id];
      const [[row]] = await withConnection(db, timeoutMs, (connection) =>
        connection.query<RowDataPacket[]>(READ, values),
      );
      return row ? Number(row.views) : null;
    },
    // #endregion
  };
}

// #region apply-once
/** Adds the views and notes the batch: both or neither, and neither when the batch is noted already. */
async function applyOnce(connection: PoolConnection, batch: string, views: Record<string, string>) {
  await connection.beginTransaction();
  // Whoever holds the same batch waits here until this transaction ends.
  const note = 'INSERT IGNORE INTO view_batches (id) VALUES (?)';
  const [{ affectedRows }] = await connection.query<ResultSetHeader>(note, [batch]);
  if (affectedRows === 1) {
    const rows = Object.entries(views).map(([id, count]) => `[${id},${count}]`);
    await connection.query(APPLY, [`[${rows}]`]);
  }
  await connection.commit();
}
// #endregion

// #region with-connection
/** Runs `work` on a connection of its own, which is closed unless all went well. */
async function withConnection<T>(db: Pool, ms: number, work: (connection: PoolConnection) => Promise<T>) {
  const opening = db.getConnection();
  try {
    const result = await withDeadline(opening.then(work), ms);
    (await opening).release();
    return result;
  } catch (error) {
    // Closing rolls back, and needs no answer. What became of a COMMIT is not known: its batch id tells.
    opening.then(
      (connection) => connection.destroy(),
      () => {},
    );
    throw error;
  }
}
// #endregion

function checkId(id: number): void {
  if (!Number.isSafeInteger(id) || id < 1) {
    throw new InvalidIdError(`a product id is a positive safe integer, not ${String(id)}`);
  }
}

/** HGETALL inside a script answers with a flat list. */
function pairs(flat: readonly string[]): Record<string, string> {
  const record: Record<string, string> = {};
  for (let at = 0; at + 1 < flat.length; at += 2) record[`${flat[at]}`] = `${flat[at + 1]}`;
  return record;
}
