import type { Redis } from 'ioredis';

/** In production: how long Redis may take to answer (ms), where the options do not say. */
export const DEADLINE_MS = 50;

/** In production: the `retryAfterMs` of a call that is refused without Redis. */
export const RETRY_MS = 1000;

/** In production: a log with more entries for each user costs too much. */
export const MAX_LIMIT = 10_000;

export interface Decision {
  readonly allowed: boolean;
  /** How long until a call can be allowed (ms, an integer); 0 when this call is allowed. */
  readonly retryAfterMs: number;
}

/** In production: a Redis that may evict a quota does not keep limits. */
export class EvictingRedisError extends Error {
  override readonly name = 'EvictingRedisError';

  constructor(policy: string) {
    super(`maxmemory-policy is ${policy}: an evicted quota starts again at 0. Use a Redis with noeviction`);
  }
}

/** In production: a limit or a window that is not a positive integer. */
export class InvalidOptionError extends RangeError {
  override readonly name = 'InvalidOptionError';

  constructor(option: string, value: unknown) {
    super(`${option} must be a positive integer in its range, not ${String(value)}`);
  }
}

/** What `INFO memory` says. `maxmemory` is in bytes; with 0 there is no bound, and Redis evicts nothing. */
export async function readEviction(redis: Redis): Promise<{ policy: string; maxmemory: number }> {
  const info = await redis.info('memory');
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1] ?? '';
  return { policy: field('maxmemory_policy'), maxmemory: Number(field('maxmemory')) };
}
