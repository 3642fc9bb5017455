import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { DeadlineError, toRecord, withDeadline } from '#kit/given';
import {
  addViews,
  BufferFullError,
  DRAIN_TIMEOUT_MS,
  DRAINING_KEY,
  InvalidIdError,
  InvalidIncrementError,
  MAX_BY,
  MAX_IDS,
  PENDING_KEY,
  TIMEOUT_MS,
} from './given';

export interface ViewCounter {
  /** Adds `by` (1 if absent) to the views of a product, in Redis only. */
  increment(id: number, by?: number): Promise<void>;
  /** Moves one batch to `products.view_count`: the one that an earlier drain has left behind, else all that waits. */
  drain(): Promise<void>;
  /** All views of a product, each counted once. Null when there is no such product. */
  read(id: number): Promise<number | null>;
}

/** In production: a call that is not done in its time rejects with the DeadlineError of `#kit/given`. */
export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** In production: how many different ids may wait. A call with one more rejects with BufferFullError. */
  readonly maxIds?: number;
  /** In production: how long an increment or a read may take in all (ms). */
  readonly timeoutMs?: number;
  /** In production: how long a drain may take in all (ms). */
  readonly drainTimeoutMs?: number;
}

/** The field that names the batch. No id looks like it. */
const BATCH = '#batch';

// #region increment
/** The batch gets its id with its first view: a read that sees the views also sees in which batch they will be applied. */
const INCREMENT = `
  local known = redis.call('HEXISTS', KEYS[1], ARGV[1]) == 1
  local ids = redis.call('HLEN', KEYS[1]) - redis.call('HEXISTS', KEYS[1], '${BATCH}')
  if not known and ids >= tonumber(ARGV[3]) then return 0 end
  redis.call('HSETNX', KEYS[1], '${BATCH}', ARGV[4])
  redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])
  return 1`;
// #endregion

// #region take
/** A batch left behind comes first: RENAMENX does nothing while there is one. */
const TAKE = `
  if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('RENAMENX', KEYS[1], KEYS[2]) end
  return redis.call('HGETALL', KEYS[2])`;

/** Another drainer may have ended this batch and begun the next one under the same key. */
const END = `
  if redis.call('HGET', KEYS[1], '${BATCH}') == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
  return 1`;
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

/** View counts that are buffered in Redis, in front of `products.view_count`. */
export function createViewCounter({
  redis,
  db,
  maxIds = MAX_IDS,
  timeoutMs = TIMEOUT_MS,
  drainTimeoutMs = DRAIN_TIMEOUT_MS,
}: Options): ViewCounter {
  // #region counter
  async function increment(id: number, by = 1): Promise<void> {
    requireId(id);
    if (!Number.isInteger(by) || by < 1 || by > MAX_BY) throw new InvalidIncrementError(by);
    const counting = redis.eval(INCREMENT, 1, PENDING_KEY, id, by, maxIds, randomUUID());
    if ((await withDeadline(counting, timeoutMs)) === 0) throw new BufferFullError(maxIds);
  }

  async function drain(): Promise<void> {
    const inTime = startClock(drainTimeoutMs);
    const taking = redis.eval(TAKE, 2, PENDING_KEY, DRAINING_KEY) as Promise<string[]>;
    const { [BATCH]: batch, ...views } = toRecord(await inTime(taking));
    if (batch === undefined) return;
    await withConnection(db, inTime, (connection) => applyOnce(connection, batch, views));
    await inTime(redis.eval(END, 1, DRAINING_KEY, batch));
  }

  async function read(id: number): Promise<number | null> {
    requireId(id);
    const inTime = startClock(timeoutMs);
    // Redis before MySQL: a batch that moves in between is found there, and its id with it.
    const asking = redis.eval(WAITING, 2, DRAINING_KEY, PENDING_KEY, id) as Promise<(string | null)[]>;
    const [draining, moving, pending, waiting] = await inTime(asking);
    const values = [draining ?? '', Number(moving), pending ?? '', Number(waiting), id];
    const [[row]] = await withConnection(db, inTime, (connection) =>
      connection.query<RowDataPacket[]>(READ, values),
    );
    return row ? Number(row.views) : null;
  }
  // #endregion

  return { increment, drain, read };
}

// #region apply-once
/** Adds the views and notes the batch: both or neither, and neither when the batch is noted already. */
async function applyOnce(connection: PoolConnection, batch: string, views: Record<string, string>) {
  await connection.beginTransaction();
  // A drainer with the same batch waits here until this transaction ends.
  const note = 'INSERT IGNORE INTO view_batches (id) VALUES (?)';
  const [{ affectedRows }] = await connection.query<ResultSetHeader>(note, [batch]);
  if (affectedRows === 1) await addViews(connection, views);
  await connection.commit();
}
// #endregion

// #region deadline
type InTime = <T>(promise: Promise<T>) => Promise<T>;

/** One clock for all steps of a call. */
function startClock(ms: number): InTime {
  const end = performance.now() + ms;
  return (promise) =>
    withDeadline(promise, Math.max(end - performance.now(), 0), () => new DeadlineError(ms));
}

/** Runs `work` on a connection of its own, which is closed unless all went well. */
async function withConnection<T>(db: Pool, inTime: InTime, work: (connection: PoolConnection) => Promise<T>) {
  const opening = db.getConnection();
  const connection = await inTime(opening).catch((error) => {
    // A connection that comes after the deadline goes back unused.
    opening.then(
      (late) => late.release(),
      () => {},
    );
    throw error;
  });
  try {
    const result = await inTime(work(connection));
    connection.release();
    return result;
  } catch (error) {
    // Closing rolls back, and needs no answer. The batch id will tell what became of a COMMIT.
    connection.destroy();
    throw error;
  }
}
// #endregion

function requireId(id: number): void {
  if (!Number.isSafeInteger(id) || id < 1) throw new InvalidIdError(id);
}
