import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';

const TTL_MS = 60_000;

export interface PricesOptions {
  readonly redis: Redis;
  readonly db: Pool;
  /** Redis is optional: an answer that is later than this is a miss. */
  readonly deadlineMs?: number;
  /** Called with the id whose invalidation Redis has not confirmed. */
  readonly onPending?: (id: number) => void;
}

// #region fill
/** Stores a value only for the holder of the lease, which a write has deleted. */
const FILL = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return redis.call('DEL', KEYS[2])`;
// #endregion

const keyOf = (id: number) => `price:${id}`;
const leaseOf = (id: number) => `price:${id}:lease`;

/** Prices in cents, by cache-aside with a lease. */
export function createPrices({ redis, db, deadlineMs = 50, onPending = () => {} }: PricesOptions) {
  const optional = <T>(answer: Promise<T>): Promise<T | null> =>
    Promise.race([answer.catch(() => null), sleep(deadlineMs, null, { ref: false })]);
  const select = async (id: number): Promise<number | null> => {
    const [rows] = await db.query<RowDataPacket[]>('SELECT cents FROM prices WHERE id = ?', [id]);
    return rows[0]?.cents ?? null;
  };

  return {
    // #region subject
    async read(id: number): Promise<number | null> {
      const [key, lease] = [keyOf(id), leaseOf(id)];
      const cached = await optional(redis.get(key));
      if (cached !== null) return JSON.parse(cached);
      const token = randomUUID();
      await optional(redis.set(lease, token, 'PX', 5000));
      const price = await select(id);
      await optional(redis.eval(FILL, 2, key, lease, token, JSON.stringify(price), TTL_MS));
      return price;
    },

    async write(id: number, cents: number): Promise<void> {
      await db.query('UPDATE prices SET cents = ? WHERE id = ?', [cents, id]);
      const deleted = await optional(redis.del(keyOf(id), leaseOf(id)));
      if (deleted === null) onPending(id);
    },
    // #endregion
  };
}

export type CreatePrices = typeof createPrices;
