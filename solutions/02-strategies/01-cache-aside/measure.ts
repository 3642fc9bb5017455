import { setTimeout as sleep } from 'node:timers/promises';
import { Redis, type RedisOptions } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { type Claim, defineMeasure, median, redisVersion } from '#claims';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { startRedis } from '../../../course/servers/redis';
import { cacheClientOptions, createProducts } from './cache-aside';
import { DEADLINE_MS, selectProduct } from './given';

const PRODUCTS = 10_000;
const READERS = 50;

/** How long Redis answers nobody (ms). */
const OUTAGE_MS = 400;
const QUIET_MS = 100;
const READ_EVERY_MS = 10;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, loadShop } = servers();
    await loadShop();
    const own = await startRedis();
    const admin = new Redis(own.url);
    try {
      const hit = await hitAgainstQuery(redis, db, quick);
      const rate = await readsPerSecond(redis, db, quick);
      const bounded = await throughOutage(own.url, admin, db, cacheClientOptions());
      const byDefault = await throughOutage(own.url, admin, db, {});
      const outage = `while Redis answers nobody for ${OUTAGE_MS} ms`;
      const claims: Claim[] = [
        {
          name: 'hit-vs-query',
          says: 'a SELECT by primary key against a hit of find(): median time',
          value: hit,
          unit: '×',
          atLeast: 0.6,
        },
        {
          name: 'reads-per-second',
          says: `reads a second by ${READERS} readers, a few products being most popular: cache-aside against MySQL alone`,
          value: rate,
          unit: '×',
          atLeast: 1,
        },
        {
          name: 'default-worst',
          says: `slowest read ${outage}: default options of ioredis`,
          value: Math.max(...byDefault.during),
          unit: 'ms',
        },
        {
          name: 'bounded-worst',
          says: `slowest read ${outage}: a deadline of ${DEADLINE_MS} ms`,
          value: Math.max(...bounded.during),
          unit: 'ms',
        },
        {
          name: 'outage-ratio',
          says: `median read ${outage}: default options against a deadline of ${DEADLINE_MS} ms`,
          value: median(byDefault.during) / median(bounded.during),
          unit: '×',
          atLeast: 2,
        },
      ];
      return {
        claims,
        plots: [
          {
            name: 'outage',
            title: `Latency of each read while Redis answers nobody from ${QUIET_MS} to ${QUIET_MS + OUTAGE_MS} ms`,
            x: { label: 'time of the call (ms)', scale: 'linear' },
            y: { label: 'latency (ms)', scale: 'log' },
            series: [
              { name: 'default options', points: byDefault.reads },
              { name: `deadline of ${DEADLINE_MS} ms`, points: bounded.reads },
            ],
          },
        ],
        servers: [await redisVersion(admin)],
      };
    } finally {
      admin.disconnect();
      await own.close();
    }
  },
});

/** One read at a time, the contenders in turn. */
async function hitAgainstQuery(redis: Redis, db: Pool, quick: boolean): Promise<number> {
  const products = createProducts({ redis, db });
  await products.find(7);
  const hits: number[] = [];
  const queries: number[] = [];
  for (let i = 0; i < (quick ? 300 : 5000); i++) {
    hits.push(await timed(() => products.find(7)));
    queries.push(await timed(() => selectProduct(db, 7)));
  }
  return median(queries) / median(hits);
}

/** The same reads with the cache and without; rounds in turn, the median of their ratios. */
async function readsPerSecond(redis: Redis, db: Pool, quick: boolean): Promise<number> {
  const products = createProducts({ redis, db });
  const pick = zipf({ n: PRODUCTS, skew: 0.99, random: seeded(21) });
  const reads = quick ? 1500 : 10_000;
  await redis.flushdb();
  // Filled to what it holds in the long run: a cold cache is another question.
  await readsPerMs(10_000, () => products.find(pick() + 1));
  const ratios: number[] = [];
  for (let round = 0; round < 3; round++) {
    const cached = await readsPerMs(reads, () => products.find(pick() + 1));
    const bare = await readsPerMs(reads, () => selectProduct(db, pick() + 1));
    ratios.push(cached / bare);
  }
  return median(ratios);
}

/** Of all readers together. */
async function readsPerMs(reads: number, read: () => Promise<unknown>): Promise<number> {
  let left = reads;
  const reader = async () => {
    while (left-- > 0) await read();
  };
  return reads / (await timed(() => Promise.all(Array.from({ length: READERS }, reader))));
}

/** One read each READ_EVERY_MS, before, during and after a time in which Redis answers nobody (CLIENT PAUSE). */
async function throughOutage(url: string, admin: Redis, db: Pool, options: RedisOptions) {
  const redis = new Redis(url, options);
  redis.on('error', () => {});
  const products = createProducts({ redis, db });
  await new Promise((resolve) => redis.once('ready', resolve));
  await products.find(7);
  const start = performance.now();
  const now = () => performance.now() - start;
  const pending: Promise<readonly [number, number]>[] = [];
  let paused = false;
  while (now() < QUIET_MS + OUTAGE_MS + QUIET_MS) {
    if (!paused && now() > QUIET_MS) {
      paused = true;
      await admin.client('PAUSE', OUTAGE_MS, 'ALL');
    }
    const at = now();
    pending.push(products.find(7).then(() => [at, now() - at] as const));
    await sleep(READ_EVERY_MS);
  }
  const reads = await Promise.all(pending);
  redis.disconnect();
  const during = reads.filter(([at]) => at >= QUIET_MS && at < QUIET_MS + OUTAGE_MS - 50).map(([, ms]) => ms);
  return { reads, during };
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
