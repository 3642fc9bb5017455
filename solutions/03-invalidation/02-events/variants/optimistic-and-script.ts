import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { backoffMs, transaction } from '#kit/given';
import {
  type Changes,
  cached,
  categoryKey,
  pauseFor,
  productKey,
  selectCategory,
  selectProduct,
} from '../given';

/** An update that finds its row changed begins again. A relay deletes the events, then the keys, then commits. */
export function createCatalogue({ redis, db }: { redis: Redis; db: Pool }) {
  const attempt = (id: number, { price, categoryId }: Changes) =>
    transaction(db, async (connection) => {
      const [[before]] = await connection.query<RowDataPacket[]>(
        'SELECT price, category_id AS categoryId FROM products WHERE id = ?',
        [id],
      );
      if (!before) return false;
      const after = { price: price ?? before.price, categoryId: categoryId ?? before.categoryId };
      const [{ affectedRows }] = await connection.query<ResultSetHeader>(
        'UPDATE products SET price = ?, category_id = ? WHERE id = ? AND price = ? AND category_id = ?',
        [after.price, after.categoryId, id, before.price, before.categoryId],
      );
      if (affectedRows === 0) return 'changed meanwhile';
      const keys = new Set([productKey(id), categoryKey(before.categoryId), categoryKey(after.categoryId)]);
      await connection.query('INSERT INTO outbox (cache_key) VALUES ?', [[...keys].map((key) => [key])]);
      return true;
    });

  return {
    product: (id: number) => cached(redis, productKey(id), () => selectProduct(db, id)),
    category: (id: number) => cached(redis, categoryKey(id), () => selectCategory(db, id)),
    async update(id: number, changes: Changes): Promise<boolean> {
      for (;;) {
        const result = await attempt(id, changes);
        if (result !== 'changed meanwhile') return result;
      }
    },
  };
}

const DELETE_ALL = "for _, key in ipairs(KEYS) do redis.call('DEL', key) end";

interface RelayOptions {
  redis: Redis;
  db: Pool;
  batchSize?: number;
  pauseMs?: number;
  longestPauseMs?: number;
  deadlineMs?: number;
  onError?: (error: unknown) => void;
  pause?: typeof pauseFor;
}

export function createRelay({
  redis,
  db,
  batchSize = 100,
  pauseMs = 20,
  longestPauseMs = 5000,
  deadlineMs = 5000,
  onError = () => {},
  pause = pauseFor,
}: RelayOptions) {
  async function work(connection: PoolConnection): Promise<number> {
    const [events] = await connection.query<RowDataPacket[]>(
      'SELECT id, cache_key FROM outbox ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED',
      [batchSize],
    );
    for (const { id } of events) await connection.query('DELETE FROM outbox WHERE id = ?', [id]);
    // A COMMIT that fails after this has deleted keys too early, and the events are still there: harmless.
    if (events.length > 0)
      await redis.eval(DELETE_ALL, events.length, ...events.map((event) => event.cache_key));
    return events.length;
  }

  const pass = () => transaction(db, work, { isolation: 'READ COMMITTED', deadlineMs });

  async function run(signal: AbortSignal): Promise<void> {
    for (let failures = 0; !signal.aborted; ) {
      const relayed = await pass().catch((error: unknown) => {
        onError(error);
        return undefined;
      });
      if (relayed === undefined) {
        await pause(backoffMs(failures++, { firstMs: pauseMs, longestMs: longestPauseMs }), signal);
      } else {
        failures = 0;
        if (relayed === 0) await pause(pauseMs, signal);
      }
    }
  }

  return { pass, run };
}
