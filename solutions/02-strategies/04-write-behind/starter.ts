import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';

/** A product as readers see it: the row, and over it what was acknowledged and is not committed yet. */
export interface Product {
  readonly id: number;
  readonly name: string;
  /** A decimal text: '12.90'. */
  readonly price: string;
  readonly stock: number;
}

/** New values, one at least. They replace the old ones: a write that is sent twice says the same. */
export interface Changes {
  /** As MySQL shows it, with both digits behind the point: the view says the same before the COMMIT and after. */
  readonly price?: string;
  /** A safe integer. */
  readonly stock?: number;
}

/** Writes that were acknowledged and are not committed: entries `product ID [price TEXT] [stock TEXT]`. */
export const STREAM = '{products}:writes';

/** The consumer group of the workers. It begins at the stream's beginning; the first worker creates it, if nobody has. */
export const GROUP = 'workers';

/** Writes that MySQL refused: entries `entry STREAM-ID error TEXT product ID …`. The newest DEAD_LETTERS_AT_MOST, about. */
export const DEAD_LETTERS = '{products}:refused';
export const DEAD_LETTERS_AT_MOST = 10_000;

/** A product's view: a hash. The tag keeps it in the stream's slot, so that one script may touch both. */
export const viewKey = (id: number): string => `{products}:${id}`;

/** How long a view lives once everything in it is committed (ms). While a write is pending, it does not expire. */
export const VIEW_TTL_MS = 60_000;

/**
 * The marks: the newest write that has reached each column of a product: a {@link sortable} stream id, or '' for none. Each column has
 * its own, because of two writes the older one may come last, and it may hold a column that the newer one has not.
 */
export const APPLIED_WRITES = `
  CREATE TABLE IF NOT EXISTS applied_writes (
    product_id BIGINT UNSIGNED PRIMARY KEY,
    price_id VARCHAR(41) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    stock_id VARCHAR(41) CHARACTER SET ascii COLLATE ascii_bin NOT NULL)`;

/**
 * A row of `products`, without the columns that have a default or may be NULL (`brand_id`, `description`, `view_count`). An
 * INSERT must name all of these but `version`, even if it ends as an UPDATE. `price` is a DECIMAL(10,2), `stock` an INT.
 */
export interface Row {
  readonly id: number;
  readonly name: string;
  readonly category_id: number;
  /** Set by whoever changes the row: NOW(3). */
  readonly updated_at: Date;
  price: string;
  stock: string | number;
  version: number;
}

/** A stream id whose order as text is its order in the stream: '5-10' comes after '5-9'. Provided. */
export const sortable = (streamId: string): string =>
  streamId
    .split('-')
    .map((part) => part.padStart(20, '0'))
    .join('-');

/**
 * Two Lua functions, to be put before a script. Provided.
 * `sortable(id)`: as above.
 * `dead_letter(stream, dead, entry, error)`: copies an entry into the dead letters, and returns its fields as a list, `product`
 * first; nil when the entry has left the stream.
 */
export const LUA = `
  local function sortable(id)
    local ms, seq = string.match(id, '(%d+)-(%d+)')
    return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
  end
  local function dead_letter(stream, dead, entry, error)
    local found = redis.call('XRANGE', stream, entry, entry)[1]
    if not found then return nil end
    redis.call('XADD', dead, 'MAXLEN', '~', ${DEAD_LETTERS_AT_MOST}, '*', 'entry', entry, 'error', error, unpack(found[2]))
    return found[2]
  end`;

/** The backlog holds as many writes as it may. Nothing was stored: slow down, and try again later. */
export class BacklogFullError extends Error {
  override readonly name = 'BacklogFullError';

  constructor(atMost: number) {
    super(`${atMost} writes wait for the database: no more are taken`);
  }
}

/** No answer in time. A write that ends so may have been stored or not: send it again. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError';

  constructor(ms: number) {
    super(`no answer within ${ms} ms`);
  }
}

/** A write whose shape is wrong. Nothing was sent. */
export class InvalidWriteError extends TypeError {
  override readonly name = 'InvalidWriteError';
}

