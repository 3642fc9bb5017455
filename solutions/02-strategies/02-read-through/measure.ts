import { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { defineMeasure, median } from '#claims';
import { decode } from './given';
import { besidePeers } from './peers';
import { cacheKey, createReadThrough, type ReadThrough } from './read-through';

const READERS = 1000;
const RACES = 100;

const PAGE = `SELECT p.id, p.name, p.price, COUNT(r.id) AS reviews, AVG(r.rating) AS rating
  FROM products p LEFT JOIN reviews r ON r.product_id = p.id
  WHERE p.category_id = ? GROUP BY p.id ORDER BY reviews DESC LIMIT 20`;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, redisUrl, loadShop } = servers();
    await loadShop();
    const shared = await coldRead(redis, db, quick ? 3 : 9);
    const races = await forcedRaces(redisUrl, RACES);
    const peers = quick ? undefined : await peersOn(redisUrl);
    return {
      claims: [
        {
          name: 'queries-shared',
          says: `queries for ${READERS} readers of one cold key: single flight`,
          value: shared.queries,
          unit: '',
          atMost: 1,
        },
        {
          name: 'queries-each',
          says: 'queries for 100 readers of one cold key: cache-aside, where each that misses loads',
          value: shared.queriesEach,
          unit: '',
          atLeast: 100,
        },
        {
          name: 'time-to-warm',
          says: 'time until 100 readers of a cold page all have it: a load each, against one shared load',
          value: shared.ratio,
          unit: '×',
          atLeast: 1.5,
        },
        {
          name: 'races-one-process',
          says: `old values left in Redis by ${RACES} overtaken loads: invalidated by the process that loads`,
          value: races.same,
          unit: '',
          atMost: 0,
        },
        {
          name: 'races-two-processes',
          says: `old values left in Redis by ${RACES} overtaken loads: invalidated as by another process`,
          value: races.other,
          unit: '',
          atLeast: RACES,
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
  const load = async ({ category }: { category: number }) => {
    const [rows] = await db.query(PAGE, [category]);
    return rows;
  };
  const aside = async (category: number) => {
    const key = `aside:${category}`;
    const cached = await redis.get(key);
    if (cached !== null) return JSON.parse(cached);
    const rows = await load({ category });
    await redis.set(key, JSON.stringify(rows), 'PX', 60_000);
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
    const before = await selects(db);
    const start = performance.now();
    await Promise.all(Array.from({ length: readers }, () => read(category)));
    const ms = performance.now() - start;
    return { queries: (await selects(db)) - before, ms };
  };
  const ratios: number[] = [];
  let most = 0;
  let each = Number.POSITIVE_INFINITY;
  for (let round = 1; round <= rounds; round++) {
    const read = (category: number) => cache.get({ category });
    most = Math.max(most, (await counted(READERS, read, 100 + round)).queries);
    const together = await counted(100, read, round);
    const alone = await counted(100, aside, round);
    each = Math.min(each, alone.queries);
    ratios.push(alone.ms / together.ms);
  }
  return { queries: most, queriesEach: each, ratio: median(ratios) };
}

/** Queries that reached the server, whoever sent them. */
async function selects(db: Pool): Promise<number> {
  const [[row]] = await db.query<RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Com_select'");
  return Number(row?.Value);
}

/** Old values in Redis after an invalidation met a load under way: by the same object, and by one that shares only Redis. */
async function forcedRaces(redisUrl: string, races: number): Promise<{ same: number; other: number }> {
  const clients = [new Redis(redisUrl), new Redis(redisUrl)] as const;
  let release = () => {};
  let began = () => {};
  let stored = 'new';
  const load = async () => {
    const seen = stored;
    began();
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    return seen;
  };
  const [reader, stranger] = clients.map((redis) =>
    createReadThrough<{ race: number }, string>({
      redis,
      name: 'raced',
      load,
      ttlMs: 60_000,
      loadDeadlineMs: 30_000,
      cacheDeadlineMs: 5000,
    }),
  ) as [ReadThrough<{ race: number }, string>, ReadThrough<{ race: number }, string>];
  const left = async (invalidator: typeof reader, race: number) => {
    stored = 'old';
    const loading = new Promise<void>((resolve) => {
      began = resolve;
    });
    const reading = reader.get({ race });
    await loading;
    stored = 'new';
    await invalidator.invalidate({ race });
    release();
    await reading;
    const bytes = await clients[0].getBuffer(cacheKey('raced', { race }));
    return bytes && decode(bytes) === 'old' ? 1 : 0;
  };
  try {
    let same = 0;
    let other = 0;
    for (let race = 0; race < races; race++) {
      same += await left(reader, race);
      other += await left(stranger, races + race);
    }
    return { same, other };
  } finally {
    for (const client of clients) client.disconnect();
  }
}
