import { LRUCache } from 'lru-cache';
import type { RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure, type MeasureServers, type Plot } from '#claims';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import {
  createLookup,
  type Entry,
  type Layer,
  type LayerStats,
  mapLayer,
  predict,
  productSource,
  redisLayer,
  type Source,
} from './layers';

const PRODUCTS = 10_000;
const HOUR_MS = 3_600_000;
const percent = (share: number) => 100 * share;
const micros = (ms: number) => 1000 * ms;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const chain = await realChain(servers(), quick);
    const filtered = filteredByL1(quick);
    return {
      claims: [...chain.claims, ...filtered.claims, ...guideFunnel()],
      plots: [chain.plot, filtered.plot],
    };
  },
});

/** The wrong model, to compare with: a layer costs its hits only. */
const hitsOnly = (layers: readonly LayerStats[]): number =>
  predict(layers).funnel.reduce(
    (sum, share, index) => sum + share.served * (layers[index]?.latencyMs ?? 0),
    0,
  );

/** Zipf traffic on a warm Map, Redis and MySQL, for several sizes of the Map. */
async function realChain(servers: MeasureServers, quick: boolean): Promise<{ claims: Claim[]; plot: Plot }> {
  const { redis, db } = servers;
  await servers.loadShop();
  const [rows] = await db.query<RowDataPacket[]>('SELECT id, name, price, stock FROM products');
  const values = new Map(rows.map((row) => [`product:${row.id}`, JSON.stringify(row)]));

  const draw = zipf({ n: PRODUCTS, skew: 1, random: seeded(1) });
  const earlier = Array.from({ length: quick ? 8_000 : 20_000 }, () => keyOf(draw()));
  const chains: ReturnType<typeof chainWith>[] = [];
  try {
    // The claims are about the first.
    for (const size of quick ? [500] : [500, 10, 30, 100, 250, 1000, 2500]) chains.push(chainWith(size));
    for (const chain of chains) await chain.warm();
    // In turns, each request of each kind: a slow moment of the machine hits all that is compared.
    for (let i = 0; i < (quick ? 800 : 4_000); i++) for (const chain of chains) await chain.request();
  } finally {
    for (const chain of chains) await chain.clear();
  }

  function chainWith(size: number) {
    const map = new LRUCache<string, Entry>({ max: size });
    const inRedis = (key: string) => `measure:layers:${size}:${key}`;
    const shared = redisLayer({ redis, timeoutMs: 1000 });
    const layers: Layer[] = [
      mapLayer(map),
      {
        ...shared,
        get: (key) => shared.get(inRedis(key)),
        set: (key, entry) => shared.set(inRedis(key), entry),
      },
    ];
    const source = productSource({ db, ttlMs: HOUR_MS, timeoutMs: 5000 });
    const meters = [...layers, source].map(metered);
    const metersOff = createLookup(layers, source);
    const metersOn = createLookup(
      layers.map((layer, index) => ({ ...layer, get: meters[index]?.get ?? layer.get })),
      { ...source, get: meters[layers.length]?.get ?? source.get },
    );
    const times: Record<string, number[]> = { map: [], redis: [], mysql: [] };
    // A seed of its own: the second to read a row finds it in the CPU cache of the server.
    const next = zipf({ n: PRODUCTS, skew: 1, random: seeded(size) });

    return {
      /** Leaves Map and Redis as earlier traffic would have. */
      async warm() {
        const expiresAt = Date.now() + HOUR_MS;
        const pipeline = redis.pipeline();
        for (const key of new Set(earlier)) pipeline.set(inRedis(key), values.get(key) ?? '', 'PX', HOUR_MS);
        await pipeline.exec();
        for (const key of earlier)
          if (!map.get(key)) map.set(key, { value: values.get(key) ?? '', expiresAt });
      },
      async request() {
        // What is predicted from and what is measured are requests of their own.
        await (await metersOn(keyOf(next())))?.filled;
        const key = keyOf(next());
        const start = performance.now();
        const found = await metersOff(key);
        times[found?.layer ?? '']?.push(performance.now() - start);
        await found?.filled;
      },
      async clear() {
        const keys = [...values.keys()].map(inRedis);
        for (let from = 0; from < keys.length; from += 1000)
          await redis.unlink(...keys.slice(from, from + 1000));
      },
      result() {
        const stats = meters.map((meter) => meter.stats());
        const requests = Object.values(times).reduce((sum, all) => sum + all.length, 0);
        const served = Object.values(times).map((all) => all.length / requests);
        const measuredMs = Object.values(times).reduce(
          (sum, all, i) => sum + (served[i] ?? 0) * calmMean(all),
          0,
        );
        const ownMs = calmMean(times.map ?? []) - (stats[0]?.latencyMs ?? 0);
        return { size, stats, served, measuredMs, ownMs, predictedMs: predict(stats).effectiveMs };
      },
    };
  }

  const runs = chains.map((chain) => chain.result());
  const [at] = runs;
  if (!at) throw new Error('nothing was measured');
  const [map, fromRedis, mysql] = at.served as [number, number, number];
  const [mapMs, redisMs, mysqlMs] = at.stats.map(({ latencyMs }) => latencyMs) as [number, number, number];

  return {
    claims: [
      {
        name: 'predicted',
        says: 'Effective latency of Map (500 entries), Redis and MySQL, from trimmed means: predicted against measured',
        value: at.predictedMs / at.measuredMs,
        unit: '×',
        atLeast: 0.45,
        atMost: 1.4,
      },
      {
        name: 'hits-only',
        says: 'The same prediction with misses free, against the one that pays for them',
        value: hitsOnly(at.stats) / at.predictedMs,
        unit: '×',
        atMost: 0.97,
      },
      {
        name: 'effective',
        says: 'Effective latency, measured (trimmed means)',
        value: micros(at.measuredMs),
        unit: 'µs',
      },
      {
        name: 'map-alone',
        says: 'One lookup in the Map layer (trimmed mean)',
        value: micros(mapMs),
        unit: 'µs',
      },
      {
        name: 'redis-alone',
        says: 'One lookup in the Redis layer (trimmed mean)',
        value: micros(redisMs),
        unit: 'µs',
      },
      {
        name: 'mysql-alone',
        says: 'One lookup in MySQL, by primary key (trimmed mean)',
        value: micros(mysqlMs),
        unit: 'µs',
      },
      { name: 'own', says: "The lookup's own work on a hit in the Map", value: micros(at.ownMs), unit: 'µs' },
      {
        name: 'break-even',
        says: 'Local hit rate below which this Redis makes reads from this MySQL slower on average',
        value: percent(redisMs / mysqlMs),
        unit: '%',
      },
      share('served-map', 'Requests that the Map served', map, [0.45, 0.75]),
      share('served-redis', 'Requests that Redis served', fromRedis, [0.1, 0.5]),
      share('served-mysql', 'Requests that MySQL served', mysql, [0.02, 0.3]),
      share('redis-local', 'Hit rate of Redis, of what reached Redis', fromRedis / (1 - map), [0.4, 0.95]),
    ],
    plot: {
      name: 'effective',
      title: 'Effective latency over the size of the Map, predicted and measured',
      x: { label: 'Map size (entries)', scale: 'log' },
      y: { label: 'mean latency (µs)', scale: 'linear' },
      series: [
        { name: 'measured', points: curve((run) => run.measuredMs) },
        { name: 'predicted', points: curve((run) => run.predictedMs) },
        { name: 'predicted, misses free', points: curve((run) => hitsOnly(run.stats)) },
      ],
    },
  };

  function curve(of: (run: (typeof runs)[number]) => number): [number, number][] {
    return [...runs].sort((a, b) => a.size - b.size).map((run) => [run.size, micros(of(run))]);
  }
}

