import type { Redis } from 'ioredis';
import { type Clock, systemClock } from './given';

export interface LocalCache {
  /** The value of the key: kept in this process, else from `load`, and then kept. @throws what `load` throws */
  get<V>(key: string, load: () => Promise<V>): Promise<V>;
  /**
   * Reads up to BATCH events behind the place of this process, without waiting, and drops their keys.
   * @returns the number of events that it has read
   * @throws what Redis says; then the place is the same as before
   */
  poll(): Promise<number>;
  /** Polls until the signal aborts; each read waits in Redis for an event. In production: it never rejects. */
  run(signal: AbortSignal): Promise<void>;
}

export interface Options {
  /** The client of the application. In production: each of its commands settles within its `commandTimeout`. */
  readonly redis: Redis;
  /** In production: how long values are returned after the last successful read (ms). More than BLOCK_MS. */
  readonly maxSilenceMs?: number;
  /** In production: the clock and all pauses. */
  readonly clock?: Clock;
  /** In production: called with each failed read of `run`. It never throws. */
  readonly onError?: (error: unknown) => void;
}

/** A cache in the memory of this process, kept in step by the events of a stream. Each process reads all events. */
export function createLocalCache({
  redis,
  maxSilenceMs = 5_000,
  clock = systemClock,
  onError = () => {},
}: Options): LocalCache {
  throw new Error('not implemented');
}
