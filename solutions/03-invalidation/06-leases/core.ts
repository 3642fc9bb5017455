import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { encode, type Load, leaseKey, type Times, valueKey } from './given';

/** KEYS: value, lease. ARGV: token, text, ttlMs. */
const FILL = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  redis.call('DEL', KEYS[2])`;

/** The version for an interview. When a load or Redis fails, nothing is cleaned up. */
// #region core
export function createLeaseCache({ redis }: { redis: Redis }) {
  return {
    async getOrLoad<V>(key: string, load: Load<V>, { ttlMs, leaseMs, waitMs }: Times): Promise<V> {
      const token = randomUUID();
      const giveUpAt = Date.now() + waitMs;
      while (true) {
        const cached = await redis.get(valueKey(key));
        if (cached !== null) return JSON.parse(cached);
        const granted = await redis.set(leaseKey(key), token, 'PX', leaseMs, 'NX');
        if (granted || Date.now() >= giveUpAt) {
          const text = encode(await load());
          if (granted) await redis.eval(FILL, 2, valueKey(key), leaseKey(key), token, text, ttlMs);
          return JSON.parse(text);
        }
        await sleep(10);
      }
    },

    async invalidate(key: string): Promise<void> {
      await redis.del(valueKey(key), leaseKey(key));
    },
  };
}
// #endregion
