import type { Redis } from 'ioredis';
import type { Load } from './given';

export interface Cache {
  /**
   * The cached value of the key, else the result of `load`. null is a value.
   * @throws the error of `load`
   */
  get<V>(key: string, load: Load<V>): Promise<V>;
  /**
   * Removes the key from the cache, after its source has changed.
   * @throws In production: with `redis`, if Redis has not confirmed it
   */
  invalidate(key: string): Promise<void>;
}

export interface Options {
  /** How long a value is fresh, ms. */
  readonly ttlMs: number;
  /** How many values this process may keep. */
  readonly maxEntries: number;
  /** The clock, ms. */
  readonly now?: () => number;
  /** In production: how long an expired value may be served while it is refreshed, ms. */
  readonly staleMs?: number;
  /** In production: the pause after a refresh that failed, ms. */
  readonly retryMs?: number;
  /** In production: how long a load may take, and how long a caller waits for a load of another process, ms. */
  readonly timeoutMs?: number;
  /** In production: called with each error that reaches no caller. It never throws. */
  readonly onError?: (error: unknown) => void;
  /** In production: shared by all processes; values are JSON then. Each command resolves or rejects in bounded time. */
  readonly redis?: Redis;
  /** In production: how long this process may use a value without asking Redis, ms. */
  readonly syncMs?: number;
}

/** One cache, built in four steps. Read them in the lesson, one step at a time. */
export function createCache({ ttlMs, maxEntries, now = () => performance.now() }: Options): Cache {
  throw new Error('not implemented');
}
