import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';

export interface Decision {
  readonly allowed: boolean;
  /** How many more calls the window has room for now. */
  readonly remaining: number;
  /** How long until a call can be allowed (ms, an integer); 0 when this one is. */
  readonly retryAfterMs: number;
}

/** A list of the times in µs, oldest first. It needs no names for the calls, because a list holds the same time twice. */
const ALLOW = `
  local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2]) * 1000
  local seconds, micros = unpack(redis.call('TIME'))
  local now = seconds * 1000000 + micros
  local oldest = redis.call('LINDEX', KEYS[1], 0)
  while oldest and tonumber(oldest) <= now - window do
    redis.call('LPOP', KEYS[1])
    oldest = redis.call('LINDEX', KEYS[1], 0)
  end
  local left = limit - redis.call('LLEN', KEYS[1])
  if left < 1 then return {0, math.ceil((oldest + window - now) / 1000)} end
  redis.call('RPUSH', KEYS[1], string.format('%.0f', now))
  redis.call('PEXPIRE', KEYS[1], window / 1000)
  return {left, 0}`;

const DIGEST = createHash('sha1').update(ALLOW).digest('hex');

export async function allow(redis: Redis, key: string, limit: number, windowMs: number): Promise<Decision> {
  const [left = 0, retryAfterMs = 0] = await evaluate(redis, key, [limit, windowMs]);
  return { allowed: left > 0, remaining: Math.max(0, left - 1), retryAfterMs };
}

/** By its digest; Redis may have lost the script, after a restart for example. */
async function evaluate(redis: Redis, key: string, args: readonly number[]): Promise<number[]> {
  try {
    return (await redis.evalsha(DIGEST, 1, key, ...args)) as number[];
  } catch (error) {
    if (!String(error).includes('NOSCRIPT')) throw error;
    return (await redis.eval(ALLOW, 1, key, ...args)) as number[];
  }
}
