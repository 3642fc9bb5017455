import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure, median, percentile } from '#claims';
import { openPool } from '#kit/pool';
import { seeded } from '#kit/random';
import { leaseKey, valueKey } from './given';
import { createLeaseCache } from './leases';

const TIMES = { ttlMs: 600_000, leaseMs: 10_000, waitMs: 1_000 };

/** One reader and one writer of one key. */
interface Contender {
  readonly name: string;
  /** Where the value lies. */
  keyOf(key: string): string;
  read(key: string, load: () => Promise<number>): Promise<unknown>;
  invalidate(key: string): Promise<void>;
}

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, mysqlUrl } = servers();
    await db.query('CREATE TABLE IF NOT EXISTS lease_rows (id INT PRIMARY KEY, version INT NOT NULL)');
    const pool = openPool(mysqlUrl, { connectionLimit: READERS });
    try {
      const races = await forcedRaces(redis, db, quick ? 50 : 1000);
      const hit = await costOfHit(redis, quick ? 200 : 10_000);
      const hot = await hotKey(
        redis,
        pool,
        quick ? [50] : [10, 20, 30, 50, 100, 200, 400],
        quick ? 250 : 1000,
      );
      const usual = hot.find(({ everyMs }) => everyMs === 50);
      const [aside, leased] = [usual?.aside ?? Number.NaN, usual?.leased ?? Number.NaN];
      const race = 'forced races that leave the old value in Redis:';
      const hotKeyOf = `a key that is invalidated every 50 ms, ${READERS} readers, a load of ${LOAD_MS} ms:`;
      const claims: Claim[] = [
        { name: 'stale-aside', says: `${race} DEL`, value: races.aside, unit: '%', atLeast: 95 },
        {
          name: 'stale-double',
          says: `${race} DEL, and a second DEL ${SECOND_DEL_MS} ms later`,
          value: races.double,
          unit: '%',
          atLeast: 1,
        },
        { name: 'stale-leases', says: `${race} leases`, value: races.leases, unit: '%', atMost: 0 },
        {
          name: 'hot-ratio',
          says: `loads of ${hotKeyOf} GET, SET and DEL against leases`,
          value: aside / leased,
          unit: '×',
          atLeast: 3,
        },
        {
          name: 'hit-ratio',
          says: 'a hit of 1 kB: getOrLoad against a GET and JSON.parse, p50',
          value: hit.ratio,
          unit: '×',
          atMost: 4,
        },
        { name: 'hit-get', says: 'a GET of 1 kB and JSON.parse, p50', value: hit.getUs, unit: 'µs' },
        { name: 'hit-leases', says: 'a hit of 1 kB by getOrLoad, p50', value: hit.leasedUs, unit: 'µs' },
        {
          name: 'hot-aside',
          says: `loads of ${hotKeyOf} GET, SET and DEL`,
          value: aside,
          unit: 'loads/s',
        },
        { name: 'hot-leases', says: `loads of ${hotKeyOf} leases`, value: leased, unit: 'loads/s' },
        {
          name: 'wait-aside',
          says: `reads of ${hotKeyOf} GET, SET and DEL, p99`,
          value: usual?.asideP99 ?? Number.NaN,
          unit: 'ms',
        },
        {
          name: 'wait-leases',
          says: `reads of ${hotKeyOf} leases, p99`,
          value: usual?.leasedP99 ?? Number.NaN,
          unit: 'ms',
        },
      ];
      const fastest = hot[0];
      if (!quick && fastest) {
        claims.push({
          name: 'fast-ratio',
          says: `loads of a key that is invalidated every ${fastest.everyMs} ms, sooner than a load of ${LOAD_MS} ms ends: GET, SET and DEL against leases`,
          value: fastest.aside / fastest.leased,
          unit: '×',
        });
      }
      return {
        claims,
        plots: [
          {
            name: 'hot-key',
            title: `Loads a second of one key with ${READERS} readers, by how often it is invalidated; a load takes ${LOAD_MS} ms`,
            x: { label: 'invalidations a second', scale: 'log' },
            y: { label: 'loads a second', scale: 'log' },
            series: [
              {
                name: 'GET, SET and DEL',
                points: hot.map(({ everyMs, aside }) => [1000 / everyMs, aside] as const),
              },
              { name: 'leases', points: hot.map(({ everyMs, leased }) => [1000 / everyMs, leased] as const) },
            ],
          },
        ],
      };
    } finally {
      await pool.end();
      await db.query('DROP TABLE lease_rows');
    }
  },
});

/** GET, else load and SET; an invalidation is a DEL. */
function cacheAside(redis: Redis, name = 'aside'): Contender {
  const keyOf = (key: string) => `${name}:${key}`;
  return {
    name,
    keyOf,
    async read(key, load) {
      const text = await redis.get(keyOf(key));
      if (text !== null) return JSON.parse(text);
      const value = await load();
      await redis.set(keyOf(key), JSON.stringify(value), 'PX', TIMES.ttlMs);
      return value;
    },
    async invalidate(key) {
      await redis.del(keyOf(key));
    },
  };
}

const SECOND_DEL_MS = 20;
/** How long a reader pauses between its SELECT and its fill: exponential, this on average (ms). */
const PAUSE_MS = 10;