/** What `promise` yields, or a {@link DeadlineError} after `ms`. What comes later is dropped. Provided. */
export async function withDeadline<T>(promise: Promise<T>, ms: number): Promise<T> {
  promise.catch(() => {});
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new DeadlineError(ms)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/**
 * Whether MySQL has refused the data itself, and will again: SQLSTATE class 22 (out of range, too long) or 23 (a constraint),
 * and three that the servers file elsewhere. All else (a deadlock, a lost connection) may pass. Provided.
 */
export function isRefusal(error: unknown): error is Error {
  const { sqlState, errno } = error as { sqlState?: string; errno?: number };
  return /^2[23]/.test(sqlState ?? '') || [1265, 1366, 3819].includes(errno ?? 0);
}

/** @throws {@link InvalidWriteError} Provided. */
export function requireWrite(id: number, { price, stock }: Changes): void {
  if (!Number.isSafeInteger(id) || id < 1) throw new InvalidWriteError(`no product id: ${String(id)}`);
  if (price === undefined && stock === undefined) throw new InvalidWriteError('nothing to change');
  if (price !== undefined && !/^(0|[1-9]\d{0,19})\.\d\d$/.test(price))
    throw new InvalidWriteError(`no price: ${price}`);
  if (stock !== undefined && !Number.isSafeInteger(stock))
    throw new InvalidWriteError(`no stock: ${String(stock)}`);
}

/** A write as the stream has it. */
export interface Entry {
  /** Its stream id. */
  readonly id: string;
  readonly product: number;
  /** `price`, `stock` or both, as text. */
  readonly fields: Readonly<Record<string, string>>;
}

export type RawEntry = [id: string, fields: string[] | null] | null;

/** What XREADGROUP and XAUTOCLAIM list, in the order of the stream, without what somebody has deleted. Provided. */
export function entries(raw: readonly RawEntry[]): Entry[] {
  return raw.flatMap((entry) => {
    if (!entry?.[1]) return [];
    const { product, ...fields } = pairs(entry[1]);
    // 0 is no product's id: what is no write of ours ends in the dead letters.
    return [{ id: entry[0], product: Number(product) || 0, fields }];
  });
}

/** `['a', '1', 'b', '2']` as an object. Provided. */
export function pairs(flat: readonly string[]): Record<string, string> {
  const result: Record<string, string> = {};
  for (let i = 0; i + 1 < flat.length; i += 2) result[flat[i] ?? ''] = flat[i + 1] ?? '';
  return result;
}

/** A product from the fields of a row, of a whole view, or of one over the other. Provided. */
export function toProduct(id: number, { name = '', price = '', stock }: Record<string, unknown>): Product {
  return { id, name: String(name), price: String(price), stock: Number(stock) };
}

/** What is committed of a product. Provided. */
export async function selectProduct(db: Pool, id: number): Promise<Product | undefined> {
  const [rows] = await db.execute<(Product & RowDataPacket)[]>(
    'SELECT id, name, price, stock FROM products WHERE id = ?',
    [id],
  );
  return rows[0] && { ...rows[0] };
}

/**
 * What `work` yields, committed. Each of its parts ends within `ms`, or the connection is closed: a {@link DeadlineError} at
 * the COMMIT leaves open whether it happened. Provided.
 */
export async function transaction<T>(
  db: Pool,
  ms: number,
  work: (connection: PoolConnection) => Promise<T>,
): Promise<T> {
  const connection = await db.getConnection();
  try {
    await withDeadline(connection.beginTransaction(), ms);
    const result = await withDeadline(work(connection), ms);
    await withDeadline(connection.commit(), ms);
    connection.release();
    return result;
  } catch (error) {
    // A ROLLBACK could hang as well. The server rolls back what a closed connection leaves.
    connection.destroy();
    throw error;
  }
}

export interface Writer {
  /**
   * Acknowledges once the write is in the stream and in the view, both or neither; MySQL has it later. Whether MySQL will
   * take it (its range, the product's existence) is not known yet: what it refuses ends in {@link DEAD_LETTERS}.
   * @throws {@link InvalidWriteError} (nothing was sent); {@link BacklogFullError} (nothing was stored); {@link DeadlineError}
   * or the error of Redis when Redis did not say that it is stored
   */
  write(id: number, changes: Changes): Promise<void>;
  /**
   * The product with every acknowledged write that was not refused, or null when MySQL has no such row, even if a write of it
   * is pending. One query on a miss, none on a hit; a product with pending writes is cached as well. Redis holds the only copy
   * of what is pending, so without Redis there is no true answer.
   * @throws {@link DeadlineError} or the error of Redis; the error of MySQL
   */
  read(id: number): Promise<Product | null>;
}

export interface Worker {
  /**
   * Takes one batch: what a worker (this one too) took `claimIdleMs` ago and has not finished, else what nobody has taken.
   * Commits it, then takes it off the stream, row by row coalesced: of several writes of one product, one row is written.
   * `version` rises by one for each write that has reached a column; one that comes again, or has been overtaken in all of
   * its columns, changes nothing. What MySQL refuses goes to {@link DEAD_LETTERS} alone, and readers see it no longer: neither
   * it, nor an older value in its place. A write of a product that MySQL does not have is refused, too.
   * @param waitMs how long to wait for a first write when there is none (0: not at all)
   * @returns how many entries have left the stream
   * @throws when Redis or MySQL fails; the batch stays pending, and will come again
   */
  step(waitMs?: number): Promise<number>;
  /** Steps until `stop`. A failure is told to `onError`, and the next step follows RETRY_MS later. Call it once. */
  run(): Promise<void>;
  /** Ends `run` when nothing is left to take, at the first failure, or with the first step that ends after STOP_WITHIN_MS. */
  stop(): Promise<void>;
}

/** How long `run` waits for a first write, and after a failure (ms). */
export const POLL_MS = 100;
export const RETRY_MS = 100;
/** How long `stop` goes on taking what others write (ms). */
export const STOP_WITHIN_MS = 5000;

/** What a worker hands to {@link finish}. */
export interface Tools {
  readonly redis: Redis;
  readonly db: Pool;
  readonly deadlineMs: number;
  readonly transactionMs: number;
}

/**
 * A worker. Several may work on one stream. Provided: it takes batches, and {@link finish} ends them.
 * @param redis for this worker alone: it waits in XREADGROUP
 * @param name unique among the workers that live
 * @param batchSize how many writes one transaction takes in
 * @param claimIdleMs after how long an unfinished batch is taken again, by whichever worker comes first, this one too; above
 * `transactionMs`, or work is done twice (to no effect)
 * @param transactionMs how long one transaction may take; then its connection is closed
 */
export function createWorker({
  redis,
  db,
  name,
  batchSize = 500,
  claimIdleMs = 10_000,
  deadlineMs = 1000,
  transactionMs = 5000,
  onError = () => {},
}: {
  readonly redis: Redis;
  readonly db: Pool;
  readonly name: string;
  readonly batchSize?: number;
  readonly claimIdleMs?: number;
  readonly deadlineMs?: number;
  readonly transactionMs?: number;
  readonly onError?: (error: unknown) => void;
}): Worker {
  async function take(waitMs: number): Promise<Entry[]> {
    const claimed = (await withDeadline(
      redis.xautoclaim(STREAM, GROUP, name, claimIdleMs, '0-0', 'COUNT', batchSize),
      deadlineMs,
    )) as [string, RawEntry[]];
    if (claimed[1].length > 0) return entries(claimed[1]);
    const group = ['GROUP', GROUP, name, 'COUNT', batchSize] as const;
    const read = await withDeadline(
      waitMs > 0 // BLOCK 0 would wait for ever
        ? redis.xreadgroup(...group, 'BLOCK', waitMs, 'STREAMS', STREAM, '>')
        : redis.xreadgroup(...group, 'STREAMS', STREAM, '>'),
      waitMs + deadlineMs,
    );
    const [stream] = (read ?? []) as [string, RawEntry[]][];
    return entries(stream?.[1] ?? []);
  }

  async function withGroup<T>(action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      if (!/^NOGROUP/.test(String((error as Error).message))) throw error;
      // Two workers may come here at once.
      await redis.xgroup('CREATE', STREAM, GROUP, '0', 'MKSTREAM').catch((failure: Error) => {
        if (!failure.message.startsWith('BUSYGROUP')) throw failure;
      });
      return action();
    }
  }

  let stopping = false;
  let running: Promise<void> | undefined;

  async function step(waitMs = 0): Promise<number> {
    const batch = await withGroup(() => take(waitMs));
    if (batch.length > 0) await finish({ redis, db, deadlineMs, transactionMs }, batch);
    return batch.length;
  }

  async function loop(): Promise<void> {
    while (!stopping) {
      await step(POLL_MS).catch(async (error: unknown) => {
        onError(error);
        await sleep(RETRY_MS);
      });
    }
    const end = Date.now() + STOP_WITHIN_MS;
    while (Date.now() < end && (await step()) > 0);
  }

  return {
    step,
    run() {
      running = loop().catch(onError);
      return running;
    },
    async stop() {
      stopping = true;
      await running;
    },
  };
}

