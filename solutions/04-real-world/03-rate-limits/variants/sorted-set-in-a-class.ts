import { randomUUID } from 'node:crypto';
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

/** A sorted set of the calls that were allowed, by the clock of Redis. Each call needs a member of its own. */
const TAKE = `
  local log, limit, windowMs, call = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  redis.call('ZREMRANGEBYSCORE', log, '-inf', now - windowMs * 1000)
  local taken = redis.call('ZCARD', log)
  if taken >= limit then
    local deciding = redis.call('ZRANGE', log, taken - limit, taken - limit, 'WITHSCORES')
    return math.ceil((deciding[2] + windowMs * 1000 - now) / 1000)
  end
  redis.call('ZADD', log, now, call)
  local expiring = redis.pcall('PEXPIRE', log, windowMs)
  if type(expiring) == 'table' and expiring.err then
    redis.call('ZREM', log, call)
    return expiring
  end
  return 0`;

export async function openRateLimiter(options: Options): Promise<RateLimiter> {
  requireInteger('limit', options.limit, MAX_LIMIT);
  requireInteger('windowMs', options.windowMs);
  await requireNoEviction(options.redis, options.deadlineMs ?? DEADLINE_MS, options.onError ?? (() => {}));
  return new SortedSetLimiter(options);
}

class SortedSetLimiter implements RateLimiter {
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  async take(tenant: string, user: string): Promise<Decision> {
    const { redis, name, limit, windowMs, deadlineMs = DEADLINE_MS, onError } = this.#options;
    try {
      const taking = redis.eval(TAKE, 1, quotaKey(name, tenant, user), limit, windowMs, randomUUID());
      const retryAfterMs = Number(await withDeadline(taking, deadlineMs));
      return { allowed: retryAfterMs === 0, retryAfterMs };
    } catch (error) {
      onError?.(error);
      return this.#withoutRedis();
    }
  }

  #withoutRedis(): Decision {
    const allowed = this.#options.whenRedisFails === 'open';
    return { allowed, retryAfterMs: allowed ? 0 : RETRY_MS };
  }
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

/** Each part is encoded, so that no text of a user reads as a separator, or as the hash tag of a cluster. */
function quotaKey(...parts: readonly string[]): string {
  // encodeURIComponent throws at half of a surrogate pair, which has no UTF-8. A Buffer replaces it.
  return ['rate', ...parts.map((part) => encodeURIComponent(Buffer.from(part).toString()))].join(':');
}
