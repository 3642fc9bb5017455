import type { Redis } from 'ioredis';
import type { Load } from './given';

export interface Cache {
  /**
   * The cached value of the key, else what `load` gives. null is a value.
   * @throws what `load` throws
   */
  get<V>(key: string, load: Load<V>): Promise<V>;
  /**
   * Forgets the key, after its source has changed.
   * @throws In production: with `redis`, unless Redis has confirmed it
   */
  invalidate(key: string): Promise<void>;
}

export interface Options {
  /** How long a value is fresh, ms. */
  readonly ttlMs: number;
  /** How many values this process keeps at most. */
  readonly maxEntries: number;
  /** The time, ms. */
  readonly now?: () => number;
  /** In production: how long an expired value may be served while it is refreshed, ms. */
  readonly staleMs?: number;
  /** In production: the pause after a refresh that failed, ms. */
  readonly retryMs?: number;
  /** In production: how long a load may take, and how long a caller waits for a load of another process, ms. */
  readonly timeoutMs?: number;
  /** In production: called with each failure that no caller gets. It never throws. */
  readonly onError?: (error: unknown) => void;
  /** In production: shared by all processes. Each of its commands settles in bounded time. Values are JSON then. */
  readonly redis?: Redis;
  /** In production: how long this process may use a value without asking Redis, ms. */
  readonly syncMs?: number;
}

/** One cache, grown in four steps: see the lesson, a step at a time. */
export function createCache({ ttlMs, maxEntries, now = () => performance.now() }: Options): Cache {
  throw new Error('not implemented');
}