// From here on it is yours: createWriter, apply, finish, and the scripts that Redis runs for them.

/**
 * Writes and reads.
 * @param redis best with `enableOfflineQueue: false` and `autoResendUnfulfilledCommands: false`: else ioredis keeps writes that
 * were rejected here in memory, and sends them later, when newer ones may have passed
 * @param backlogAtMost how many writes may wait for MySQL
 * @param deadlineMs how long Redis may take to answer one command
 */
export function createWriter({
  redis,
  db,
  backlogAtMost = 10_000,
  deadlineMs = 100,
}: {
  readonly redis: Redis;
  readonly db: Pool;
  readonly backlogAtMost?: number;
  readonly deadlineMs?: number;
}): Writer {
  throw new Error('not implemented');
}

/**
 * Writes one row for each product of the batch, and its marks, on a connection that is in a transaction. Other workers may do
 * the same with the same products at the same time.
 * @returns the entries whose product MySQL does not have
 */
export async function apply(connection: PoolConnection, batch: readonly Entry[]): Promise<Entry[]> {
  throw new Error('not implemented');
}

/**
 * Ends a batch: each of its entries is committed and off the stream, or a dead letter and off the stream and out of the view.
 * @throws when Redis or MySQL fails; what is not finished by then is left as it is
 */
export async function finish(tools: Tools, batch: readonly Entry[]): Promise<void> {
  throw new Error('not implemented');
}
