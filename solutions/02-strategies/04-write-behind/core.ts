import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, PoolConnection } from 'mysql2/promise';
import { transaction } from '#kit/given';
import {
  type Changes,
  claimedEntries,
  type Entry,
  GROUP,
  lockProducts,
  PAUSE_MS,
  readEntries,
  STREAM,
  saveProducts,
  sortable,
  toFields,
} from './given';

/** The textbook version. The first failure ends it, and so does one bad row. */
// #region core
export const createWriter = ({ redis }: { redis: Redis }) => ({
  async write(id: number, changes: Changes): Promise<void> {
    await redis.xadd(STREAM, '*', ...toFields(id, changes));
  },
});

interface WorkerOptions {
  readonly redis: Redis;
  readonly db: Pool;
  readonly name: string;
  readonly batchSize?: number;
  readonly claimIdleMs?: number;
}

export function createWorker({ redis, db, name, batchSize = 500, claimIdleMs = 10_000 }: WorkerOptions) {
  async function take(): Promise<Entry[]> {
    const claimed = claimedEntries(
      await redis.xautoclaim(STREAM, GROUP, name, claimIdleMs, '0-0', 'COUNT', batchSize),
    );
    if (claimed.length > 0) return claimed;
    return readEntries(
      await redis.xreadgroup('GROUP', GROUP, name, 'COUNT', batchSize, 'STREAMS', STREAM, '>'),
    );
  }

  async function step(): Promise<number> {
    const batch = await take();
    if (batch.length === 0) return 0;
    await transaction(db, (connection) => apply(connection, batch));
    const ids = batch.map(({ id }) => id);
    await redis
      .multi()
      .xack(STREAM, GROUP, ...ids)
      .xdel(STREAM, ...ids)
      .exec();
    return batch.length;
  }

  async function run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if ((await step()) === 0) await sleep(PAUSE_MS);
    }
  }

  return { step, run };
}

/** Coalesces: each product is written once. A mark says which write it has seen last. */
async function apply(connection: PoolConnection, batch: readonly Entry[]): Promise<void> {
  const ids = new Set(batch.map(({ product }) => product));
  const locked = await lockProducts(connection, [...ids]);
  const rows = new Map(locked.map((row) => [row.id, row]));
  for (const { id, product, changes } of batch) {
    const row = rows.get(product);
    if (!row || sortable(id) <= (row.marks.last ?? '')) continue;
    Object.assign(row, changes);
    row.marks.last = sortable(id);
  }
  await saveProducts(connection, locked);
}
// #endregion
