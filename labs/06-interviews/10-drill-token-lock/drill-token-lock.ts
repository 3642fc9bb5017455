import type { Options } from './given';

/**
 * Runs `work` under a lock, which is renewed every third of `ttlMs` until the work ends.
 * @param work its signal is aborted with a LostLockError when the lock is lost
 * @returns what the work returns
 * @throws LockedError at once, when another call holds the lock; what the work throws; LostLockError, when the lock was
 * lost meanwhile, even if the work has a result
 */
export async function withLock<T>(
  { redis, name, ttlMs }: Options,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  throw new Error('not implemented');
}
