import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { Outcome, Request } from './given';

export interface Sale {
  /**
   * Takes a unit at the gate, then one from the row, and writes the order. A gate that Redis does not hold is filled from the
   * row.
   */
  reserve(request: Request): Promise<Outcome>;
  /** In production: puts back the units of orders that were not paid in time. @returns how many */
  expire(): Promise<number>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** How long the gate lives after its fill (ms). */
  readonly gateMs?: number;
  /** In production: how long Redis may take for each answer (ms). */
  readonly redisMs?: number;
  /** In production: how long a transaction may take (ms). Then the call rejects with the DeadlineError of `#kit/given`. */
  readonly mysqlMs?: number;
  /** In production: how many calls at once may ask MySQL without the gate. One more rejects with BusyError. */
  readonly maxUngated?: number;
  /** In production: called with each failure of Redis. `reserve` and `expire` do not reject because of it. */
  readonly onGateError?: (error: unknown) => void;
}

export function createSale({
  redis,
  db,
  gateMs = 5_000,
  redisMs = 100,
  mysqlMs = 2_000,
  maxUngated = 10,
  onGateError = () => {},
}: Options): Sale {
  throw new Error('not implemented');
}
