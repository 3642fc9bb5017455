import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { Voucher } from './given';

export interface Vouchers {
  /** The voucher, or null when there is none. Rejects with the error of MySQL. */
  find(code: string): Promise<Voucher | null>;
  /**
   * Resolves when every process finds the voucher. Rejects with the error of MySQL; in production, also with
   * InvalidCodeError, or when the code could not be entered into the filter: then there is no voucher.
   */
  create(voucher: Voucher): Promise<void>;
  /** Adds to the filter all codes that MySQL has when it is called. */
  rebuild(): Promise<void>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** The TTL of an absence (ms). */
  readonly absentTtlMs: number;
  /** In production: the longest that Redis may take to answer (ms); DEADLINE_MS if absent. */
  readonly deadlineMs?: number;
  /** In production: called with each error of Redis. It never throws. */
  readonly onError?: (error: unknown) => void;
}

/** The vouchers of a shop, behind a cache and a Bloom filter. */
export function createVouchers({ redis, db, absentTtlMs }: Options): Vouchers {
  throw new Error('not implemented');
}
