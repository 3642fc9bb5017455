import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockedError, LostLockError, lockKey, type Options, withDeadline } from '../given';

const OURS = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end";

/** A loop that sleeps and renews, until the work ends it. A renewal without an answer before the lock expires is a loss. */
export async function withLock<T>(options: Options, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { redis, name, ttlMs } = options;
  const [key, token] = [lockKey(name), randomUUID()];
  const sentAt = performance.now();
  const granted = await redis.set(key, token, 'PX', ttlMs, 'NX');
  if (!granted) throw new LockedError(name);

  const [lost, ended] = [new AbortController(), new AbortController()];
  const keeping = keep(options, key, token, sentAt + ttlMs, ended.signal).then((isLost) => {
    if (isLost) lost.abort(new LostLockError(name));
  });
  let result: T;
  try {
    result = await work(lost.signal);
  } finally {
    ended.abort();
    await keeping;
    if (!lost.signal.aborted) {
      const release = `${OURS} return redis.call('DEL', KEYS[1])`;
      const released = await withDeadline(redis.eval(release, 1, key, token), ttlMs).catch(() => 'unknown');
      if (released === null) lost.abort(new LostLockError(name));
    }
  }
  lost.signal.throwIfAborted();
  return result;
}

/** @returns true when the lock is lost, false when the work has ended before */
async function keep(
  { redis, ttlMs }: Options,
  key: string,
  token: string,
  heldUntil: number,
  ended: AbortSignal,
): Promise<boolean> {
  const script = `${OURS} return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;
  for (let until = heldUntil; ; ) {
    await sleep(ttlMs / 3, undefined, { signal: ended }).catch(() => {});
    if (ended.aborted) return false;
    const sentAt = performance.now();
    const renewing = withDeadline(redis.eval(script, 1, key, token, ttlMs), until - sentAt);
    if ((await renewing.catch(() => 0)) !== 1) return true;
    until = sentAt + ttlMs;
  }
}
