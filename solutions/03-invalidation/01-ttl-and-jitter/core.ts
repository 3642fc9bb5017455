import type { Redis } from 'ioredis';
import { type Draw, decode, type Entry, encode, type Local, type Options } from './given';

/** The textbook version. It trusts its arguments, its clock and its Redis. */
// #region core
export function createTtlPolicy({ random = Math.random, now = Date.now }: Options = {}) {
  const policy = {
    deadline(baseMs: number, { spread }: Draw): number {
      const jitter = baseMs * spread * (2 * random() - 1);
      return now() + Math.trunc(baseMs + jitter);
    },

    earliest: (...deadlines: number[]): number => Math.min(...deadlines),

    async store(redis: Redis, key: string, value: unknown, deadline: number): Promise<boolean> {
      await redis.set(key, encode({ value, deadline }), 'PX', deadline - now());
      return true;
    },

    async read<V>(redis: Redis, key: string): Promise<Entry<V> | undefined> {
      const text = await redis.get(key);
      return text === null ? undefined : decode(text);
    },

    async readNear<V>(local: Local, redis: Redis, key: string): Promise<Entry<V> | undefined> {
      const near = local.get(key);
      if (near !== undefined && decode(near).deadline > now()) return decode(near);
      local.delete(key);
      const entry = await policy.read<V>(redis, key);
      if (entry) local.set(key, encode(entry));
      return entry;
    },

    async storeAll(
      redis: Redis,
      entries: Iterable<readonly [key: string, value: unknown]>,
      baseMs: number,
      draw: Draw,
    ): Promise<void> {
      const deadline = policy.deadline(baseMs, draw);
      const pipeline = redis.pipeline();
      for (const [key, value] of entries) {
        pipeline.set(key, encode({ value, deadline }), 'PX', deadline - now());
      }
      await pipeline.exec();
    },
  };
  return policy;
}
// #endregion
