import { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { defineMeasure, median } from '#claims';
import { besidePeers } from './peers';
import { createReadThrough } from './read-through';

const READERS = 1000;

const PAGE = `SELECT p.id, p.name, p.price, COUNT(r.id) AS reviews, AVG(r.rating) AS rating
  FROM products p LEFT JOIN reviews r ON r.product_id = p.id
  WHERE p.category_id = ? GROUP BY p.id ORDER BY reviews DESC LIMIT 20`;

export default defineMeasure({
  needs: 'stack',
  async run({ quick, stack }) {
    const { redis, db, redisUrl, loadShop } = stack();
    await loadShop();
    const shared = await coldRead(redis, db, quick ? 3 : 9);
    const peers = quick ? undefined : await peersOn(redisUrl);
    return {
      claims: [
        {
          name: 'queries-shared',
          says: `queries for ${READERS} readers of one cold key, one load shared`,
          value: shared.queries,
          unit: '',
          atMost: 1,
        },
        {
          name: 'queries-each',
          says: 'the same when each reader that finds nothing loads for itself, 100 readers',
          value: shared.queriesEach,
          unit: '',
          atLeast: 100,
        },
        {
          name: 'time-to-warm',
          says: 'time until all 100 readers of a cold page have it: each loads, against one shared load',
          value: shared.ratio,
          unit: '×',
          atLeast: 1.5,
        },
      ],
      ...(peers && { matrices: [peers] }),
    };
  },
});

async function peersOn(redisUrl: string) {
  const redis = new Redis(redisUrl);
  await redis.flushdb();
  redis.disconnect();
  return besidePeers(redisUrl);
}

async function coldRead(redis: Redis, db: Pool, rounds: number) {
  let queries = 0;
  const load = async ({ category }: { category: number }) => {
    queries++;
    const [rows] = await db.query(PAGE, [category]);
    return rows;
  };
  const cache = createReadThrough({
    redis,
    name: 'page',
    load,
    ttlMs: 60_000,
    loadDeadlineMs: 30_000,
    cacheDeadlineMs: 5000,
  });
  const counted = async (readers: number, read: (category: number) => Promise<unknown>, category: number) => {
    queries = 0;
    const start = performance.now();
    await Promise.all(Array.from({ length: readers }, () => read(category)));
    return { queries, ms: performance.now() - start };
  };
  const ratios: number[] = [];
  let most = 0;
  let each = 0;
  for (let round = 1; round <= rounds; round++) {
    const read = (category: number) => cache.get({ category });
    most = Math.max(most, (await counted(READERS, read, 100 + round)).queries);
    const together = await counted(100, read, round);
    const alone = await counted(100, (category) => load({ category }), round);
    each = alone.queries;
    ratios.push(alone.ms / together.ms);
  }
  return { queries: most, queriesEach: each, ratio: median(ratios) };
}
