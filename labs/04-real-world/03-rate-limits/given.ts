import type { Redis } from 'ioredis';

/** In production: how long Redis may take to answer (ms), if the options have no `deadlineMs`. */
export const DEADLINE_MS = 50;

/** In production: the `retryAfterMs` of a call that is refused without Redis. */
export const RETRY_MS = 1000;

/** In production: the largest limit, because the log of a user has up to `limit` entries. */
export const MAX_LIMIT = 10_000;

export interface Decision {
  readonly allowed: boolean;
  /** How long until a call can be allowed (ms, an integer); 0 when this call is allowed. */
  readonly retryAfterMs: number;
}

/** In production: thrown for a Redis that may evict a quota. */
export class EvictingRedisError extends Error {
  override readonly name = 'EvictingRedisError';

  constructor(policy: string) {
    super(`maxmemory-policy is ${policy}: an evicted quota starts again at 0. Use a Redis with noeviction`);
  }
}

/** In production: thrown for a limit or a window that is not a positive integer. */
export class InvalidOptionError extends RangeError {
  override readonly name = 'InvalidOptionError';

  constructor(option: string, value: unknown) {
    super(`${option} must be a positive integer in its range, not ${String(value)}`);
  }
}

/** Reads `INFO memory`. `maxmemory` is in bytes; 0 means no limit, and Redis evicts nothing. */
export async function readEviction(redis: Redis): Promise<{ policy: string; maxmemory: number }> {
  const info = await redis.info('memory');
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1] ?? '';
  return { policy: field('maxmemory_policy'), maxmemory: Number(field('maxmemory')) };
}
