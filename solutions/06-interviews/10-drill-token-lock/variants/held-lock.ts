import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { LockedError, LostLockError, lockKey, type Options, withDeadline } from '../given';

/** One script for both: with no time left to give, it deletes. */
const IF_OURS = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'lost' end
  if ARGV[2] == '0' then redis.call('DEL', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  return 'ours'`;

/** Each timer begins the next one. The call ends as soon as the lock is lost, and does not wait for the work. */
export async function withLock<T>(
  { redis, name, ttlMs }: Options,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const lock = new HeldLock(redis, name, ttlMs);
  await lock.acquire();
  let result: T;
  try {
    result = await Promise.race([work(lock.signal), lock.lost]);
  } finally {
    await lock.release();
  }
  lock.signal.throwIfAborted();
  return result;
}

class HeldLock {
  private readonly token = randomBytes(16).toString('hex');
  private readonly controller = new AbortController();
  private expiry: NodeJS.Timeout | undefined;
  private renewal: NodeJS.Timeout | undefined;
  private isEnded = false;

  readonly signal = this.controller.signal;
  /** Rejects when the lock is lost. */
  readonly lost = new Promise<never>((_, reject) => {
    this.signal.addEventListener('abort', () => reject(this.signal.reason), { once: true });
  });

  constructor(
    private readonly redis: Redis,
    private readonly name: string,
    private readonly ttlMs: number,
  ) {
    this.lost.catch(() => {});
  }

  async acquire(): Promise<void> {
    const sentAt = performance.now();
    const answer = await this.redis.set(lockKey(this.name), this.token, 'PX', this.ttlMs, 'NX');
    if (answer === null) throw new LockedError(this.name);
    this.expireAt(sentAt + this.ttlMs);
    this.renewLater();
  }

  async release(): Promise<void> {
    this.isEnded = true;
    clearTimeout(this.expiry);
    clearTimeout(this.renewal);
    if (this.signal.aborted) return;
    const answer = await withDeadline(this.ifOurs(0), this.ttlMs).catch(() => 'no answer');
    if (answer === 'lost') this.lose();
  }

  private renewLater(): void {
    this.renewal = setTimeout(() => void this.renew().catch(() => {}), this.ttlMs / 3);
  }

  private async renew(): Promise<void> {
    this.renewLater();
    const sentAt = performance.now();
    const answer = await this.ifOurs(this.ttlMs);
    if (this.isEnded) return;
    if (answer === 'ours') this.expireAt(sentAt + this.ttlMs);
    else this.lose();
  }

  private expireAt(time: number): void {
    clearTimeout(this.expiry);
    this.expiry = setTimeout(() => this.lose(), time - performance.now());
  }

  private lose(): void {
    clearTimeout(this.renewal);
    this.controller.abort(new LostLockError(this.name));
  }

  private ifOurs(ms: number): Promise<unknown> {
    return this.redis.eval(IF_OURS, 1, lockKey(this.name), this.token, ms);
  }
}
