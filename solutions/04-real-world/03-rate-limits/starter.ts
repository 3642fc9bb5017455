import type { Redis } from 'ioredis';
import type { Decision } from './given';

export interface RateLimiter {
  /** Decides about one call of this user. A refused call is not counted. */
  take(tenant: string, user: string): Promise<Decision>;
}

export interface Options {
  readonly redis: Redis;
  /** The name of this limiter, for example `login`. Limiters with the same name share their quotas. */
  readonly name: string;
  /** The most calls that one user is allowed in any `windowMs`. */
  readonly limit: number;
  readonly windowMs: number;
  /** In production: `open` allows all calls while Redis fails, `closed` refuses them. */
  readonly whenRedisFails: 'open' | 'closed';
  /** In production: the longest that Redis may take to answer (ms); DEADLINE_MS if absent. */
  readonly deadlineMs?: number;
  /** In production: called with each error of Redis. It never throws. */
  readonly onError?: (error: unknown) => void;
}

/**
 * A rate limiter for all processes that use this Redis. In production: a call takes at most one deadline.
 * @throws in production, an EvictingRedisError or an InvalidOptionError
 */
export async function openRateLimiter({
  redis,
  name,
  limit,
  windowMs,
  whenRedisFails,
}: Options): Promise<RateLimiter> {
  throw new Error('not implemented');
}
