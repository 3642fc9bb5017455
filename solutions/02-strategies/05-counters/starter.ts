import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';

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

/** View counts that are buffered in Redis, in front of `products.view_count`. */
export function createViewCounter({ redis, db }: Options): ViewCounter {
  throw new Error('not implemented');
}
