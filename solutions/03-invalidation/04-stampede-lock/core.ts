import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { encode, entryKey, type Load, lockKey, type Times, WaitTimeoutError } from './given';

/** KEYS: lock. ARGV: token. */
const RELEASE = `
  if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`;

/** The version for an interview. A load that hangs, a late store and a Redis that is away are not handled. */
// #region core
export function createLockedCache({ redis }: { redis: Redis }) {
  return {
    async getOrLoad<V>(key: string, load: Load<V>, { freshMs, lockMs, waitMs }: Times): Promise<V> {
      const token = randomUUID();
      for (const giveUpAt = Date.now() + waitMs; ; await sleep(10)) {
        const cached = await redis.get(entryKey(key));
        if (cached !== null) return JSON.parse(cached);
        if (await redis.set(lockKey(key), token, 'PX', lockMs, 'NX')) break;
        if (Date.now() >= giveUpAt) throw new WaitTimeoutError(key, waitMs);
      }
      try {
        // Between our GET and our SET another caller may have stored the value.
        const cached = await redis.get(entryKey(key));
        if (cached !== null) return JSON.parse(cached);
        const text = encode(await load());
        await redis.set(entryKey(key), text, 'PX', freshMs);
        return JSON.parse(text);
      } finally {
        await redis.eval(RELEASE, 1, lockKey(key), token);
      }
    },
  };
}
// #endregion
