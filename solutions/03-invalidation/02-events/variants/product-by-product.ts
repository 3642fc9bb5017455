import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { backoffMs } from '#kit/given';
import {
  type Changes,
  cached,
  categoryKey,
  entityOf,
  pauseFor,
  productKey,
  selectCategory,
  selectProduct,
  transaction,
} from '../given';

/** An update that finds its row changed begins again. A relay takes all events of a product, or none. */
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
      await connection.query('INSERT INTO outbox (entity, cache_key) VALUES ?', [
        [...keys].map((key) => [entityOf(id), key]),
      ]);
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
    const [entities] = await connection.query<RowDataPacket[]>(
      'SELECT entity FROM outbox GROUP BY entity ORDER BY MIN(id) LIMIT ?',
      [batchSize],
    );
    const events: RowDataPacket[] = [];
    for (const { entity } of entities) {
      if (events.length < batchSize)
        events.push(...(await lock(connection, entity, batchSize - events.length)));
    }
    if (events.length === 0) return 0;
    await redis.eval(DELETE_ALL, events.length, ...events.map((event) => event.cache_key));
    for (const { id } of events) await connection.query('DELETE FROM outbox WHERE id = ?', [id]);
    return events.length;
  }

  /** The first events of a product; none when another relay holds one of them. */
  async function lock(connection: PoolConnection, entity: string, atMost: number): Promise<RowDataPacket[]> {
    try {
      const [rows] = await connection.query<RowDataPacket[]>(
        'SELECT id, cache_key FROM outbox FORCE INDEX (by_entity) WHERE entity = ? ORDER BY id LIMIT ? FOR UPDATE NOWAIT',
        [entity, atMost],
      );
      return rows;
    } catch (error) {
      if (/ER_LOCK_NOWAIT|ER_LOCK_WAIT_TIMEOUT/.test(String(Object(error).code))) return [];
      throw error;
    }
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
