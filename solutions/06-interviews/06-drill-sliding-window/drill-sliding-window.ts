import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';

export interface Decision {
  readonly allowed: boolean;
  /** How many more calls the window has room for now. */
  readonly remaining: number;
  /** How long until a call can be allowed (ms, an integer); 0 when this one is. */
  readonly retryAfterMs: number;
}

/** The log: a sorted set of the allowed calls, by the clock of Redis in µs. Each call is a member of its own. */
const ALLOW = `
  local log, limit, window, call = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000, ARGV[3]
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  redis.call('ZREMRANGEBYSCORE', log, '-inf', now - window)
  local taken = redis.call('ZCARD', log)
  if taken >= limit then
    local oldest = redis.call('ZRANGE', log, 0, 0, 'WITHSCORES')
    return {0, 0, math.ceil((oldest[2] + window - now) / 1000)}
  end
  redis.call('ZADD', log, now, call)
  redis.call('PEXPIRE', log, ARGV[2])
  return {1, limit - taken - 1, 0}`;

/**
 * Decides about one call of `key`: at most `limit` are allowed in any `windowMs`, in all processes together. A refused call is
 * not counted. One Lua script decides; `key`, as it stands, is its only key.
 */
export async function allow(redis: Redis, key: string, limit: number, windowMs: number): Promise<Decision> {
  const answer = await redis.eval(ALLOW, 1, key, limit, windowMs, randomUUID());
  const [allowed = 0, remaining = 0, retryAfterMs = 0] = answer as number[];
  return { allowed: allowed === 1, remaining, retryAfterMs };
}
