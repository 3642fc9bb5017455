import { randomUUID } from 'node:crypto';
import { LockedError, LostLockError, lockKey, type Options, withDeadline } from './given';

/** KEYS: lock. ARGV: token, ms. */
const RENEW = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/** KEYS: lock. ARGV: token. */
const RELEASE = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  return redis.call('DEL', KEYS[1])`;

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
  const key = lockKey(name);
  const token = randomUUID();
  // Counted from before the command: Redis counts from later on.
  let heldUntil = performance.now() + ttlMs;
  if ((await redis.set(key, token, 'PX', ttlMs, 'NX')) !== 'OK') throw new LockedError(name);

  const lost = new AbortController();
  const lose = () => lost.abort(new LostLockError(name));
  async function renew(): Promise<void> {
    const until = performance.now() + ttlMs;
    const isOurs = await redis.eval(RENEW, 1, key, token, ttlMs);
    if (isOurs === 1) heldUntil = until;
    else lose();
  }
  async function release(): Promise<void> {
    // Without an answer, the lock expires by itself.
    const wasOurs = await withDeadline(redis.eval(RELEASE, 1, key, token), ttlMs).catch(() => 'unknown');
    if (wasOurs === 0) lose();
  }
  // A renewal that fails is tried again with the next one; the watch ends the hope.
  const renewal = setInterval(() => void renew().catch(() => {}), ttlMs / 3);
  let watch: NodeJS.Timeout | undefined;
  const watchEnd = () => {
    const leftMs = heldUntil - performance.now();
    if (leftMs <= 0) lose();
    else watch = setTimeout(watchEnd, leftMs);
  };
  watchEnd();

  let result: T;
  try {
    result = await work(lost.signal);
  } finally {
    clearInterval(renewal);
    clearTimeout(watch);
    if (!lost.signal.aborted) await release();
  }
  lost.signal.throwIfAborted();
  return result;
}
