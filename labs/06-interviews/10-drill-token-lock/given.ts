import type { Redis } from 'ioredis';

/** A promise with a deadline: `withDeadline(redis.ping(), ms)` rejects after `ms`. */
export { withDeadline } from '#kit/given';

export interface Options {
  /** It may let a command wait for as long as Redis does not answer. */
  readonly redis: Redis;
  readonly name: string;
  /** How long the lock lives without a renewal (ms). */
  readonly ttlMs: number;
}

/** The key of the lock. Its value is the token of the call that has the lock. */
export const lockKey = (name: string): string => `lock:{${name}}`;

export class LockedError extends Error {
  override readonly name = 'LockedError';

  constructor(name: string) {
    super(`another call holds the lock ${name}`);
  }
}

export class LostLockError extends Error {
  override readonly name = 'LostLockError';

  constructor(name: string) {
    super(`the lock ${name} was lost while the work ran`);
  }
}
