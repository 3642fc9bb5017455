import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';

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

/** A view counter before `products.view_count`. Redis must not evict: what waits in it has no copy elsewhere. */
export function createViewCounter({
  redis,
  db,
  maxIds = MAX_IDS,
  timeoutMs = TIMEOUT_MS,
  drainTimeoutMs = DRAIN_TIMEOUT_MS,
}: ViewCounterOptions): ViewCounter {
  return {
    async increment(id, by = 1) {
      throw new Error('not implemented');
    },
    async drain() {
      throw new Error('not implemented');
    },
    async read(id) {
      throw new Error('not implemented');
    },
  };
}
