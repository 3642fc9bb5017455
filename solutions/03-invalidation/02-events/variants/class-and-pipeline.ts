import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';
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
} from '../given';

export const createCatalogue = (servers: { redis: Redis; db: Pool }) => new Catalogue(servers);
export const createRelay = (options: RelayOptions) => new Relay(options);

/** Classes. A pipeline sends one UNLINK for each key, and each event is deleted by a statement of its own. */
class Catalogue {
  readonly #redis: Redis;
  readonly #db: Pool;

  constructor({ redis, db }: { redis: Redis; db: Pool }) {
    this.#redis = redis;
    this.#db = db;
  }

  product(id: number) {
    return cached(this.#redis, productKey(id), () => selectProduct(this.#db, id));
  }

  category(id: number) {
    return cached(this.#redis, categoryKey(id), () => selectCategory(this.#db, id));
  }

  update(id: number, changes: Changes): Promise<boolean> {
    return transaction(this.#db, async (connection) => {
      const before = await this.#lockCategory(connection, id);
      if (before === undefined || !(await changeProduct(connection, id, changes))) return false;
      const keys = [productKey(id), categoryKey(before)];
      const after = changes.categoryId;
      if (after !== undefined && after !== before) keys.push(categoryKey(after));
      for (const key of keys) {
        await connection.execute('INSERT INTO outbox SET cache_key = ?', [key]);
      }
      return true;
    });
  }

  async #lockCategory(connection: PoolConnection, id: number): Promise<number | undefined> {
    const [rows] = await connection.execute<RowDataPacket[]>(
      'SELECT category_id FROM products WHERE id = ? FOR UPDATE',
      [id],
    );
    return rows[0]?.category_id;
  }
}

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

class Relay {
  readonly #options: Required<RelayOptions>;
  #pauseAfterFailureMs: number;

  constructor({
    batchSize = 50,
    pauseMs = 10,
    longestPauseMs = 2000,
    deadlineMs = 3000,
    onError = () => {},
    pause = pauseFor,
    ...servers
  }: RelayOptions) {
    this.#options = { ...servers, batchSize, pauseMs, longestPauseMs, deadlineMs, onError, pause };
    this.#pauseAfterFailureMs = pauseMs;
  }

  pass(): Promise<number> {
    const { db, batchSize, deadlineMs } = this.#options;
    return transaction(
      db,
      async (connection) => {
        const [events] = await connection.query<RowDataPacket[]>(
          'SELECT * FROM outbox ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED',
          [batchSize],
        );
        await this.#unlink(events.map((event) => event.cache_key));
        for (const event of events) await connection.execute('DELETE FROM outbox WHERE id = ?', [event.id]);
        return events.length;
      },
      { isolation: 'READ COMMITTED', deadlineMs },
    );
  }

  async #unlink(keys: string[]): Promise<void> {
    const pipeline = this.#options.redis.pipeline();
    for (const key of keys) pipeline.unlink(key);
    for (const [error] of (await pipeline.exec()) ?? []) if (error) throw error;
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const pauseMs = await this.#step();
      if (pauseMs > 0) await this.#options.pause(pauseMs, signal);
    }
  }

  /** One pass. @returns how long to pause after it */
  async #step(): Promise<number> {
    const { pauseMs, longestPauseMs, onError } = this.#options;
    try {
      const relayed = await this.pass();
      this.#pauseAfterFailureMs = pauseMs;
      return relayed > 0 ? 0 : pauseMs;
    } catch (error) {
      onError(error);
      const ms = this.#pauseAfterFailureMs;
      this.#pauseAfterFailureMs = Math.min(2 * ms, longestPauseMs);
      return ms;
    }
  }
}
