import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { backoffMs, transaction } from '#kit/given';
import {
  type Changes,
  cached,
  categoryKey,
  changeProduct,
  type Product,
  pauseFor,
  productKey,
  selectCategory,
  selectProduct,
} from './given';

export interface Catalogue {
  /** Both reads are given: by cache-aside. */
  product(id: number): Promise<Product | null>;
  category(categoryId: number): Promise<Product[]>;
  /**
   * In one `transaction` of `#kit/given`: changes the row, and writes one event for each key that is old then, of the product
   * and of the lists that show it or have shown it. False when there is no such product.
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
        const keys = new Set([productKey(id), ...lists]);
        await connection.query('INSERT INTO outbox (cache_key) VALUES ?', [[...keys].map((key) => [key])]);
        return true;
      }),
    // #endregion
  };
}

export interface Relay {
  /**
   * Takes the oldest events, up to `batchSize`. Deletes their keys from Redis, then the events from the outbox.
   * @returns the number of events that it has deleted
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
        const [events] = await connection.query<RowDataPacket[]>(
          'SELECT id, cache_key FROM outbox ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED',
          [batchSize],
        );
        if (events.length === 0) return 0;
        await redis.del(events.map((event) => event.cache_key));
        await connection.query(DELETE, [JSON.stringify(events.map((event) => event.id))]);
        return events.length;
      },
      // Under REPEATABLE READ the claim locks the end of the table too: each INSERT of an update would wait for Redis.
      { isolation: 'READ COMMITTED', deadlineMs },
    );
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
/** Row by row, by the primary key. Without the hint MariaDB may scan a short table, and then waits for a row of another relay. */
const DELETE = `
  DELETE outbox FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT UNSIGNED PATH '$')) AS done
  STRAIGHT_JOIN outbox FORCE INDEX (PRIMARY) ON outbox.id = done.id`;
// #endregion
