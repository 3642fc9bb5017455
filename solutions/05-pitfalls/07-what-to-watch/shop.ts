import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { transaction } from '#kit/given';

/** Of a product: as large as a page fragment. */
const FILLER = 'x'.repeat(1000);
/** Each load keeps its connection for this long: a query that is not free. */
const LOAD_S = 0.003;
const TTL_MS = 10_000;

/** What one window of the dashboard collects. Counters and samples only: no key, no user. */
export interface Window {
  readonly hitMs: number[];
  readonly missMs: number[];
  /** How long ago the value that was served had been replaced, ms; 0 for a current one. */
  readonly staleMs: number[];
  readonly canaryMs: number[];
  invalidated: number;
  refused: number;
}

export const emptyWindow = (): Window => ({
  hitMs: [],
  missMs: [],
  staleMs: [],
  canaryMs: [],
  invalidated: 0,
  refused: 0,
});

/** Stores only for the reader that holds the lease. An invalidation deletes it. */
const FILL = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return redis.call('DEL', KEYS[2])`;

const keyOf = (id: number) => `product:${id}`;
const leaseOf = (id: number) => `lease:${id}`;

/** A canary: written all the time, and read through the cache like the others. */
export const CANARY = 0;

/** Cache-aside with leases, an outbox and its relay; every read tells its outcome. */
export class Shop {
  window = emptyWindow();
  readonly #redis: Redis;
  /** Of the readers: small, as in production. */
  readonly #reads: Pool;
  readonly #db: Pool;
  /** When each version of a product was committed. */
  readonly #commits: number[][];
  #relay: AbortController | undefined;

  constructor({ redis, reads, db }: { redis: Redis; reads: Pool; db: Pool }, products: number) {
    this.#redis = redis;
    this.#reads = reads;
    this.#db = db;
    this.#commits = Array.from({ length: products }, () => [0]);
  }

  async read(id: number): Promise<void> {
    const began = performance.now();
    const key = keyOf(id);
    const text = await this.#redis.get(key);
    if (text !== null) {
      this.window.hitMs.push(performance.now() - began);
      return this.#judge(id, JSON.parse(text).version, began);
    }
    const token = randomUUID();
    const lease = await this.#redis.set(leaseOf(id), token, 'PX', 1000, 'NX');
    const [rows] = await this.#reads.query<RowDataPacket[]>(
      'SELECT version, SLEEP(?) AS slept FROM watched WHERE id = ?',
      [LOAD_S, id],
    );
    const version = Number(rows[0]?.version);
    if (lease === 'OK' && !(await this.#fill(id, version, token))) this.window.refused++;
    this.window.missMs.push(performance.now() - began);
    this.#judge(id, version, began);
  }

  async #fill(id: number, version: number, token: string): Promise<boolean> {
    const value = JSON.stringify({ version, filler: FILLER });
    const ttl = Math.round(TTL_MS * (0.5 + Math.random()));
    return (await this.#redis.eval(FILL, 2, keyOf(id), leaseOf(id), token, value, ttl)) === 1;
  }

  /** A read is stale by the time since its value was replaced, as far as that was before the read began. */
  #judge(id: number, version: number, began: number): void {
    const replaced = this.#commits[id]?.[version + 1] ?? began;
    const ms = Math.max(0, began - replaced);
    this.window.staleMs.push(ms);
    if (id === CANARY) this.window.canaryMs.push(ms);
  }

  /** One at a time: its caller is the only writer. */
  async write(id: number): Promise<void> {
    await transaction(this.#db, async (connection) => {
      await connection.query('UPDATE watched SET version = version + 1 WHERE id = ?', [id]);
      await connection.query('INSERT INTO watched_outbox (product) VALUES (?)', [id]);
    });
    this.#commits[id]?.push(performance.now());
  }

  startRelay(): void {
    this.#relay = new AbortController();
    void this.#run(this.#relay.signal);
  }

  stopRelay(): void {
    this.#relay?.abort();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const [events] = await this.#db.query<RowDataPacket[]>(
        'SELECT id, product FROM watched_outbox ORDER BY id LIMIT 500',
      );
      const ids = [...new Set(events.map(({ product }) => Number(product)))];
      if (ids.length > 0) {
        await this.#redis.del(...ids.map(leaseOf));
        this.window.invalidated += await this.#redis.del(...ids.map(keyOf));
        await this.#db.query('DELETE FROM watched_outbox WHERE id <= ?', [events.at(-1)?.id]);
      }
      await sleep(20);
    }
  }

  /** The age of the oldest event that the relay has not delivered, ms. */
  async outboxLagMs(): Promise<number> {
    const [rows] = await this.#db.query<RowDataPacket[]>(
      'SELECT COALESCE(TIMESTAMPDIFF(MICROSECOND, MIN(created_at), NOW(3)), 0) / 1000 AS lag FROM watched_outbox',
    );
    return Number(rows[0]?.lag);
  }
}

export async function createTables(db: Pool, products: number): Promise<void> {
  await db.query('CREATE TABLE watched (id INT PRIMARY KEY, version INT NOT NULL)');
  await db.query(
    `CREATE TABLE watched_outbox (id BIGINT AUTO_INCREMENT PRIMARY KEY, product INT NOT NULL,
     created_at TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3))`,
  );
  const rows = Array.from({ length: products }, (_, id) => [id, 0]);
  await db.query('INSERT INTO watched VALUES ?', [rows]);
}
