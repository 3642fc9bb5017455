import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
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

const ADD = `
  if redis.call('XLEN', KEYS[1]) < tonumber(ARGV[1]) then
    return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
  end
  return ''`;

export const createWriter = ({ redis, maxBacklog = 10_000, deadlineMs = 100 }: WriterOptions) => ({
  async write(id: number, changes: Changes): Promise<void> {
    requireWrite(id, changes);
    const fields = toFields(id, changes);
    const added = await withDeadline(redis.eval(ADD, 1, STREAM, maxBacklog, ...fields), deadlineMs);
    if (added === '') throw new BacklogFullError(maxBacklog);
  },
});

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

/** Each product has a transaction of its own: a bad write holds up its own product only, and costs one commit each. */
export function createWorker({
  redis,
  db,
  name,
  batchSize = 500,
  claimIdleMs = 10_000,
  deadlineMs = 1000,
  transactionMs = 5000,
  onError = () => {},
}: WorkerOptions) {
  async function take(): Promise<Entry[]> {
    await withDeadline(createGroup(redis), deadlineMs);
    const old = redis.xautoclaim(STREAM, GROUP, name, claimIdleMs, '0-0', 'COUNT', batchSize);
    const claimed = claimedEntries(await withDeadline(old, deadlineMs));
    if (claimed.length > 0) return claimed;
    const fresh = redis.xreadgroup('GROUP', GROUP, name, 'COUNT', batchSize, 'STREAMS', STREAM, '>');
    return readEntries(await withDeadline(fresh, deadlineMs));
  }

  async function step(): Promise<number> {
    const batch = await take();
    const byProduct = new Map<number, Entry[]>();
    for (const entry of batch) {
      byProduct.set(entry.product, [...(byProduct.get(entry.product) ?? []), entry]);
    }
    for (const entries of byProduct.values()) await finish(entries);
    return batch.length;
  }

  async function finish(entries: readonly Entry[]): Promise<void> {
    try {
      const exists = await transaction(db, (connection) => apply(connection, entries), transactionMs);
      const why = exists ? undefined : 'no such product';
      for (const { id } of entries) await end(id, why);
    } catch (error) {
      if (!isRefusal(error)) throw error;
      if (entries.length > 1) for (const entry of entries) await finish([entry]);
      else for (const { id } of entries) await end(id, error.message);
    }
  }

  /** @param why for a dead letter */
  const end = (id: string, why = '') =>
    withDeadline(redis.eval(END, 2, STREAM, DEAD_LETTERS, GROUP, id, why), deadlineMs);

  async function run(signal: AbortSignal): Promise<void> {
    for (;;) {
      try {
        const finished = await step();
        if (finished > 0) continue;
      } catch (error) {
        onError(error);
      }
      if (signal.aborted) return;
      await sleep(PAUSE_MS);
    }
  }

  return { step, run };
}

const END = `
  local found = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
  if found and ARGV[3] ~= '' then
    redis.call('XADD', KEYS[2], '*', 'entry', ARGV[2], 'error', ARGV[3], unpack(found[2]))
  end
  redis.call('XDEL', KEYS[1], ARGV[2])
  return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])`;

/** @returns whether the product exists */
async function apply(connection: Parameters<typeof lockProducts>[0], entries: readonly Entry[]) {
  const [row] = await lockProducts(
    connection,
    entries.slice(0, 1).map(({ product }) => product),
  );
  if (!row) return false;
  const before = JSON.stringify(row.marks);
  for (const { id, changes } of entries) {
    const at = sortable(id);
    const { price, stock } = changes;
    if (price !== undefined && at > (row.marks.price ?? '')) [row.price, row.marks.price] = [price, at];
    if (stock !== undefined && at > (row.marks.stock ?? '')) [row.stock, row.marks.stock] = [stock, at];
  }
  if (JSON.stringify(row.marks) !== before) await saveProducts(connection, [row]);
  return true;
}
