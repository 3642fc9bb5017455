import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { endPool, openPool } from '../../kit/pool';
import { startRedis } from '../../servers/redis';
import type { Server } from '../../servers/server';
import { CHOICES, SAMPLE_MS, type Sample, type View } from './screen';
import { SETTINGS, Shop } from './shop';

const LOADS = [25, 50, 100, 150, 200, 300, 400, 600, 800, 1000, 1200];
const PRODUCTS = 400;
const AWAY_MS = 500;
const SAMPLES_AT_MOST = 400;
const REMEMBERED_MS = 10_000;

/**
 * The shop that `npm run collapse` draws. Its Redis is one of its own, which may be flushed and killed. Of MySQL it uses
 * four connections and no schema.
 */
export class Live {
  #server: Server;
  readonly #shop: Shop;
  readonly #pool: Pool;
  readonly #timer: NodeJS.Timeout;
  #samples: Sample[] = [];
  #event = '';
  #isDown = false;
  #closed = false;
  /** The counters at the last sample, and what came since the one before it. */
  #counted = { hits: 0, gets: 0, served: 0, wasted: 0 };
  #rates = { hits: Number.NaN, queries: 0, wasted: Number.NaN };

  private constructor(server: Server, shop: Shop, pool: Pool, onSample: () => void) {
    this.#server = server;
    this.#shop = shop;
    this.#pool = pool;
    this.#timer = setInterval(() => {
      this.#sample();
      onSample();
    }, SAMPLE_MS);
  }

  /** @param onSample called after each sample: draw again */
  static async open(mysqlUrl: string, onSample: () => void): Promise<Live> {
    const server = await startRedis();
    const pool = openPool(mysqlUrl, { connectionLimit: 4 });
    const redis = await connected(server.url);
    const shop = new Shop(redis, pool, { ...SETTINGS, products: PRODUCTS });
    await shop.warm();
    shop.open();
    return new Live(server, shop, pool, onSample);
  }

  /** One step up (1) or down (-1). */
  changeLoad(by: 1 | -1): void {
    const at = LOADS.indexOf(this.#shop.offered) + by;
    this.#shop.offered = LOADS[Math.max(0, Math.min(at, LOADS.length - 1))] ?? this.#shop.offered;
    this.#event = by > 0 ? '+' : '-';
  }

  choose(number: number): void {
    const remedy = CHOICES[number];
    if (!remedy) return;
    this.#shop.remedy = remedy;
    this.#shop.database.forget();
    this.#event = String(number);
  }

  async flush(): Promise<void> {
    this.#event = 'f';
    // Redis may be away: then it is empty all the same.
    await this.#shop.flush().catch(() => {});
  }

  /** Ends Redis, and starts another one half a second later. */
  async kill(): Promise<void> {
    if (this.#isDown) return;
    this.#isDown = true;
    this.#event = 'k';
    await this.#server.close();
    this.#shop.redis.disconnect();
    await sleep(AWAY_MS);
    if (this.#closed) return;
    const server = await startRedis();
    this.#server = server;
    if (this.#closed) return server.close();
    this.#shop.redis = await connected(server.url);
    this.#isDown = false;
  }

  get view(): View {
    const { offered, remedy, database } = this.#shop;
    return {
      offered,
      remedy,
      redis: this.#isDown ? 'down' : 'up',
      products: PRODUCTS,
      ...this.#rates,
      busy: database.busy,
      connections: database.connections,
      samples: this.#samples,
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearInterval(this.#timer);
    this.#shop.close();
    this.#shop.redis.disconnect();
    await Promise.all([this.#server.close(), endPool(this.#pool)]);
  }

  #sample(): void {
    const { goodput, settings, remedy, database, hits, gets } = this.#shop;
    const now = performance.now();
    // Readers that came later may still be served.
    const to = now - settings.deadlineMs * (remedy.tries ?? 1);
    const sample = {
      goodput: goodput.percent(to - SAMPLE_MS, to),
      queued: database.queued,
      event: this.#event,
    };
    this.#samples = [...this.#samples, sample].slice(-SAMPLES_AT_MOST);
    this.#event = '';
    goodput.forget(now - REMEMBERED_MS);
    const { served, wasted } = database;
    const before = this.#counted;
    this.#counted = { hits, gets, served, wasted };
    this.#rates = {
      hits: ((hits - before.hits) / (gets - before.gets)) * 100,
      queries: ((served - before.served) / SAMPLE_MS) * 1000,
      wasted: ((wasted - before.wasted) / (served - before.served)) * 100,
    };
  }
}

async function connected(url: string): Promise<Redis> {
  const redis = new Redis(url, { enableOfflineQueue: false, commandTimeout: 50, maxRetriesPerRequest: 0 });
  redis.on('error', () => {});
  await once(redis, 'ready');
  return redis;
}
