/** The three algorithms that the lesson compares with the log. Each answers 1 when the call is allowed, else 0. */

const NOW = `
  local limit, windowUs = tonumber(ARGV[1]), ARGV[2] * 1000
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local window = math.floor(now / windowUs)`;

/** One counter for each window of the clock. */
const FIXED_WINDOW = `${NOW}
  local known, count = string.match(redis.call('GET', KEYS[1]) or '', '(%d+):(%d+)')
  if tonumber(known) ~= window then count = 0 end
  if tonumber(count) >= limit then return 0 end
  redis.call('SET', KEYS[1], string.format('%.0f:%d', window, count + 1), 'PX', ARGV[2])
  return 1`;

/** The counter of the last window, weighed by the share of it that is still in view, and the counter of this one. */
const SLIDING_COUNTER = `${NOW}
  local log = redis.call('HMGET', KEYS[1], 'window', 'count', 'before')
  local known, count, before = tonumber(log[1] or 0), tonumber(log[2] or 0), tonumber(log[3] or 0)
  if known == window - 1 then count, before = 0, count
  elseif known ~= window then count, before = 0, 0 end
  local left = 1 - (now % windowUs) / windowUs
  if count + before * left >= limit then return 0 end
  redis.call('HSET', KEYS[1], 'window', string.format('%.0f', window), 'count', count + 1, 'before', before)
  redis.call('PEXPIRE', KEYS[1], ARGV[2] * 2)
  return 1`;

/** The time at which a bucket that leaks at a steady rate is empty again: one number. */
const GCRA = `${NOW}
  local emptyAt = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now) + windowUs / limit
  if emptyAt - windowUs > now then return 0 end
  redis.call('SET', KEYS[1], string.format('%.0f', emptyAt), 'PX', ARGV[2])
  return 1`;

export const ALGORITHMS = [
  { name: 'fixed window', script: FIXED_WINDOW },
  { name: 'sliding counter', script: SLIDING_COUNTER },
  { name: 'GCRA', script: GCRA },
];
