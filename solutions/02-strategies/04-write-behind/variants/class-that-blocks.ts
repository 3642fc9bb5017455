import type { Redis } from 'ioredis';
import type { Pool, PoolConnection } from 'mysql2/promise';
import { transaction, withDeadline } from '#kit/given';
import {
  BacklogFullError,
  type Changes,
  claimedEntries,
  createGroup,
  DEAD_LETTERS,
  type Entry,
  GROUP,
  isRefusal,
  lockProducts,
  PAUSE_MS,
  type Row,
  readEntries,
  requireWrite,
  STREAM,
  saveProducts,
  sortable,
  toFields,
} from '../given';

interface WriterOptions {
  readonly redis: Redis;
  readonly maxBacklog?: number;
  readonly deadlineMs?: number;
}

export const createWriter = (options: WriterOptions) => new StreamWriter(options);

class StreamWriter {
  readonly #redis: Redis;
  readonly #maxBacklog: number;
  readonly #deadlineMs: number;

  constructor({ redis, maxBacklog = 10_000, deadlineMs = 100 }: WriterOptions) {
    this.#redis = redis;
    this.#maxBacklog = maxBacklog;
    this.#deadlineMs = deadlineMs;
  }

  async write(id: number, changes: Changes): Promise<void> {
    requireWrite(id, changes);
    const fields = toFields(id, changes);
    const script = `
      local isFull = redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1])
      if not isFull then redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2)) end
      return isFull and 1 or 0`;
    const adding = this.#redis.eval(script, 1, STREAM, this.#maxBacklog, ...fields);
    if ((await withDeadline(adding, this.#deadlineMs)) === 1) throw new BacklogFullError(this.#maxBacklog);
  }
}

interface WorkerOptions {
  readonly redis: Redis;
  readonly db: Pool;
  readonly name: string;
  readonly batchSize?: number;
  readonly claimIdleMs?: number;
  readonly deadlineMs?: number;
  readonly transactionMs?: number;
  readonly onError?: (error: unknown) => void;
}

export const createWorker = (options: WorkerOptions) => new StreamWorker(options);

/** A class. Its run waits for writes in Redis (BLOCK), and a refused batch is tried again write by write. */
class StreamWorker {
  readonly #options: Required<WorkerOptions>;

  constructor(options: WorkerOptions) {
    const onError = () => {};
    const defaults = { batchSize: 500, claimIdleMs: 10_000, deadlineMs: 1000, transactionMs: 5000, onError };
    this.#options = { ...defaults, ...options };
  }

  step(): Promise<number> {
    return this.#step(0);
  }

  async run(signal: AbortSignal): Promise<void> {
    const { onError } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#step(PAUSE_MS);
      } catch (error) {
        onError(error);
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
    await this.#drain().catch(onError);
  }

  async #drain(): Promise<void> {
    while ((await this.#step(0)) > 0);
  }

  async #step(waitMs: number): Promise<number> {
    const batch = await this.#take(waitMs).catch(async (error: Error) => {
      if (!/NOGROUP/.test(error.message)) throw error;
      await this.#answer(createGroup(this.#options.redis));
      return this.#take(waitMs);
    });
    if (batch.length === 0) return 0;
    try {
      await this.#commit(batch);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      for (const entry of batch) await this.#commitAlone(entry);
    }
    return batch.length;
  }

  async #take(waitMs: number): Promise<Entry[]> {
    const { redis, name, batchSize, claimIdleMs } = this.#options;
    const claiming = redis.xautoclaim(STREAM, GROUP, name, claimIdleMs, '0-0', 'COUNT', batchSize);
    const claimed = claimedEntries(await this.#answer(claiming));
    if (claimed.length > 0) return claimed;
    const group = ['GROUP', GROUP, name, 'COUNT', batchSize] as const;
    // BLOCK 0 would wait forever.
    const reading =
      waitMs > 0
        ? redis.xreadgroup(...group, 'BLOCK', waitMs, 'STREAMS', STREAM, '>')
        : redis.xreadgroup(...group, 'STREAMS', STREAM, '>');
    return readEntries(await this.#answer(reading, waitMs));
  }

  async #commitAlone(entry: Entry): Promise<void> {
    try {
      await this.#commit([entry]);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      await this.#bury(entry, error.message);
    }
  }

  async #commit(batch: readonly Entry[]): Promise<void> {
    const { redis, db, transactionMs } = this.#options;
    const missing = await transaction(db, (connection) => applyAll(connection, batch), transactionMs);
    for (const entry of missing) await this.#bury(entry, `product ${entry.product} does not exist`);
    const ids = batch.filter((entry) => !missing.includes(entry)).map(({ id }) => id);
    if (ids.length === 0) return;
    // In this order, an entry that is deleted and not acknowledged is dropped by the next XAUTOCLAIM.
    await this.#answer(redis.xdel(STREAM, ...ids));
    await this.#answer(redis.xack(STREAM, GROUP, ...ids));
  }

  async #bury({ id }: Entry, error: string): Promise<void> {
    const script = `
      for _, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])) do
        redis.call('XADD', KEYS[2], '*', 'entry', entry[1], 'error', ARGV[3], unpack(entry[2]))
      end
      redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
      return redis.call('XDEL', KEYS[1], ARGV[2])`;
    await this.#answer(this.#options.redis.eval(script, 2, STREAM, DEAD_LETTERS, GROUP, id, error));
  }

  #answer<T>(promise: Promise<T>, waitMs = 0): Promise<T> {
    return withDeadline(promise, waitMs + this.#options.deadlineMs);
  }
}

async function applyAll(connection: PoolConnection, batch: readonly Entry[]): Promise<Entry[]> {
  const locked = await lockProducts(
    connection,
    batch.map(({ product }) => product),
  );
  const newest = new Map<number, Row>(locked.map((row) => [row.id, row]));
  for (const { id, product, changes } of batch) {
    const row = newest.get(product);
    if (!row) continue;
    const at = sortable(id);
    const isNewer = (name: string) => at > (row.marks[name] ?? '');
    const values = Object.entries(changes).filter(([name]) => isNewer(name));
    const marks = { ...row.marks, ...Object.fromEntries(values.map(([name]) => [name, at])) };
    newest.set(product, { ...row, ...Object.fromEntries(values), marks });
  }
  await saveProducts(connection, [...newest.values()]);
  return batch.filter(({ product }) => !newest.has(product));
}
