import type { Redis } from 'ioredis';
import { type Clock, type Load, systemClock, type Times } from './given';

export interface LockedCache {
  /**
   * The value of the key: from Redis, or from `load`, which one caller of all processes runs while the others wait. A
   * miss gives what a hit gives: what JSON makes of the value.
   * @throws what `load` throws; WaitTimeoutError. In production: LoadTimeoutError, when the lock of a load has ended
   */
  getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V>;
}

export interface Options {
  /** In production: each of its commands has a deadline. */
  readonly redis: Redis;
  /** In production: the clock and the pauses of a waiting call. */
  readonly clock?: Clock;
  /** In production: called with each failure that no caller gets. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** A cache in which one load of a key runs at a time. Keys, times, errors and the codec are in `given.ts`. */
export function createLockedCache({
  redis,
  clock = systemClock,
  onCacheError = () => {},
}: Options): LockedCache {
  throw new Error('not implemented');
}
