import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';

/**
 * The table of what has to be invalidated; the tests create it. One row is one event: one key of the cache that the
 * transaction which inserted the row has made old. `entity` is {@link entityOf} the product. It is empty most of the time.
 */
export const CREATE_OUTBOX = `CREATE TABLE IF NOT EXISTS outbox (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  entity VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  cache_key VARCHAR(190) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  KEY by_entity (entity, id)
)`;

/** The Redis Stream of what was invalidated: entries `outbox ID entity ENTITY key KEY`, ID in decimal digits. */
export const STREAM = 'invalidations';

export const entityOf = (productId: number): string => `product:${productId}`;
export const productKey = (id: number): string => `product:${id}`;
export const categoryKey = (categoryId: number): string => `category:${categoryId}:products`;

/** How long an entry of the cache lives at most (ms): the bound for what no event reaches. */
export const ENTRY_TTL_MS = 10 * 60_000;

export interface Product {
  readonly id: number;
  readonly name: string;
  /** DECIMAL as text. */
  readonly price: string;
  readonly categoryId: number;
}

/** What is left out stays as it is. */
export interface Changes {
  readonly price?: string;
  /** Moves the product to another category. */
  readonly categoryId?: number;
}

export class DeadlineError extends Error {
  override readonly name = 'DeadlineError';

  constructor(ms: number) {
    super(`not finished within ${ms} ms`);
  }
}

/**
 * What `work` yields, once it is committed; rolled back when `work` rejects. All of it ends within `ms`, the wait for a
 * connection too. Then, and after any failure, the connection is closed: a COMMIT whose answer was lost may have happened. Provided.
 * @throws {@link DeadlineError} or what has failed
 */
