import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { addViews, DRAINING_KEY, PENDING_KEY, selectViews } from './given';

/** The textbook version: rename, apply, delete. A drain that dies after its commit doubles the batch. */
// #region core
export function createViewCounter({ redis, db }: { redis: Redis; db: Pool }) {
  return {
    async increment(id: number, by = 1): Promise<void> {
      await redis.hincrby(PENDING_KEY, String(id), by);
    },

    async drain(): Promise<void> {
      // A batch that an earlier drain has left behind comes first.
      if ((await redis.exists(DRAINING_KEY)) === 0) {
        if ((await redis.exists(PENDING_KEY)) === 0) return;
        await redis.renamenx(PENDING_KEY, DRAINING_KEY);
      }
      await addViews(db, await redis.hgetall(DRAINING_KEY));
      await redis.del(DRAINING_KEY);
    },

    async read(id: number): Promise<number | null> {
      const waiting = await redis.multi().hget(PENDING_KEY, String(id)).hget(DRAINING_KEY, String(id)).exec();
      const stored = await selectViews(db, id);
      if (stored === null) return null;
      return (waiting ?? []).reduce((sum, [, views]) => sum + Number(views), stored);
    },
  };
}
// #endregion
