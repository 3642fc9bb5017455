import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { Changes } from './given';

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

export function createWriter({ redis }: WriterOptions): Writer {
  throw new Error('not implemented');
}

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
}: WorkerOptions): Worker {
  throw new Error('not implemented');
}