export async function transaction<T>(
  db: Pool,
  ms: number,
  isolation: 'READ COMMITTED' | 'REPEATABLE READ',
  work: (connection: PoolConnection) => Promise<T>,
): Promise<T> {
  const opening = db.getConnection();
  const committed = opening.then(async (connection) => {
    await connection.query(`SET TRANSACTION ISOLATION LEVEL ${isolation}`);
    await connection.beginTransaction();
    const result = await work(connection);
    await connection.commit();
    return result;
  });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DeadlineError(ms)), ms);
  });
  try {
    const result = await Promise.race([committed, late]);
    (await opening).release();
    return result;
  } catch (error) {
    // A ROLLBACK could hang as well. The server rolls back what a closed connection leaves.
    opening.then(
      (connection) => connection.destroy(),
      () => {},
    );
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** Cache-aside for a reader: the entry, else what `load` yields, which is stored. Without Redis it is not stored. Provided. */
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

/** Provided. */
export async function selectProduct(db: Pool, id: number): Promise<Product | null> {
  const sql = `SELECT ${COLUMNS} FROM products WHERE id = ?`;
  const [rows] = await db.execute<(Product & RowDataPacket)[]>(sql, [id]);
  return rows[0] ? { ...rows[0] } : null;
}

/** Provided. */
export async function selectCategory(db: Pool, categoryId: number): Promise<Product[]> {
  const sql = `SELECT ${COLUMNS} FROM products WHERE category_id = ? ORDER BY id`;
  const [rows] = await db.execute<(Product & RowDataPacket)[]>(sql, [categoryId]);
  return rows.map((row) => ({ ...row }));
}

/** Waits `ms`, or until the signal aborts; it never rejects. Provided. */
export const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  sleep(ms, undefined, { signal }).catch(() => {});

export interface Catalogue {
  /** The product, or null; by {@link cached} under {@link productKey}. */
  product(id: number): Promise<Product | null>;
  /** The products of a category; by {@link cached} under {@link categoryKey}. */
  category(categoryId: number): Promise<Product[]>;
  /**
   * Writes the changes and `updated_at` (NOW(3)) to `products`, and one event for each key that they make old to the outbox:
   * both are committed, or neither. The keys are the product's, and those of the categories that it leaves and enters (of the
   * one it stays in, when it is not moved). The events of one product have ids in the order in which its updates commit, and
   * the category it leaves is the one that the update before has put it in, also when several updates of it run at once.
   * Resolves after the COMMIT: with true, or with false (and without an event) when there is no such product. Redis is not
   * needed for it.
   * @throws what MySQL says, or {@link DeadlineError}; then it may have been committed only if the COMMIT's answer was lost
   */
  update(id: number, changes: Changes): Promise<boolean>;
}

/** @param deadlineMs how long an update may take */
export function createCatalogue({
  db,
  redis,
  deadlineMs = 5000,
}: {
  readonly db: Pool;
  readonly redis: Redis;
  readonly deadlineMs?: number;
}): Catalogue {
  throw new Error('not implemented');
}

export interface Relay {
  /**
   * Takes up to `batchSize` events that nobody else has in hand, oldest first; deletes their keys from the cache; appends them
   * to the {@link STREAM}, each after its key is gone; then deletes them from the outbox. An event is passed over, to be taken
   * later, while an earlier event of its entity is in another relay's hands. So the stream has the events of an entity in the
   * order of their ids, if an event that comes a second time is not counted (and if none is inserted behind the back of a
   * later one: {@link Catalogue.update} sees to that).
   * It waits neither for another relay nor for a transaction that is still open, nor lets an update wait. Mind the DELETE: a
   * server that scans the table for it waits at the first row that another relay has locked, and `id IN (…)` may be a scan.
   * @returns how many events were deleted from the outbox; 0 when there was none, or all of the oldest `batchSize` that nobody
   *   has in hand had to be passed over
   * @throws what Redis or MySQL says, or {@link DeadlineError}. The events are in the outbox then, free to be taken again by
   * anyone (or, if only the COMMIT's answer was lost, done): some of them may be in the stream already
   */
  pass(): Promise<number>;
  /**
   * Passes until the signal aborts: at once after a pass that had work, `pauseMs` after one that had none. A pass that fails is
   * told to `onError`, each time; the next follows later and later, from `pauseMs` to RETRY_AT_MOST_MS. The abort ends a pause,
   * not a pass: `run` resolves when that has ended, well or badly.
   */
  run(signal: AbortSignal): Promise<void>;
}

/** The longest pause after a failure (ms). */
export const RETRY_AT_MOST_MS = 5000;

/**
 * A relay from the outbox to Redis. Any number of them may run.
 * @param redis has a `commandTimeout`: each command settles within it
 * @param streamMaxLen about how many entries the stream keeps (MAXLEN ~): what a listener may miss before it must clear
 * @param deadlineMs how long a pass may take; above the `commandTimeout` of the commands that it sends, one after the other
 * @param pauseMs above 0
 * @param onError must not throw
 */
export function createRelay({
  db,
  redis,
  batchSize = 100,
  streamMaxLen = 10_000,
  deadlineMs = 5000,
  pauseMs = 20,
  onError = () => {},
}: {
  readonly db: Pool;
  readonly redis: Redis;
  readonly batchSize?: number;
  readonly streamMaxLen?: number;
  readonly deadlineMs?: number;
  readonly pauseMs?: number;
  readonly onError?: (error: unknown) => void;
}): Relay {
  throw new Error('not implemented');
}

export interface Listener {
  /**
   * Reads the next entries of the stream, behind the last one that it has seen, and calls `apply` with the key of each, in
   * their order. It begins at the stream's beginning. When the last entry that it has seen is no longer in the stream after the
   * read, or when these are the first that it reads, it cannot know what it has missed: then it calls `clear`, and need not
   * `apply` what it has read. When it rejects, the next poll begins at the same place.
   * @param waitMs how long to wait for an entry when there is none (0: not at all)
   * @returns how many entries it has read
   */
  poll(waitMs?: number): Promise<number>;
  /**
   * Polls until the signal aborts, waiting in Redis for WAIT_MS at a time; resolves within WAIT_MS of the abort, or within the
   * `commandTimeout` of a Redis that is silent. A failure is told to `onError`; the next poll follows WAIT_MS later.
   */
  run(signal: AbortSignal): Promise<void>;
}

/** How long `run` waits for an entry, and after a failure (ms). */
export const WAIT_MS = 100;

/** What XREAD lists. Provided. */
export function entriesOf(reply: unknown): { id: string; key: string | undefined }[] {
  const [stream] = (reply ?? []) as [string, [string, string[]][]][];
  return (stream?.[1] ?? []).map(([id, fields]) => ({ id, key: fields[fields.indexOf('key') + 1] }));
}

/**
 * Keeps the cache of one process (an L1) in step with what the relays do. It remembers its place as long as it lives.
 * @param redis for this listener alone: it waits in XREAD. Its `commandTimeout` is above WAIT_MS
 * @param apply drops a key; more than once does no harm
 * @param clear drops all keys
 */
export function createListener({
  redis,
  apply,
  clear,
  onError = () => {},
}: {
  readonly redis: Redis;
  readonly apply: (key: string) => void;
  readonly clear: () => void;
  readonly onError?: (error: unknown) => void;
}): Listener {
  throw new Error('not implemented');
}
