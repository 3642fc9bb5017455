import { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { type Bars, type Claim, defineMeasure, median } from '#claims';
import { openPool } from '#kit/pool';
import { startProxy } from '../../../course/kit/faulty-proxy';
import { createProductLoader } from './batching';
import { encode, productKey } from './given';

const GETS = 200;
const ROWS = 50;
/** How much later each answer comes through the proxy: a server in the next building. */
const DISTANCE_MS = 1;

type Ways = Readonly<Record<string, () => Promise<unknown>>>;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, redisUrl, mysqlUrl } = servers();
    const far = await distant(redis, db, redisUrl, mysqlUrl);
    const [keys, ids] = [upTo(GETS).map(productKey), upTo(ROWS)];
    try {
      await fill(redis, db);
      const rounds = quick ? 5 : 40;
      const farRounds = quick ? 1 : 9;
      const near = await compare(getWays(redis, far.nearAuto, keys), rounds);
      const away = await compare(getWays(far.redis, far.farAuto, keys), farRounds);
      const rows = await compare(rowWays(db, ids), rounds);
      const awayRows = await compare(rowWays(far.db, ids), farRounds);
      const loads = await compare(loadWays(far.redis, db, keys), farRounds);
      return {
        claims: [
          ...claims('gets', `${GETS} GETs`, near, 'MGET'),
          ...claims('far-gets', `with ${DISTANCE_MS} ms of distance, ${GETS} GETs`, away, 'MGET'),
          ...claims('rows', `${ROWS} SELECTs`, rows, 'IN'),
          ...claims('far-rows', `with ${DISTANCE_MS} ms of distance, ${ROWS} SELECTs`, awayRows, 'IN'),
          {
            name: 'loader',
            says: `with ${DISTANCE_MS} ms of distance, ${GETS} products from Redis: GETs one by one against the loads of this lab`,
            value: (loads['one by one'] ?? Number.NaN) / (loads.loader ?? Number.NaN),
            unit: '×',
            atLeast: 5,
          },
        ],
        plots: [
          bars('gets', `${GETS} values from a Redis on the same machine`, near),
          bars('far-gets', `${GETS} values from a Redis at a distance of ${DISTANCE_MS} ms`, away),
          bars('far-rows', `${ROWS} rows from a MySQL at a distance of ${DISTANCE_MS} ms`, awayRows),
        ],
      };
    } finally {
      await far.close();
      await redis.del(keys);
      await db.query('DROP TABLE IF EXISTS batching_rows');
    }
  },
});

/** What a busy machine holds too, of the first of these ways against the last. */
const AT_LEAST: Readonly<Record<string, number>> = {
  'gets-one-by-one': 3,
  'far-gets-one-by-one': 10,
  'rows-one-by-one': 1.5,
  'far-rows-one-by-one': 5,
};

function claims(
  group: string,
  says: string,
  times: Readonly<Record<string, number>>,
  batch: string,
): Claim[] {
  const base = times[batch] ?? Number.NaN;
  const ratios = Object.entries(times)
    .filter(([way]) => way !== batch)
    .map(([way, ms]): Claim => {
      const name = `${group}-${way.replaceAll(/[ ,]+/g, '-')}`;
      const atLeast = AT_LEAST[name];
      return {
        name,
        says: `${says} ${way} against one ${batch}, p50`,
        value: ms / base,
        unit: '×',
        ...(atLeast === undefined ? {} : { atLeast }),
      };
    });
  return [...ratios, { name: `${group}-ms`, says: `${says} as one ${batch}, p50`, value: base, unit: 'ms' }];
}

const bars = (name: string, title: string, times: Readonly<Record<string, number>>): Bars => ({
  name,
  title,
  label: 'ms',
  bars: Object.entries(times),
});