/** The same traffic through an L1 of several sizes and an L2 of one size, both LRU: a simulation, no server. */
function filteredByL1(quick: boolean): { claims: Claim[]; plot: Plot } {
  const l2 = 2_000;
  const requests = quick ? 15_000 : 150_000;
  const simulate = (l1: number) => {
    const draw = zipf({ n: PRODUCTS, skew: 1, random: seeded(1) });
    const near = l1 > 0 ? new LRUCache<number, true>({ max: l1 }) : undefined;
    const far = new LRUCache<number, true>({ max: l2 });
    const served = { near: 0, far: 0, database: 0 };
    for (let i = -requests; i < requests; i++) {
      const id = draw();
      const by = near?.get(id) ? 'near' : far.get(id) ? 'far' : 'database';
      if (by === 'database') far.set(id, true);
      if (by !== 'near') near?.set(id, true);
      if (i >= 0) served[by]++;
    }
    return {
      l1,
      l1Rate: served.near / requests,
      l2Rate: served.far / (served.far + served.database),
      database: served.database / requests,
    };
  };

  const alone = simulate(0);
  const behindHalf = simulate(l2 / 2);
  const others = quick ? [] : [50, 100, 250, 500, 750, 1250, 1500, 1750, 2000].map(simulate);
  const points = [alone, behindHalf, ...others].sort((a, b) => a.l1 - b.l1);
  return {
    claims: [
      share('l2-alone', `Simulated: hit rate of an L2 of ${l2} entries with no L1`, alone.l2Rate, [0.6, 0.9]),
      share(
        'l2-behind',
        'Simulated: its local hit rate behind an L1 of half its size',
        behindHalf.l2Rate,
        [0.1, 0.45],
      ),
      {
        name: 'db-share',
        says: 'Simulated: requests left for the database with that L1, against without',
        value: behindHalf.database / alone.database,
        unit: '×',
        atLeast: 0.85,
        atMost: 1.15,
      },
    ],
    plot: {
      name: 'filtered',
      title: `An L2 of ${l2} entries sees only what the L1 above it missed`,
      x: { label: 'L1 size (entries)', scale: 'linear' },
      y: { label: '%', scale: 'linear' },
      series: [
        { name: 'L1 hit rate', points: points.map((p) => [p.l1, percent(p.l1Rate)]) },
        { name: 'L2 hit rate, of what reaches it', points: points.map((p) => [p.l1, percent(p.l2Rate)]) },
        { name: 'requests left for the database', points: points.map((p) => [p.l1, percent(p.database)]) },
      ],
    },
  };
}

