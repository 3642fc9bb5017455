import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { LockedError, LostLockError, lockKey, type Options, withDeadline } from '../given';

const OURS = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end";

/** A loop that sleeps and renews, until the work ends it. A renewal without an answer in time is a loss: early, and safe. */
export async function withLock<T>(options: Options, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const { redis, name, ttlMs } = options;
  const [key, token] = [lockKey(name), randomUUID()];
  const granted = await redis.set(key, token, 'PX', ttlMs, 'NX');
  if (!granted) throw new LockedError(name);

  const [lost, ended] = [new AbortController(), new AbortController()];
  const keeping = keep(options, key, token, ended.signal).then((isLost) => {
    if (isLost) lost.abort(new LostLockError(name));
  });
  try {
    const result = await work(lost.signal);
    if (lost.signal.aborted) throw lost.signal.reason;
    return result;
  } finally {
    ended.abort();
    await keeping;
    const release = `${OURS} return redis.call('DEL', KEYS[1])`;
    if (!lost.signal.aborted) await withDeadline(redis.eval(release, 1, key, token), ttlMs).catch(() => {});
  }
}

/** @returns true when the lock is lost, false when the work has ended before */
async function keep(
  { redis, ttlMs }: Options,
  key: string,
  token: string,
  ended: AbortSignal,
): Promise<boolean> {
  const script = `${OURS} return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;
  for (;;) {
    await sleep(ttlMs / 3, undefined, { signal: ended }).catch(() => {});
    if (ended.aborted) return false;
    const renewing = withDeadline(redis.eval(script, 1, key, token, ttlMs), ttlMs / 3);
    if ((await renewing.catch(() => 0)) !== 1) return true;
  }
}
