import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { type Claim, defineMeasure, median, percentile } from '#claims';
import { openPool } from '#kit/pool';
import { seeded } from '#kit/random';
import { articleKey, encode, entryKey, fenceKey, select } from './given';
import { createArticles, createVersionedCache } from './versions';

const ARTICLES = 20;
const READERS = 6;
const WRITE_EVERY_MS = 20;
const LAG_MS = 40;
const TTL_MS = 300;
const FENCE_MS = 2000;
const BUCKET_MS = 10;

const COLUMNS =
  '(id BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(200), version BIGINT UNSIGNED NOT NULL, deleted_at DATETIME(3) NULL)';

interface Servers {
  readonly redis: Redis;
  readonly primary: Pool;
  readonly copy: Pool;
}

interface Contender {
  /** @returns the version that was found */
  find(id: number): Promise<number>;
  /** @returns the version that was committed */
  update(id: number): Promise<number>;
}

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, mysqlUrl } = servers();
    await db.query('DROP TABLE IF EXISTS articles');
    await db.query(`CREATE TABLE articles ${COLUMNS}`);
    const primary = openPool(mysqlUrl, { connectionLimit: READERS + 2 });
    const copy = openPool(mysqlUrl, { connectionLimit: 1 });
    try {
      // The connection's own table hides the real one: a copy to which changes come when we bring them.
      await copy.query(`CREATE TEMPORARY TABLE articles ${COLUMNS}`);
      const servers = { redis, primary, copy };
      const forMs = quick ? 500 : 6000;
      const aside = await watch(cacheAside(servers), servers, forMs);
      const leases = await watch(leased(servers), servers, forMs);
      const versions = await watch(versioned(servers), servers, forMs);
      const over = `over a replica that lags ${LAG_MS} ms, TTL ${TTL_MS} ms`;
      return {
        claims: [
          ...staleness('aside', `cache-aside ${over}`, aside, { atLeast: 1 }),
          ...staleness('leases', `leases ${over}`, leases, { atLeast: 1 }),
          ...staleness('versions', `versions ${over}`, versions, { atMost: 0 }),
          figure(
            'primary-per-write',
            'reads of the primary for each write, versions',
            versions.primaryReads / versions.writes,
            '×',
          ),
          ...(await compared(redis, quick ? 1000 : 5000)),
          ...(await costs(redis, quick ? 40 : 500)),
        ],
        plots: [
          {
            name: 'stale',
            title: `Share of stale reads by the time since the article's last write: a replica that lags ${LAG_MS} ms, TTL ${TTL_MS} ms`,
            x: { label: 'time since the write was acknowledged (ms)', scale: 'linear' },
            y: { label: 'stale reads (%)', scale: 'linear' },
            series: [
              { name: 'cache-aside', points: aside.byTime },
              { name: 'leases', points: leases.byTime },
              { name: 'versions', points: versions.byTime },
            ],
          },
        ],
      };
    } finally {
      await Promise.all([primary.end(), copy.end()]);
      await db.query('DROP TABLE articles');
    }
  },
});

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

function staleness(
  name: string,
  says: string,
  { stale, p50AgeMs, worstAgeMs }: Seen,
  bound: Pick<Claim, 'atLeast' | 'atMost'>,
): Claim[] {
  return [
    { ...figure(`stale-${name}`, `share of stale reads, ${says}`, stale, '%'), ...bound },
    figure(`age-${name}`, `time since a newer version was acknowledged, median, ${says}`, p50AgeMs, 'ms'),
    figure(`worst-${name}`, `longest time since a newer version was acknowledged, ${says}`, worstAgeMs, 'ms'),
  ];
}

const valueKey = (id: number) => `measure:value:${id}`;
const leaseKey = (id: number) => `measure:lease:${id}`;

async function update(primary: Pool, id: number): Promise<number> {
  await primary.execute('UPDATE articles SET version = version + 1 WHERE id = ?', [id]);
  // One writer: nobody comes between.
  return Number((await select(primary, id)).version);
}