function doubleDelete(redis: Redis): Contender & { settled(): Promise<unknown> } {
  const later: Promise<unknown>[] = [];
  const once = cacheAside(redis, 'double');
  return {
    ...once,
    async invalidate(key) {
      await once.invalidate(key);
      later.push(sleep(SECOND_DEL_MS).then(() => once.invalidate(key)));
    },
    settled: () => Promise.all(later),
  };
}

const leases = (redis: Redis): Contender => {
  const cache = createLeaseCache({ redis });
  return {
    name: 'leases',
    keyOf: (key) => valueKey(`race:${key}`),
    read: (key, load) => cache.getOrLoad(`race:${key}`, load, TIMES),
    invalidate: (key) => cache.invalidate(`race:${key}`),
  };
};

/** In each race the reader has read the old row when the writer commits and invalidates, and fills after that. */
async function forcedRaces(redis: Redis, db: Pool, count: number) {
  const double = doubleDelete(redis);
  const contenders = [cacheAside(redis), double, leases(redis)];
  const keys: Record<string, number> = {};
  for (const { name, keyOf, read, invalidate } of contenders) {
    const random = seeded(2026);
    await db.query('DELETE FROM lease_rows');
    const ids = Array.from({ length: count }, (_, id) => id);
    await db.query('INSERT INTO lease_rows (id, version) VALUES ?', [ids.map((id) => [id, 1])]);
    const race = async (id: number) => {
      let hasRead = () => {};
      const reading = new Promise<void>((resolve) => {
        hasRead = resolve;
      });
      let isInvalid = () => {};
      const invalidated = new Promise<void>((resolve) => {
        isInvalid = resolve;
      });
      const pauseMs = -PAUSE_MS * Math.log(1 - random());
      const reader = read(String(id), async () => {
        const [[row]] = await db.query<RowDataPacket[]>('SELECT version FROM lease_rows WHERE id = ?', [id]);
        hasRead();
        await invalidated;
        await sleep(pauseMs);
        return Number(row?.version);
      });
      await reading;
      await db.query('UPDATE lease_rows SET version = 2 WHERE id = ?', [id]);
      await invalidate(String(id));
      isInvalid();
      await reader;
    };
    for (let first = 0; first < count; first += 50) {
      await Promise.all(ids.slice(first, first + 50).map(race));
    }
    await double.settled();
    const places = ids.map((id) => keyOf(String(id)));
    const left = await redis.mget(places);
    keys[name] = left.filter((text) => text !== null && JSON.parse(text) === 1).length;
    await redis.del(places);
  }
  const share = (name: string) => (100 * (keys[name] ?? Number.NaN)) / count;
  return { aside: share('aside'), double: share('double'), leases: share('leases') };
}

/** One read at a time, the contenders in turn. */
async function costOfHit(redis: Redis, rounds: number) {
  const cache = createLeaseCache({ redis });
  const value = { id: 1, description: 'x'.repeat(1000) };
  const load = async () => value;
  await cache.getOrLoad('hit', load, TIMES);
  await redis.set('hit', JSON.stringify(value), 'PX', TIMES.ttlMs);
  const gets: number[] = [];
  const hits: number[] = [];
  for (let i = 0; i < rounds; i++) {
    gets.push(await timed(async () => JSON.parse((await redis.get('hit')) ?? '')));
    hits.push(await timed(() => cache.getOrLoad('hit', load, TIMES)));
  }
  await redis.del('hit', valueKey('hit'));
  return {
    ratio: median(hits) / median(gets),
    getUs: 1000 * median(gets),
    leasedUs: 1000 * median(hits),
  };
}

const READERS = 20;
const LOAD_MS = 20;

/** How many loads a second a key costs that is invalidated all the time, and how long its readers wait. */
async function hotKey(redis: Redis, db: Pool, intervals: readonly number[], forMs: number) {
  const key = 'hot';
  // All connections are open before it begins.
  await Promise.all(Array.from({ length: READERS }, () => db.query('SELECT SLEEP(0.01)')));
  const watch = async (contender: Contender, everyMs: number) => {
    let loads = 0;
    const latencies: number[] = [];
    const load = async () => {
      loads++;
      await db.query('SELECT SLEEP(?)', [LOAD_MS / 1000]);
      return 1;
    };
    await contender.read(key, load);
    loads = 0;
    const end = performance.now() + forMs;
    const reader = async () => {
      while (performance.now() < end) {
        const began = performance.now();
        await contender.read(key, load);
        latencies.push(performance.now() - began);
        await sleep(2);
      }
    };
    const writer = async () => {
      for (let at = performance.now(); at < end; at += everyMs) {
        await sleep(Math.max(0, at - performance.now()));
        await contender.invalidate(key);
      }
    };
    await Promise.all([writer(), ...Array.from({ length: READERS }, reader)]);
    return { loadsPerSecond: (1000 * loads) / forMs, p99: percentile(latencies, 0.99) };
  };
  const points: {
    everyMs: number;
    aside: number;
    leased: number;
    asideP99: number;
    leasedP99: number;
  }[] = [];
  for (const everyMs of intervals) {
    const aside = await watch(cacheAside(redis), everyMs);
    const leased = await watch(leases(redis), everyMs);
    points.push({
      everyMs,
      aside: aside.loadsPerSecond,
      leased: leased.loadsPerSecond,
      asideP99: aside.p99,
      leasedP99: leased.p99,
    });
  }
  await redis.del(`aside:${key}`, valueKey(`race:${key}`), leaseKey(`race:${key}`));
  return points;
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await action();
  return performance.now() - began;
}
