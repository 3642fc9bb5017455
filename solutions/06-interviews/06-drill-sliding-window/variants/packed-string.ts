import type { Redis } from 'ioredis';

export interface Decision {
  readonly allowed: boolean;
  /** How many more calls the window has room for now. */
  readonly remaining: number;
  /** How long until a call can be allowed (ms, an integer); 0 when this one is. */
  readonly retryAfterMs: number;
}

/** All times in one string of 8 bytes each: SET stores them with their TTL in one command. */
const ALLOW = `
  local limit, windowMs = tonumber(ARGV[1]), tonumber(ARGV[2])
  local time = redis.call('TIME')
  local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
  local log, oldest = redis.call('GET', KEYS[1]) or '', nil
  while #log > 0 do
    oldest = struct.unpack('d', log)
    -- A call of the same ms as the end of the window may have come before it.
    if oldest + windowMs >= nowMs then break end
    log = string.sub(log, 9)
  end
  local left = limit - #log / 8
  if left < 1 then return {0, oldest + windowMs - nowMs + 1} end
  redis.call('SET', KEYS[1], log .. struct.pack('d', nowMs), 'PX', windowMs + 1)
  return {left, 0}`;

export async function allow(redis: Redis, key: string, limit: number, windowMs: number): Promise<Decision> {
  const [left, retryAfterMs] = (await redis.eval(ALLOW, 1, key, limit, windowMs)) as [number, number];
  return { allowed: left > 0, remaining: Math.max(0, left - 1), retryAfterMs };
}
