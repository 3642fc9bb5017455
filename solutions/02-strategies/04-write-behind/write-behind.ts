import { setTimeout as sleep } from 'node:timers/promises';
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
} from './given';

export interface Writer {
  /** Resolves when Redis has confirmed that the write is in STREAM. Rejects otherwise. */
  write(id: number, changes: Changes): Promise<void>;
}

export interface WriterOptions {
  readonly redis: Redis;
  /** In production: how many writes may wait. One more rejects with BacklogFullError. */
  readonly maxBacklog?: number;
  /** In production: how long a write may take (ms), or it rejects with the DeadlineError of `#kit/given`. */
  readonly deadlineMs?: number;
}

// #region write
/** The check and the XADD in one script: of twenty writes at once, none passes a check that another one has made wrong. */
const ADD = `
  if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return false end
  return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))`;

export function createWriter({ redis, maxBacklog = 10_000, deadlineMs = 100 }: WriterOptions): Writer {
  return {
    async write(id, changes) {
      requireWrite(id, changes);
      const adding = redis.eval(ADD, 1, STREAM, maxBacklog, ...toFields(id, changes));
      if ((await withDeadline(adding, deadlineMs)) === null) throw new BacklogFullError(maxBacklog);
    },
  };
}
// #endregion

export interface Worker {
  /**
   * Finishes one batch: what a worker has left unfinished for `claimIdleMs`, else new writes. Commits it, then takes it off
   * STREAM.
   * @returns the number of writes in the batch
   * @throws what MySQL or Redis throws: the batch comes again
   */
  step(): Promise<number>;
  /** In production: steps until `signal` aborts. Then it drains the backlog, and ends at the first failure. */
  run(signal: AbortSignal): Promise<void>;
}

export interface WorkerOptions {
  /** Used by this worker only. */
  readonly redis: Redis;
  readonly db: Pool;
  /** Unique among the workers. */
  readonly name: string;
  /** The most writes of one batch. */
  readonly batchSize?: number;
  readonly claimIdleMs?: number;
  /** In production: how long one Redis command may take (ms), or the step rejects with DeadlineError. */
  readonly deadlineMs?: number;
  /** In production: how long the transaction may take (ms), or the step rejects with DeadlineError. */
  readonly transactionMs?: number;
  /** In production: called with the error of each step that failed in `run`. */
  readonly onError?: (error: unknown) => void;
}

export function createWorker({
  redis,
  db,
  name,
  batchSize = 500,
  claimIdleMs = 10_000,
  deadlineMs = 1000,
  transactionMs = 5000,
  onError = () => {},
}: WorkerOptions): Worker {
  const inTime = <T>(answer: Promise<T>) => withDeadline(answer, deadlineMs);

  // #region take
  async function take(): Promise<Entry[]> {
    try {
      const left = redis.xautoclaim(STREAM, GROUP, name, claimIdleMs, '0-0', 'COUNT', batchSize);
      const claimed = claimedEntries(await inTime(left));
      if (claimed.length > 0) return claimed;
      const reading = redis.xreadgroup('GROUP', GROUP, name, 'COUNT', batchSize, 'STREAMS', STREAM, '>');
      return readEntries(await inTime(reading));
    } catch (error) {
      if (!String(error).includes('NOGROUP')) throw error;
      // Redis has lost its data, or this is the first worker.
      await inTime(createGroup(redis));
      return take();
    }
  }
  // #endregion

  // #region step
  async function step(): Promise<number> {
    const batch = await take();
    if (batch.length > 0) await finish(batch);
    return batch.length;
  }

  async function finish(batch: readonly Entry[]): Promise<void> {
    let missing: Entry[];
    try {
      missing = await transaction(db, (connection) => apply(connection, batch), transactionMs);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      const [only] = batch;
      if (batch.length === 1 && only) return refuse(only, error.message);
      // The error does not say which write is bad: halve the batch until that one is alone.
      const half = Math.ceil(batch.length / 2);
      await finish(batch.slice(0, half));
      return finish(batch.slice(half));
    }
    for (const entry of missing) await refuse(entry, 'there is no such product');
    await acknowledge(batch.filter((entry) => !missing.includes(entry)));
  }
  // #endregion

  // #region acknowledge
  async function acknowledge(entries: readonly Entry[]): Promise<void> {
    if (entries.length === 0) return;
    const ids = entries.map(({ id }) => id);
    const finished = redis.multi().xack(STREAM, GROUP, ...ids);
    await inTime(finished.xdel(STREAM, ...ids).exec());
  }

  async function refuse({ id }: Entry, error: string): Promise<void> {
    await inTime(redis.eval(REFUSE, 2, STREAM, DEAD_LETTERS, GROUP, id, error));
  }
  // #endregion

  // #region run
  async function run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const finished = await step().catch((error: unknown) => {
        onError(error);
        return 0;
      });
      if (finished === 0) await sleep(PAUSE_MS);
    }
    try {
      while ((await step()) > 0);
    } catch (error) {
      onError(error);
    }
  }
  // #endregion

  return { step, run };
}

// #region apply
const VALUES = ['price', 'stock'] as const;

/** Applies a batch in memory, in the order of the stream, and writes each product once. @returns writes without a product */
async function apply(connection: PoolConnection, batch: readonly Entry[]): Promise<Entry[]> {
  const ids = new Set(batch.map(({ product }) => product));
  const locked = await lockProducts(connection, [...ids]);
  const rows = new Map(locked.map((row) => [row.id, row]));
  const changed = new Set<Row>();
  for (const entry of batch) {
    const row = rows.get(entry.product);
    if (row && applyTo(row, entry)) changed.add(row);
  }
  await saveProducts(connection, [...changed]);
  return batch.filter(({ product }) => !rows.has(product));
}

/** Each value has a mark of its own: the newest write that has reached it. @returns whether it has reached one */
function applyTo(row: Row, { id, changes }: Entry): boolean {
  let isChanged = false;
  for (const name of VALUES) {
    const value = changes[name];
    if (value === undefined || sortable(id) <= (row.marks[name] ?? '')) continue;
    row[name] = value;
    row.marks[name] = sortable(id);
    isChanged = true;
  }
  return isChanged;
}
// #endregion

// #region refuse
/** Moves an entry to the dead letters: at once, so that neither a crash nor a second worker doubles or loses it. */
const REFUSE = `
  local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
  if found then
    redis.call('XADD', KEYS[2], '*', 'entry', ARGV[2], 'error', ARGV[3], unpack(found[2]))
    redis.call('XDEL', KEYS[1], ARGV[2])
  end
  return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])`;
// #endregion
