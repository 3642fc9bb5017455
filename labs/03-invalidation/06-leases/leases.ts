import type { Redis } from 'ioredis';
import { type Clock, type Load, systemClock, type Times } from './given';

export interface LeaseCache {
  /**
   * The value of the key: from Redis, or from `load`, which one caller runs while all others wait. A miss gives what a
   * hit gives: what JSON makes of the value.
   * @throws what `load` throws. In production: LoadTimeoutError, leaseMs after the load has begun
   */
  getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V>;
  /**
   * Called after the commit. A load that began before it stores nothing.
   * @throws unless Redis has confirmed it
   */
  invalidate(key: string): Promise<void>;
}

export interface Options {
  /** In production: each of its commands has a deadline. */
  readonly redis: Redis;
  /** In production: the clock and the pauses of a waiting call. */
  readonly clock?: Clock;
  /** In production: called with each failure that no caller gets. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** A cache in which an invalidation cancels the fills in flight. Keys, times and the codec are in `given.ts`. */
export function createLeaseCache({
  redis,
  clock = systemClock,
  onCacheError = () => {},
}: Options): LeaseCache {
  throw new Error('not implemented');
}
