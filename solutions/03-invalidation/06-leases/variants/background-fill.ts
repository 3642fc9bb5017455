import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { backoffMs, parseJson } from '#kit/given';
import {
  type Clock,
  encode,
  type Load,
  LoadTimeoutError,
  leaseKey,
  systemClock,
  type Times,
  valueKey,
} from '../given';

/** One script for all: the text to store, '' to give the lease back, or no ARGV[3] to ask. */
const LEASE = `
  local value, lease = KEYS[1], KEYS[2]
  local token, px, text = ARGV[1], ARGV[2], ARGV[3]
  if text then
    if redis.call('GET', lease) == token then
      redis.call('DEL', lease)
      if text ~= '' then redis.call('SET', value, text, 'PX', px) end
    end
    return
  end
  local ours = redis.call('SET', lease, token, 'PX', px, 'NX') or redis.call('GET', lease) == token
  return {redis.call('GET', value), ours and 1 or 0}`;

interface Options {
  readonly redis: Redis;
  readonly clock?: Clock;
  readonly onCacheError?: (error: unknown) => void;
}

/** The caller does not wait for its fill. The lease is taken before the value is read, and given back after a hit. */
export function createLeaseCache({ redis, clock = systemClock, onCacheError = () => {} }: Options) {
  const run = (key: string, ...args: (string | number)[]) =>
    redis.callBuffer('EVAL', LEASE, 2, valueKey(key), leaseKey(key), ...args);

  async function look(key: string, token: string, leaseMs: number) {
    const reply = await run(key, token, leaseMs);
    const [bytes, ours] = Array.isArray(reply) ? reply : [];
    const value = Buffer.isBuffer(bytes) ? parseJson(bytes) : undefined;
    if (Buffer.isBuffer(bytes) && value === undefined) onCacheError(new Error(`damaged: ${key}`));
    return { value, granted: ours === 1 };
  }

  async function lookUntil(key: string, token: string, { leaseMs, waitMs }: Times) {
    const end = clock.now() + waitMs;
    for (let attempt = 0; ; attempt++) {
      const seen = await look(key, token, leaseMs);
      const leftMs = end - clock.now();
      if (seen.value !== undefined || seen.granted || leftMs <= 0) return seen;
      await clock.sleep(Math.min(leftMs, backoffMs(attempt)));
    }
  }

  async function loadText(key: string, load: Load<unknown>, ms: number): Promise<string> {
    const signal = AbortSignal.timeout(ms);
    const late = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new LoadTimeoutError(key, ms)));
    });
    late.catch(() => {});
    return encode(await Promise.race([(async () => load(signal))(), late]));
  }

  return {
    async getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V> {
      const token = randomUUID();
      const seen = await lookUntil(key, token, times).catch((error: unknown) => {
        onCacheError(error);
        return { value: undefined, granted: false };
      });
      const finish = (text: string) => {
        if (seen.granted) void run(key, token, times.ttlMs, text).catch(onCacheError);
      };
      if (seen.value !== undefined) {
        finish('');
        return seen.value as V;
      }
      try {
        const text = await loadText(key, load, times.leaseMs);
        finish(text);
        return JSON.parse(text);
      } catch (error) {
        finish('');
        throw error;
      }
    },

    invalidate: async (key: string): Promise<void> => {
      await redis.multi().del(valueKey(key)).del(leaseKey(key)).exec();
    },
  };
}
