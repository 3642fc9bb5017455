import type { Redis } from 'ioredis';
import { withDeadline } from '#kit/given';
import {
  DEADLINE_MS,
  type Decision,
  EvictingRedisError,
  InvalidOptionError,
  MAX_LIMIT,
  RETRY_MS,
  readEviction,
} from './given';

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

// #region script
/**
 * The log: the times of the last `limit` calls that were allowed, newest first, by the clock of Redis. If the call number
 * `limit` is in the window, the window is full. @returns how long to wait (ms), 0 when the call is allowed
 */
const TAKE = `
  local limit, windowMs = tonumber(ARGV[1]), tonumber(ARGV[2])
  local time = redis.call('TIME')
  -- In µs: rounded to ms, a window would be up to 1 ms too short.
  local now = time[1] * 1000000 + time[2]

  local deciding = redis.call('LINDEX', KEYS[1], limit - 1)
  local wait = deciding and deciding + windowMs * 1000 - now or 0
  if wait > 0 then return math.ceil(wait / 1000) end

  redis.call('LPUSH', KEYS[1], now)
  local expiring = redis.pcall('PEXPIRE', KEYS[1], windowMs)
  if type(expiring) == 'table' and expiring.err then
    -- What a script has written before its error stays written: take it back.
    redis.call('LPOP', KEYS[1])
    return expiring
  end
  redis.call('LTRIM', KEYS[1], 0, limit - 1)
  return 0`;
// #endregion

/**
 * A rate limiter for all processes that use this Redis. In production: a call takes at most one deadline.
 * @throws in production, an EvictingRedisError or an InvalidOptionError
 */
// #region limiter
export async function openRateLimiter({
  redis,
  name,
  limit,
  windowMs,
  whenRedisFails,
  deadlineMs = DEADLINE_MS,
  onError = () => {},
}: Options): Promise<RateLimiter> {
  requireInteger('limit', limit, MAX_LIMIT);
  requireInteger('windowMs', windowMs);
  await requireNoEviction(redis, deadlineMs, onError);
  return {
    async take(tenant, user) {
      const key = quotaKey(name, tenant, user);
      try {
        const taking = redis.eval(TAKE, 1, key, limit, windowMs);
        const retryAfterMs = Number(await withDeadline(taking, deadlineMs));
        return { allowed: retryAfterMs === 0, retryAfterMs };
      } catch (error) {
        onError(error);
        return whenRedisFails === 'open'
          ? { allowed: true, retryAfterMs: 0 }
          : { allowed: false, retryAfterMs: RETRY_MS };
      }
    },
  };
}
// #endregion

// #region start
function requireInteger(option: string, value: number, max = Number.MAX_SAFE_INTEGER): void {
  if (!Number.isInteger(value) || value < 1 || value > max) throw new InvalidOptionError(option, value);
}

/** A Redis that cannot be asked does not keep a service from starting: `whenRedisFails` says what its calls get. */
async function requireNoEviction(
  redis: Redis,
  deadlineMs: number,
  onError: (error: unknown) => void,
): Promise<void> {
  const eviction = await withDeadline(readEviction(redis), deadlineMs).catch(onError);
  if (eviction && eviction.maxmemory > 0 && eviction.policy !== 'noeviction') {
    throw new EvictingRedisError(eviction.policy);
  }
}
// #endregion

// #region key
/** Each part is encoded, so that no text of a user reads as a separator, or as the hash tag of a cluster. */
function quotaKey(...parts: readonly string[]): string {
  // encodeURIComponent throws at half of a surrogate pair, which has no UTF-8. A Buffer replaces it.
  return ['rate', ...parts.map((part) => encodeURIComponent(Buffer.from(part).toString()))].join(':');
}
// #endregion
