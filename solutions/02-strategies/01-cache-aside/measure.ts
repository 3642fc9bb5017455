import { setTimeout as sleep } from 'node:timers/promises';
import { Redis, type RedisOptions } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { type Claim, defineMeasure, median, percentile, redisVersion } from '#claims';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { startRedis } from '../../../course/servers/redis';
import { cacheClientOptions, createProducts } from './cache-aside';

const PRODUCTS = 10_000;
const READERS = 50;
const DEADLINE_MS = 50;

/** How long Redis answers nobody (ms). */
const OUTAGE_MS = 400;
const QUIET_MS = 100;
const READ_EVERY_MS = 10;

const ONE_PRODUCT = 'SELECT id, name, price, stock, updated_at AS updatedAt FROM products WHERE id = ?';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, loadShop } = servers();
    await loadShop();
    const own = await startRedis();
    const admin = new Redis(own.url);
    try {
      const hit = await hitAgainstQuery(redis, db, quick);
      const rates = await readsPerSecond(redis, db, quick);
      const tuned = await throughOutage(own.url, admin, db, cacheClientOptions(DEADLINE_MS));
      const byDefault = await throughOutage(own.url, admin, db, {});
      const claims: Claim[] = [
        {
          name: 'hit-vs-query',
          says: 'the SELECT by primary key against a hit of find(), median',
          value: hit,
          unit: '×',
          atLeast: 0.6,
        },
        {
          name: 'reads-per-second',
          says: `reads a second by ${READERS} readers, Zipf over 10,000 products: cache-aside against MySQL alone`,
          value: rates.ratio,
          unit: '×',
          atLeast: 1.1,
        },
        { name: 'hit-rate', says: 'share of those reads that were hits', value: rates.hits, unit: '%' },
        {
          name: 'tuned-worst',
          says: `slowest read while Redis answers nobody for ${OUTAGE_MS} ms, with the lab's options`,
          value: tuned.worst,
          unit: 'ms',
        },
        {
          name: 'default-worst',
          says: 'the same with the default options of ioredis',
          value: byDefault.worst,
          unit: 'ms',
        },
        {
          name: 'outage-ratio',
          says: 'slowest read in the outage: default options against the lab’s',
          value: byDefault.worst / tuned.worst,
          unit: '×',
          atLeast: 2,
        },
        {
          name: 'answered-late',
          says: `reads in the outage that took longer than ${2 * DEADLINE_MS} ms, default options`,
          value: byDefault.late,
          unit: '%',
          atLeast: 50,
        },
        {
          name: 'answered-late-tuned',
          says: 'the same with the lab’s options',
          value: tuned.late,
          unit: '%',
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
              { name: `deadline of ${DEADLINE_MS} ms`, points: tuned.reads },
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
    queries.push(await timed(() => db.execute(ONE_PRODUCT, [7])));
  }
  return median(queries) / median(hits);
}

/** The same Zipf reads with the cache and without; rounds in turn, the median of their ratios. */
async function readsPerSecond(
  redis: Redis,
  db: Pool,
  quick: boolean,
): Promise<{ ratio: number; hits: number }> {
  const products = createProducts({ redis, db });
  const pick = zipf({ n: PRODUCTS, skew: 0.99, random: seeded(21) });
  const reads = quick ? 1500 : 10_000;
  const ratios: number[] = [];
  await redis.flushdb();
  await rate(reads, () => products.find(pick() + 1));
  const before = await keyspace(redis);
  for (let round = 0; round < 3; round++) {
    const cached = await rate(reads, () => products.find(pick() + 1));
    const bare = await rate(reads, () => db.execute(ONE_PRODUCT, [pick() + 1]));
    ratios.push(cached / bare);
  }
  const after = await keyspace(redis);
  const hits = after.hits - before.hits;
  return { ratio: median(ratios), hits: (100 * hits) / (hits + after.misses - before.misses) };
}

/** GETs that found something and that did not, as the server counts them. */
async function keyspace(redis: Redis): Promise<{ hits: number; misses: number }> {
  const info = await redis.info('stats');
  const count = (name: string) => Number(new RegExp(`^keyspace_${name}:(\\d+)`, 'm').exec(info)?.[1]);
  return { hits: count('hits'), misses: count('misses') };
}

async function rate(reads: number, read: () => Promise<unknown>): Promise<number> {
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
  products.close();
  redis.disconnect();
  const during = reads.filter(([at]) => at >= QUIET_MS && at < QUIET_MS + OUTAGE_MS - 50).map(([, ms]) => ms);
  return {
    reads,
    worst: percentile(during, 1),
    late: (100 * during.filter((ms) => ms > 2 * DEADLINE_MS).length) / during.length,
  };
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
