import { createHash } from 'node:crypto';
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
} from '../given';

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

/** All times as one string of 8 bytes each, newest last. SET stores them with their TTL: one command, so never one without the other. */
const TAKE = `
  local limit, windowMs = tonumber(ARGV[1]), tonumber(ARGV[2])
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local log = string.sub(redis.call('GET', KEYS[1]) or '', -8 * limit)
  if #log == 8 * limit then
    local wait = struct.unpack('d', log) + windowMs * 1000 - now
    if wait > 0 then return math.ceil(wait / 1000) end
    log = string.sub(log, 9)
  end
  redis.call('SET', KEYS[1], log .. struct.pack('d', now), 'PX', windowMs)
  return 0`;

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

/** A digest: no text of a user is in the key, and it is never longer than this. */
function quotaKey(...parts: readonly string[]): string {
  return `rate:${createHash('sha256').update(JSON.stringify(parts)).digest('base64url')}`;
}
