import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';
import { backoffMs } from '#kit/given';
import {
  type Changes,
  cached,
  categoryKey,
  changeProduct,
  entityOf,
  type Product,
  pauseFor,
  productKey,
  selectCategory,
  selectProduct,
  transaction,
} from './given';

export interface Catalogue {
  /** Both reads are given: by cache-aside. */
  product(id: number): Promise<Product | null>;
  category(categoryId: number): Promise<Product[]>;
  /**
   * Changes the row, and writes one event for each key that is old then: the product's, and those of the lists that show it
   * or have shown it. False when there is no such product.
   * @throws what MySQL throws
   */
  update(id: number, changes: Changes): Promise<boolean>;
}

export function createCatalogue({ redis, db }: { readonly redis: Redis; readonly db: Pool }): Catalogue {
  return {
    product: (id) => cached(redis, productKey(id), () => selectProduct(db, id)),
    category: (categoryId) => cached(redis, categoryKey(categoryId), () => selectCategory(db, categoryId)),

    // #region update
    update: (id, changes) =>
      transaction(db, async (connection) => {
        // The lock comes first: the next update of this product sees the category that this one sets.
        const [[before]] = await connection.query<RowDataPacket[]>(
          'SELECT category_id FROM products WHERE id = ? FOR UPDATE',
          [id],
        );
        if (!before) return false;
        await changeProduct(connection, id, changes);
        const lists = [before.category_id, changes.categoryId ?? before.category_id].map(categoryKey);
        const events = [...new Set([productKey(id), ...lists])].map((key) => [entityOf(id), key]);
        await connection.query('INSERT INTO outbox (entity, cache_key) VALUES ?', [events]);
        return true;
      }),
    // #endregion
  };
}

export interface Relay {
  /**
   * Takes the oldest events, up to `batchSize`. Deletes their keys from Redis, then the events from the outbox.
   * @returns how many events it has deleted
   * @throws what Redis or MySQL throws; then all events stay. In production: also after `deadlineMs`
   */
  pass(): Promise<number>;
  /** Passes until the signal aborts: at once after a pass that had work, else after `pauseMs`. */
  run(signal: AbortSignal): Promise<void>;
}

export interface RelayOptions {
  readonly redis: Redis;
  readonly db: Pool;
  readonly batchSize?: number;
  readonly pauseMs?: number;
  /** In production: the pause after a failure is `pauseMs`, and doubles with each further one up to this. Jitter may halve it. */
  readonly longestPauseMs?: number;
  /** In production: how long a pass may take. */
  readonly deadlineMs?: number;
  /** In production: called with the error of each pass of `run` that fails. It never throws. */
  readonly onError?: (error: unknown) => void;
  /** In production: makes all pauses of `run`. */
  readonly pause?: typeof pauseFor;
}

interface Event {
  readonly id: number;
  readonly entity: string;
  readonly key: string;
}

/** Moves the events of the outbox to Redis. In production: several may run at once. */
export function createRelay({
  redis,
  db,
  batchSize = 100,
  pauseMs = 20,
  longestPauseMs = 5000,
  deadlineMs = 5000,
  onError = () => {},
  pause = pauseFor,
}: RelayOptions): Relay {
  // #region pass
  const pass = () =>
    transaction(
      db,
      async (connection) => {
        const events = await inOrder(connection, await claim(connection));
        if (events.length === 0) return 0;
        await redis.del(events.map(({ key }) => key));
        await connection.query(DELETE, [JSON.stringify(events.map(({ id }) => id))]);
        return events.length;
      },
      // Under REPEATABLE READ the claim locks the end of the table too: each INSERT of an update would wait for Redis.
      { isolation: 'READ COMMITTED', deadlineMs },
    );

  /** Events that no other relay holds, oldest first. */
  async function claim(connection: PoolConnection): Promise<Event[]> {
    const [rows] = await connection.query<RowDataPacket[]>(
      'SELECT id, entity, cache_key AS cacheKey FROM outbox ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED',
      [batchSize],
    );
    return rows.map(({ id, entity, cacheKey }) => ({ id, entity, key: cacheKey }));
  }
  // #endregion

  // #region order
  /** Without the events that follow one of the same entity which another relay holds. A plain read still sees those. */
  async function inOrder(connection: PoolConnection, claimed: readonly Event[]): Promise<readonly Event[]> {
    const last = claimed.at(-1);
    if (!last) return claimed;
    const [rows] = await connection.query<RowDataPacket[]>(
      'SELECT entity, MIN(id) AS id FROM outbox WHERE entity IN (?) AND id < ? AND id NOT IN (?) GROUP BY entity',
      [claimed.map(({ entity }) => entity), last.id, claimed.map(({ id }) => id)],
    );
    const heldElsewhere = new Map(rows.map((row) => [row.entity, row.id]));
    return claimed.filter(({ entity, id }) => id < (heldElsewhere.get(entity) ?? Number.POSITIVE_INFINITY));
  }
  // #endregion

  // #region run
  async function run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        const relayed = await pass();
        failures = 0;
        if (relayed === 0) await pause(pauseMs, signal);
      } catch (error) {
        onError(error);
        await pause(backoffMs(failures++, { firstMs: pauseMs, longestMs: longestPauseMs }), signal);
      }
    }
  }
  // #endregion

  return { pass, run };
}

// #region delete
/** Row by row, by the primary key. For `id IN (…)` MariaDB may scan the table, and then waits for a row of another relay. */
const DELETE = `
  DELETE outbox FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) AS done
  STRAIGHT_JOIN outbox ON outbox.id = done.id`;
// #endregion