function cacheAside({ redis, primary, copy }: Servers): Contender {
  return {
    async find(id) {
      const cached = await redis.get(valueKey(id));
      if (cached !== null) return Number(cached);
      const { version } = await select(copy, id);
      await redis.set(valueKey(id), version, 'PX', TTL_MS);
      return Number(version);
    },
    async update(id) {
      const version = await update(primary, id);
      await redis.del(valueKey(id));
      return version;
    },
  };
}

/** The core of 3.6: the fill of a reader counts only while nobody has written since his miss. */
function leased({ redis, primary, copy }: Servers): Contender {
  const FILL = `
    if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
    redis.call('DEL', KEYS[1])
    redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])`;
  return {
    async find(id) {
      const cached = await redis.get(valueKey(id));
      if (cached !== null) return Number(cached);
      const token = randomUUID();
      const ours = await redis.set(leaseKey(id), token, 'PX', FENCE_MS, 'NX');
      const { version } = await select(copy, id);
      if (ours) await redis.eval(FILL, 2, leaseKey(id), valueKey(id), token, version, TTL_MS);
      return Number(version);
    },
    async update(id) {
      const version = await update(primary, id);
      await redis.del(valueKey(id), leaseKey(id));
      return version;
    },
  };
}

function versioned({ redis, primary, copy }: Servers): Contender {
  const articles = createArticles({
    primary,
    replica: copy,
    cache: createVersionedCache({ redis, ttlMs: TTL_MS, fenceMs: FENCE_MS }),
  });
  return {
    find: async (id) => Number((await articles.find(id))?.version),
    update: async (id) => Number(await articles.update(id, 'new')),
  };
}

interface Seen {
  /** Reads that began when a newer version had been acknowledged (%). */
  readonly stale: number;
  /** How long before such a read it had been (ms). 0 when there was none. */
  readonly p50AgeMs: number;
  readonly worstAgeMs: number;
  readonly writes: number;
  readonly primaryReads: number;
  readonly byTime: [number, number][];
}

/** One writer, READERS readers; the copy hears of each write LAG_MS after it was acknowledged. */
async function watch(contender: Contender, { redis, primary, copy }: Servers, forMs: number): Promise<Seen> {
  const ids = Array.from({ length: ARTICLES }, (_, index) => index + 1);
  const rows = ids.map((id) => [id, 'first', 1, null]);
  for (const db of [primary, copy]) await db.query('REPLACE INTO articles VALUES ?', [rows]);
  await redis.del(
    ids.flatMap((id) => [valueKey(id), leaseKey(id), entryKey(articleKey(id)), fenceKey(articleKey(id))]),
  );

  const random = seeded(37);
  /** By article: when version 1, 2, 3… was acknowledged. */
  const acknowledged = new Map(ids.map((id) => [id, [Number.NEGATIVE_INFINITY]]));
  const ages: number[] = [];
  const buckets = new Map<number, { reads: number; stale: number }>();
  const onTheWay = new Set<Promise<unknown>>();
  let reads = 0;
  let writes = 0;
  const selectsBefore = countPrimaryReads(primary);
  const end = performance.now() + forMs;

  const reader = async () => {
    while (performance.now() < end) {
      const id = 1 + Math.floor(random() * ARTICLES);
      const known = acknowledged.get(id) ?? [];
      const newest = known.length;
      const began = performance.now();
      const found = await contender.find(id);
      reads++;
      const isStale = found < newest;
      // Index n holds version n + 1: the first that this reader should have seen and did not.
      if (isStale) ages.push(began - (known[found] ?? began));
      const bucket = Math.floor((began - (known[newest - 1] ?? began)) / BUCKET_MS) * BUCKET_MS;
      const counts = buckets.get(bucket) ?? { reads: 0, stale: 0 };
      buckets.set(bucket, { reads: counts.reads + 1, stale: counts.stale + (isStale ? 1 : 0) });
      await sleep(1);
    }
  };
  const writer = async () => {
    while (performance.now() < end) {
      const id = 1 + (writes % ARTICLES);
      const version = await contender.update(id);
      acknowledged.get(id)?.push(performance.now());
      writes++;
      const arrives = sleep(LAG_MS).then(() =>
        copy.query("REPLACE INTO articles VALUES (?, 'new', ?, NULL)", [id, version]),
      );
      onTheWay.add(arrives);
      await sleep(WRITE_EVERY_MS);
    }
  };
  await Promise.all([writer(), ...Array.from({ length: READERS }, reader)]);
  await Promise.all(onTheWay);
  return {
    stale: (100 * ages.length) / reads,
    p50AgeMs: ages.length > 0 ? median(ages) : 0,
    worstAgeMs: Math.max(0, ...ages),
    writes,
    primaryReads: selectsBefore(),
    byTime: [...buckets]
      .filter(([ms]) => ms >= 0 && ms < ARTICLES * WRITE_EVERY_MS)
      .sort(([a], [b]) => a - b)
      .map(([ms, counts]) => [ms, (100 * counts.stale) / counts.reads]),
  };
}

