import type { Options } from './given';

export interface Swr<V> {
  /**
   * - Fresh: the value from Redis.
   * - Stale, stored more than softTtlMs ago: the value from Redis at once, and one refresh in the background.
   * - Missing: waits for a load, which concurrent calls share, and stores its value.
   * @throws while it waits for a load: what `load` throws, or LoadTimeoutError
   */
  get(key: string): Promise<V | undefined>;
  /** In production: resolves when nothing of this object runs in the background. Never rejects. */
  onIdle(): Promise<void>;
}

/** A cache over Redis that returns the old value while it loads the new one. Options and codec are in `given.ts`. */
export function createSwr<V>({
  redis,
  softTtlMs,
  hardTtlMs,
  load,
  now = Date.now,
  loadDeadlineMs,
  cacheDeadlineMs,
  onError = () => {},
}: Options<V>): Swr<V> {
  throw new Error('not implemented');
}
