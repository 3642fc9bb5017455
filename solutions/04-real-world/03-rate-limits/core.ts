import type { Redis } from 'ioredis';
import type { Decision } from './given';

/** The textbook version: right as long as all clocks agree, Redis answers, and names hold no colon. */
// #region core
const TAKE = `
  local limit, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
  local deciding = redis.call('LINDEX', KEYS[1], limit - 1)
  if deciding and deciding + window > now then return deciding + window - now end
  redis.call('LPUSH', KEYS[1], now)
  redis.call('LTRIM', KEYS[1], 0, limit - 1)
  redis.call('PEXPIRE', KEYS[1], window)
  return 0`;

interface Options {
  readonly redis: Redis;
  readonly name: string;
  readonly limit: number;
  readonly windowMs: number;
}

export async function openRateLimiter({ redis, name, limit, windowMs }: Options) {
  return {
    async take(tenant: string, user: string): Promise<Decision> {
      const key = `rate:${name}:${tenant}:${user}`;
      const retryAfterMs = Number(await redis.eval(TAKE, 1, key, limit, windowMs, Date.now()));
      return { allowed: retryAfterMs === 0, retryAfterMs };
    },
  };
}
// #endregion