const getWays = (redis: Redis, auto: Redis, keys: readonly string[]): Ways => ({
  'one by one': async () => {
    for (const key of keys) await redis.get(key);
  },
  'at once': () => Promise.all(keys.map((key) => redis.get(key))),
  'by auto-pipelining': () => Promise.all(keys.map((key) => auto.get(key))),
  'in a pipeline': () => {
    const pipeline = redis.pipeline();
    for (const key of keys) pipeline.get(key);
    return pipeline.exec();
  },
  MGET: () => redis.mget([...keys]),
});

const ONE = 'SELECT id, name, price FROM batching_rows WHERE id = ?';
const MANY = 'SELECT id, name, price FROM batching_rows WHERE id IN (?)';

const rowWays = (db: Pool, ids: readonly number[]): Ways => ({
  'one by one': async () => {
    for (const id of ids) await db.query<RowDataPacket[]>(ONE, [id]);
  },
  'at once': () => Promise.all(ids.map((id) => db.query<RowDataPacket[]>(ONE, [id]))),
  IN: () => db.query<RowDataPacket[]>(MANY, [ids]),
});

const loadWays = (redis: Redis, db: Pool, keys: readonly string[]): Ways => ({
  'one by one': async () => {
    for (const key of keys) await redis.get(key);
  },
  loader: () => {
    const loader = createProductLoader({ redis, db });
    return Promise.allSettled(upTo(keys.length).map((id) => loader.load(id)));
  },
});

/** The ways in turn, so that a busy moment meets all of them. Medians in ms. */
async function compare(ways: Ways, rounds: number): Promise<Record<string, number>> {
  const times = new Map<string, number[]>(Object.keys(ways).map((way) => [way, []]));
  for (let round = -1; round < rounds; round++) {
    for (const [way, action] of Object.entries(ways)) {
      const began = performance.now();
      await action();
      // The first round warms up.
      if (round >= 0) times.get(way)?.push(performance.now() - began);
    }
  }
  return Object.fromEntries([...times].map(([way, each]) => [way, median(each)]));
}

/** The same servers, further away; and clients that collect the commands of a tick by themselves. */
async function distant(redis: Redis, db: Pool, redisUrl: string, mysqlUrl: string) {
  const [toRedis, toMysql] = [await startProxy(redisUrl), await startProxy(mysqlUrl)];
  const clients = {
    redis: new Redis(toRedis.url),
    farAuto: new Redis(toRedis.url, { enableAutoPipelining: true }),
    nearAuto: new Redis(redisUrl, { enableAutoPipelining: true }),
  };
  const pool = openPool(toMysql.url);
  await Promise.all([...Object.values(clients), redis].map((client) => client.ping()));
  await Promise.all([db.query('SELECT 1'), ...upTo(10).map(() => pool.query('SELECT SLEEP(0.01)'))]);
  for (const proxy of [toRedis, toMysql]) proxy.delay(DISTANCE_MS);
  return {
    ...clients,
    db: pool,
    async close() {
      for (const client of Object.values(clients)) client.disconnect();
      await pool.end();
      await Promise.all([toRedis.close(), toMysql.close()]);
    },
  };
}

async function fill(redis: Redis, db: Pool): Promise<void> {
  await db.query('DROP TABLE IF EXISTS batching_rows');
  await db.query(
    'CREATE TABLE batching_rows (id INT PRIMARY KEY, name VARCHAR(200) NOT NULL, price DECIMAL(10, 2) NOT NULL)',
  );
  await db.query('INSERT INTO batching_rows (id, name, price) VALUES ?', [
    upTo(GETS).map((id) => [id, `product ${id}`, '12.90']),
  ]);
  const pipeline = redis.pipeline();
  for (const id of upTo(GETS)) {
    const product = { id, name: `product ${id}`, price: '12.90', stock: 1, updatedAt: new Date(0) };
    pipeline.set(productKey(id), encode(product), 'PX', 600_000);
  }
  await pipeline.exec();
}

const upTo = (last: number) => Array.from({ length: last }, (_, at) => at + 1);
