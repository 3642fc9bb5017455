import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { type Changes, DEADLINE_MS, type Product, VIEW_TTL_MS, type Write } from './given';

export interface PendingWrites {
  /** Puts the write into the stream and into the product's view, and resolves. */
  accept(id: number, changes: Changes): Promise<void>;
  /**
   * The product with every accepted write that MySQL did not refuse; null when MySQL has no such row. The view keeps a
   * copy of the row. In production: rejects when Redis does not answer.
   */
  read(id: number): Promise<Product | null>;
  /**
   * The worker calls it when MySQL has committed the write. In production: it may be called twice, and an older write may
   * be committed after a newer one.
   */
  committed(write: Write): Promise<void>;
  /** The worker calls it when MySQL has refused the write. In production: it may be called twice. */
  refused(write: Write): Promise<void>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** How long a copy of the row lives, counted from its fill (ms). */
  readonly viewTtlMs?: number;
  /** In production: how long one Redis command may take (ms). */
  readonly deadlineMs?: number;
}

/**
 * Reads that see accepted writes before MySQL has them. The keys of a view are yours. When nothing is pending, each of
 * them has a TTL.
 */
export function createPendingWrites({
  redis,
  db,
  viewTtlMs = VIEW_TTL_MS,
  deadlineMs = DEADLINE_MS,
}: Options): PendingWrites {
  throw new Error('not implemented');
}