/** The guide's five layers: its funnel, its rates (40 % for the browser, else mid-range), the middle of its latencies. */
function guideFunnel(): Claim[] {
  const shares = [0.4, 0.45, 0.12, 0.02, 0.01];
  const rates = [0.4, 0.9, 0.8, 0.6, 1];
  const latencies = [0, 30, 3, 20, 125];
  const stats = (hitRates: readonly number[]) =>
    hitRates.map(
      (hitRate, i): LayerStats => ({ name: `layer ${i + 1}`, hitRate, latencyMs: latencies[i] ?? 0 }),
    );

  let reached = 1;
  const implied = shares.map((served) => {
    const rate = Math.min(1, served / reached);
    reached -= served;
    return rate;
  });
  const paidMs = predict(stats(implied)).effectiveMs;
  const freeMs = hitsOnly(stats(implied));
  const database = predict(stats(rates)).funnel.at(-1)?.reached ?? 0;
  const sum = rates.reduce((total, rate) => total + rate, 0);
  return [
    { name: 'guide-hits-only', says: "The guide's funnel, misses free", value: freeMs, unit: 'ms' },
    { name: 'guide-paid', says: "The guide's funnel, misses paid for", value: paidMs, unit: 'ms' },
    {
      name: 'guide-understates',
      says: "The guide's funnel, misses paid for against free",
      value: paidMs / freeMs,
      unit: '×',
      atLeast: 1.3,
      atMost: 1.32,
    },
    share('guide-cdn', "CDN hit rate that the guide's funnel implies", implied[1] ?? 0, [0.749, 0.751]),
    share(
      'guide-db',
      "Requests that the guide's own rates leave for the database",
      database,
      [0.0047, 0.0049],
    ),
    share('guide-sum', "The guide's rates added up as if each were of all requests", sum, [3.699, 3.701]),
  ];
}

const keyOf = (rank: number) => `product:${rank + 1}`;

function share(name: string, says: string, value: number, [atLeast, atMost]: [number, number]): Claim {
  return { name, says, value: percent(value), unit: '%', atLeast: percent(atLeast), atMost: percent(atMost) };
}

/** A layer's `get` with what a production meter would tell of it: lookups, hits, time. */
function metered(layer: Source) {
  const times: number[] = [];
  let hits = 0;
  return {
    async get(key: string) {
      const start = performance.now();
      const entry = await layer.get(key);
      times.push(performance.now() - start);
      if (entry) hits++;
      return entry;
    },
    stats: (): LayerStats => ({ name: layer.name, hitRate: hits / times.length, latencyMs: calmMean(times) }),
  };
}

/** The mean without the slowest twentieth: on a busy machine that is the scheduler's, not the layer's. */
function calmMean(times: readonly number[]): number {
  const calm = Float64Array.from(times)
    .sort()
    .subarray(0, Math.ceil(times.length * 0.95));
  return calm.reduce((sum, time) => sum + time, 0) / calm.length;
}
