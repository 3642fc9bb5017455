import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { transaction } from '#kit/given';
import {
  type Changes,
  cached,
  categoryKey,
  changeProduct,
  pauseFor,
  productKey,
  selectCategory,
  selectProduct,
} from './given';

/** The textbook version: right for one relay, and one writer for each product, as long as nothing fails. */
// #region core
export function createCatalogue({ redis, db }: { redis: Redis; db: Pool }) {
  return {
    product: (id: number) => cached(redis, productKey(id), () => selectProduct(db, id)),
    category: (id: number) => cached(redis, categoryKey(id), () => selectCategory(db, id)),

    update: (id: number, changes: Changes) =>
      transaction(db, async (connection) => {
        const [[before]] = await connection.query<RowDataPacket[]>(
          'SELECT category_id FROM products WHERE id = ?',
          [id],
        );
        if (!before) return false;
        await changeProduct(connection, id, changes);
        const lists = [before.category_id, changes.categoryId ?? before.category_id].map(categoryKey);
        const keys = new Set([productKey(id), ...lists]);
        await connection.query('INSERT INTO outbox (cache_key) VALUES ?', [[...keys].map((key) => [key])]);
        return true;
      }),
  };
}

export function createRelay({
  redis,
  db,
  batchSize = 100,
  pauseMs = 20,
}: {
  redis: Redis;
  db: Pool;
  batchSize?: number;
  pauseMs?: number;
}) {
  const pass = () =>
    transaction(db, async (connection) => {
      const [events] = await connection.query<RowDataPacket[]>(
        'SELECT id, cache_key FROM outbox ORDER BY id LIMIT ? FOR UPDATE',
        [batchSize],
      );
      if (events.length === 0) return 0;
      await redis.del(events.map((event) => event.cache_key));
      await connection.query('DELETE FROM outbox WHERE id IN (?)', [events.map((event) => event.id)]);
      return events.length;
    });

  async function run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      if ((await pass()) === 0) await pauseFor(pauseMs);
    }
  }

  return { pass, run };
}
// #endregion
