import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';
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
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  readonly maxIds?: number;
  readonly timeoutMs?: number;
  readonly drainTimeoutMs?: number;
}

/** A batch gets its id when it is taken, in the same script. Each taking is counted. */
const BATCH = 'batch';
const TAKEN_KEY = '{views}:taken';

const COUNT = `
  if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then
    return redis.error_reply('FULL')
  end
  return redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2])`;

const TAKE = `
  if redis.call('EXISTS', KEYS[2]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('RENAME', KEYS[1], KEYS[2])
    redis.call('HSET', KEYS[2], '${BATCH}', ARGV[1])
    redis.call('INCR', KEYS[3])
  end
  return redis.call('HGETALL', KEYS[2])`;

const END = `if redis.call('HGET', KEYS[1], '${BATCH}') == ARGV[1] then redis.call('DEL', KEYS[1]) end`;

const LOOK = `
  local moving = redis.call('HMGET', KEYS[2], '${BATCH}', ARGV[1])
  return {redis.call('GET', KEYS[3]) or '', moving[1] or '', moving[2] or 0, redis.call('HGET', KEYS[1], ARGV[1]) or 0}`;

/** A read looks at Redis, at MySQL, and again at Redis: when a batch was taken meanwhile, it starts over. */
export function createViewCounter({
  redis,
  db,
  maxIds = MAX_IDS,
  timeoutMs = TIMEOUT_MS,
  drainTimeoutMs = DRAIN_TIMEOUT_MS,
}: Options) {
  const keys = [PENDING_KEY, DRAINING_KEY, TAKEN_KEY];

  async function increment(id: number, by = 1): Promise<void> {
    checkId(id);
    if (typeof by !== 'number' || by % 1 !== 0 || by < 1 || by > MAX_BY) throw new InvalidIncrementError(by);
    try {
      await withDeadline(redis.eval(COUNT, 1, PENDING_KEY, id, by, maxIds), timeoutMs);
    } catch (error) {
      throw String(error).includes('FULL') ? new BufferFullError(maxIds) : error;
    }
  }

  async function drain(): Promise<void> {
    const end = Date.now() + drainTimeoutMs;
    const taken = await before(end, redis.eval(TAKE, 3, ...keys, randomUUID()));
    const { [BATCH]: batch, ...views } = toRecord(taken as string[]);
    if (batch === undefined) return;
    await onConnection(end, async (connection) => {
      await connection.beginTransaction();
      try {
        await connection.query('INSERT INTO view_batches (id) VALUES (?)', [batch]);
        await addViews(connection, views);
        await connection.commit();
      } catch (error) {
        await connection.rollback();
        // The batch is noted: all of it has been added.
        if (Object(error).code !== 'ER_DUP_ENTRY') throw error;
      }
    });
    await before(end, redis.eval(END, 1, DRAINING_KEY, batch));
  }

  async function read(id: number): Promise<number | null> {
    checkId(id);
    const end = Date.now() + timeoutMs;
    for (;;) {
      const [taken, batch, moving, pending] = await look(end, id);
      const [[row]] = await onConnection(end, (connection) =>
        connection.query<RowDataPacket[]>(
          `SELECT view_count AS counted, EXISTS (SELECT 1 FROM view_batches WHERE id = ?) AS noted
           FROM products WHERE id = ?`,
          [batch, id],
        ),
      );
      if (!row) return null;
      const [takenNow] = await look(end, id);
      if (takenNow === taken) return Number(row.counted) + (row.noted ? 0 : Number(moving)) + Number(pending);
    }
  }

  const look = (end: number, id: number) =>
    before(end, redis.eval(LOOK, 3, ...keys, id) as Promise<[string, string, string, string]>);

  async function onConnection<T>(end: number, work: (connection: PoolConnection) => Promise<T>): Promise<T> {
    const opening = db.getConnection();
    let connection: PoolConnection;
    try {
      connection = await before(end, opening);
    } catch (error) {
      opening.then((late) => late.release()).catch(() => {});
      throw error;
    }
    let isFit = false;
    try {
      const result = await before(end, work(connection));
      isFit = true;
      return result;
    } finally {
      if (isFit) connection.release();
      else connection.destroy();
    }
  }

  return { increment, drain, read };
}

function before<T>(end: number, promise: Promise<T>): Promise<T> {
  const left = Math.max(end - Date.now(), 0);
  return withDeadline(promise, left, () => new DeadlineError(left));
}

function checkId(id: unknown): void {
  if (!Number.isSafeInteger(id) || Number(id) < 1) throw new InvalidIdError(id);
}