/** Statements on the pool itself: those of writes go by a connection of their own. @returns how many there were since */
function countPrimaryReads(primary: Pool): () => number {
  let count = 0;
  const execute = Object.getPrototypeOf(primary).execute;
  primary.execute = (...args: unknown[]) => {
    count++;
    return execute.apply(primary, args);
  };
  return () => count;
}

/** Neighbours n and n + 1, compared in Lua: how many pairs come out in the wrong order or as equal. */
async function compared(redis: Redis, pairs: number): Promise<Claim[]> {
  const script = (older: string) => `
    local function older(a, b) return ${older} end
    local wrong = 0
    for i = 1, #ARGV, 2 do if not older(ARGV[i], ARGV[i + 1]) then wrong = wrong + 1 end end
    return wrong`;
  const wrong = async (older: string, from: bigint) => {
    const random = seeded(53);
    const versions = Array.from(
      { length: pairs },
      () => from + BigInt(Math.floor(random() * 2 ** 52)),
    ).flatMap((version) => [String(version), String(version + 1n)]);
    return (100 * Number(await redis.eval(script(older), 0, ...versions))) / pairs;
  };
  const text = '#a < #b or (#a == #b and a < b)';
  const number = 'tonumber(a) < tonumber(b)';
  return [
    {
      ...figure(
        'wrong-53',
        'neighbours above 2^53 that tonumber takes for equal',
        await wrong(number, 2n ** 53n),
        '%',
      ),
      atLeast: 40,
    },
    {
      ...figure(
        'wrong-63',
        'neighbours above 2^63 that tonumber takes for equal',
        await wrong(number, 2n ** 63n),
        '%',
      ),
      atLeast: 99,
    },
    {
      ...figure(
        'wrong-text',
        'neighbours above 2^63 that come out wrong by length, then text',
        await wrong(text, 2n ** 63n),
        '%',
      ),
      atMost: 0,
    },
  ];
}

/** A value of about 1 kB, one command after the other. */
async function costs(redis: Redis, rounds: number): Promise<Claim[]> {
  const value = { title: 'x'.repeat(1000) };
  const cache = createVersionedCache<typeof value>({ redis, ttlMs: 60_000, fenceMs: 60_000 });
  const key = articleKey(1);
  const plain = entryKey('plain');
  const acts = {
    set: () => redis.set(plain, encode('7', value), 'PX', 60_000),
    fill: () => cache.setIfNewer(key, '7', value),
    raise: () => cache.raise(key, '7'),
  };
  const samples: Record<keyof typeof acts, number[]> = { set: [], fill: [], raise: [] };
  for (let round = 0; round < rounds; round++) {
    for (const name of ['set', 'fill', 'raise'] as const) {
      for (let i = 0; i < 5; i++) {
        const began = performance.now();
        await acts[name]();
        samples[name].push(performance.now() - began);
      }
    }
  }
  await redis.del(plain, entryKey(key), fenceKey(key));
  const p50 = (name: keyof typeof acts) => percentile(samples[name], 0.5);
  return [
    { ...figure('fill-cost', 'setIfNewer against SET, 1 kB: p50', p50('fill') / p50('set'), '×'), atMost: 5 },
    figure('raise-cost', 'raise against SET, 1 kB: p50', p50('raise') / p50('set'), '×'),
  ];
}
