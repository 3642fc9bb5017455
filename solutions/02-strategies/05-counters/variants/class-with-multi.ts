import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { DeadlineError } from '#kit/given';
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

/** The ids of both batches, under keys of their own beside the hashes. */
const PENDING_BATCH = `${PENDING_KEY}:batch`;
const DRAINING_BATCH = `${DRAINING_KEY}:batch`;

const COUNT = `
  local isNew = redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[2]) == tonumber(ARGV[2])
  if isNew and redis.call('HLEN', KEYS[1]) > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], ARGV[1])
    return 'full'
  end
  redis.call('SETNX', KEYS[2], ARGV[4])
  return 'counted'`;

const TAKE = `
  if redis.call('EXISTS', KEYS[3]) == 0 and redis.call('EXISTS', KEYS[1]) == 1 then
    redis.call('RENAME', KEYS[1], KEYS[3])
    redis.call('RENAME', KEYS[2], KEYS[4])
  end`;

const END = `if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[1], KEYS[2]) end`;

/** A class. Each call runs as a whole under its deadline, and looks at a signal before it begins a step. */
class ViewCounter {
  readonly #redis: Redis;
  readonly #db: Pool;
  readonly #limits: Readonly<Record<'maxIds' | 'timeoutMs' | 'drainTimeoutMs', number>>;

  constructor({ redis, db, ...limits }: Options) {
    this.#redis = redis;
    this.#db = db;
    const { maxIds = MAX_IDS, timeoutMs = TIMEOUT_MS, drainTimeoutMs = DRAIN_TIMEOUT_MS } = limits;
    this.#limits = { maxIds, timeoutMs, drainTimeoutMs };
  }

  async increment(id: number, by = 1): Promise<void> {
    checkId(id);
    if (!(Number.isInteger(by) && by >= 1 && by <= MAX_BY)) throw new InvalidIncrementError(by);
    const { maxIds, timeoutMs } = this.#limits;
    const args = [id, by, maxIds, randomUUID()];
    const answer = await within(timeoutMs, () =>
      this.#redis.eval(COUNT, 2, PENDING_KEY, PENDING_BATCH, ...args),
    );
    if (answer === 'full') throw new BufferFullError(maxIds);
  }

  drain(): Promise<void> {
    return within(this.#limits.drainTimeoutMs, async (signal) => {
      const answers = await this.#redis
        .multi()
        .eval(TAKE, 4, PENDING_KEY, PENDING_BATCH, DRAINING_KEY, DRAINING_BATCH)
        .get(DRAINING_BATCH)
        .hgetall(DRAINING_KEY)
        .exec();
      const [, [, batch] = [], [, views] = []] = answers ?? [];
      if (typeof batch !== 'string') return;
      await this.#onConnection(signal, (connection) => add(connection, batch, Object(views)));
      await this.#redis.eval(END, 2, DRAINING_KEY, DRAINING_BATCH, batch);
    });
  }

  async read(id: number): Promise<number | null> {
    checkId(id);
    return within(this.#limits.timeoutMs, async (signal) => {
      const answers = await this.#redis
        .multi()
        .mget(PENDING_BATCH, DRAINING_BATCH)
        .hget(PENDING_KEY, String(id))
        .hget(DRAINING_KEY, String(id))
        .exec();
      const [[, batches] = [], [, pending] = [], [, moving] = []] = answers ?? [];
      const [pendingBatch = null, drainingBatch = null] = Array.isArray(batches) ? batches : [];
      const [[row]] = await this.#onConnection(signal, (connection) =>
        connection.query<RowDataPacket[]>(
          `SELECT view_count AS counted, (SELECT GROUP_CONCAT(id) FROM view_batches WHERE id IN (?, ?)) AS noted
           FROM products WHERE id = ?`,
          [pendingBatch, drainingBatch, id],
        ),
      );
      if (!row) return null;
      const noted = new Set(String(row.noted).split(','));
      const waits = (batch: string | null, views: unknown) => (noted.has(String(batch)) ? 0 : Number(views));
      return Number(row.counted) + waits(pendingBatch, pending) + waits(drainingBatch, moving);
    });
  }

  async #onConnection<T>(signal: AbortSignal, work: (connection: PoolConnection) => Promise<T>): Promise<T> {
    const connection = await this.#db.getConnection();
    if (signal.aborted) {
      connection.release();
      throw signal.reason;
    }
    const giveUp = () => connection.destroy();
    signal.addEventListener('abort', giveUp);
    try {
      const result = await work(connection);
      if (!signal.aborted) connection.release();
      return result;
    } catch (error) {
      giveUp();
      throw error;
    } finally {
      signal.removeEventListener('abort', giveUp);
    }
  }
}

export const createViewCounter = (options: Options) => new ViewCounter(options);

async function add(connection: PoolConnection, batch: string, views: Record<string, string>): Promise<void> {
  await connection.query('START TRANSACTION');
  const [noting] = await connection.query<ResultSetHeader>(
    'INSERT INTO view_batches (id) VALUES (?) ON DUPLICATE KEY UPDATE applied_at = applied_at + INTERVAL 1 SECOND',
    [batch],
  );
  // 2 for a row that was there and has changed.
  if (noting.affectedRows === 1) await addViews(connection, views);
  await connection.query('COMMIT');
}

function within<T>(ms: number, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      const late = new DeadlineError(ms);
      controller.abort(late);
      reject(late);
    }, ms);
    call(controller.signal)
      .then(resolve, reject)
      .finally(() => clearTimeout(timer));
  });
}

function checkId(id: number): void {
  if (!Number.isSafeInteger(id) || id < 1) throw new InvalidIdError(id);
}
