import { Redis } from 'ioredis';
import { LRUCache } from 'lru-cache';
import mysql, { type RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure, type MeasureServers, type Plot } from '#claims';
import { startProxy } from '#kit/faulty-proxy';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { type Entry, type Layer, type LayerStats, mapLayer, productSource, type Source } from './given';
import { createLookup, predict, redisLayer } from './layers';

const PRODUCTS = 10_000;
const HOUR_MS = 3_600_000;
/** How far away both servers are, there and back (ms): in another data centre of the same region. */
const AWAY_MS = 1;
const percent = (share: number) => 100 * share;
const micros = (ms: number) => 1000 * ms;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const chain = await realChain(servers(), quick);
    const filtered = filteredByL1(quick);
    return {
      claims: [...chain.claims, ...filtered.claims],
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
  const proxies = [await startProxy(servers.redisUrl), await startProxy(servers.mysqlUrl)] as const;
  for (const proxy of proxies) proxy.delay(AWAY_MS);
  const far = { redis: new Redis(proxies[0].url), db: mysql.createPool(proxies[1].url) };
  await servers.loadShop();
  const [rows] = await db.query<RowDataPacket[]>('SELECT id, name, price, stock FROM products');
  const values = new Map(rows.map((row) => [`product:${row.id}`, JSON.stringify(row)]));

  const draw = zipf({ n: PRODUCTS, skew: 1, random: seeded(1) });
  const earlier = Array.from({ length: quick ? 8_000 : 20_000 }, () => keyOf(draw()));
  const chains: ReturnType<typeof chainWith>[] = [];
  try {
    // The claims are about the first.
    for (const size of quick ? [500] : [500, 30, 100, 1000, 2500]) chains.push(chainWith(size));
    for (const chain of chains) await chain.warm();
    // In turns, each request of each kind: a slow moment of the machine hits all that is compared.
    for (let i = 0; i < (quick ? 400 : 1_000); i++) for (const chain of chains) await chain.request();
  } finally {
    for (const chain of chains) await chain.clear();
    far.redis.disconnect();
    await far.db.end();
    for (const proxy of proxies) await proxy.close();
  }

  function chainWith(size: number) {
    const map = new LRUCache<string, Entry>({ max: size });
    const inRedis = (key: string) => `measure:layers:${size}:${key}`;
    const shared = redisLayer({ redis: far.redis, timeoutMs: 1000 });
    let fills: Promise<unknown>[] = [];
    /** A lookup does not wait for its fills. They must not slow down the next one. */
    const fillsEnded = async () => {
      await Promise.all(fills);
      fills = [];
    };
    const layers: Layer[] = [
      mapLayer(map),
      {
        ...shared,
        get: (key) => shared.get(inRedis(key)),
        set(key, entry) {
          const stored = shared.set(inRedis(key), entry);
          fills.push(stored);
          return stored;
        },
      },
    ];
    const source = productSource({ db: far.db, ttlMs: HOUR_MS, timeoutMs: 5000 });
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
        await metersOn(keyOf(next()));
        await fillsEnded();
        const key = keyOf(next());
        const start = performance.now();
        const found = await metersOff(key);
        times[found?.layer ?? '']?.push(performance.now() - start);
        await fillsEnded();
      },
      async clear() {
        const keys = [...values.keys()].map(inRedis);
        for (let from = 0; from < keys.length; from += 1000)
          await redis.unlink(...keys.slice(from, from + 1000));
      },
      result() {
        const requests = Object.values(times).reduce((sum, all) => sum + all.length, 0);
        const served = Object.values(times).map((all) => all.length / requests);
        const measuredMs = Object.values(times).reduce(
          (sum, all, i) => sum + (served[i] ?? 0) * calmMean(all),
          0,
        );
        // Their times are from the meters, their hit rates from the requests that are predicted: with those of other
        // requests, the chance of a few hits would be larger than the error of the model.
        const stats = withRates(
          meters.map((meter) => meter.stats()),
          served,
        );
        return { size, stats, served, measuredMs, predictedMs: predict(stats).effectiveMs };
      },
    };
  }

  const runs = chains.map((chain) => chain.result());
  const [at] = runs;
  if (!at) throw new Error('nothing was measured');
  const [map, fromRedis, fromMySql] = at.served as [number, number, number];
  const [mapMs, redisMs, mysqlMs] = at.stats.map(({ latencyMs }) => latencyMs) as [number, number, number];

  return {
    claims: [
      {
        name: 'predicted',
        says: 'mean read through a Map, Redis and MySQL, both 1 ms away: predicted against measured',
        value: at.predictedMs / at.measuredMs,
        unit: '×',
        atLeast: 0.6,
        atMost: 1.4,
      },
      {
        name: 'hits-only',
        says: 'mean read through a Map, Redis and MySQL, both 1 ms away: predicted with misses free, against misses paid for',
        value: hitsOnly(at.stats) / at.predictedMs,
        unit: '×',
        atMost: 0.95,
      },
      {
        name: 'redis-local',
        says: 'hit rate of Redis behind a Map of 500 entries, of what reaches Redis',
        value: percent(fromRedis / (1 - map)),
        unit: '%',
        atLeast: 40,
        atMost: 95,
      },
      figure(
        'effective',
        'mean read through a Map, Redis and MySQL, both 1 ms away, measured',
        micros(at.measuredMs),
        'µs',
      ),
      figure('map-alone', 'mean lookup in the Map', micros(mapMs), 'µs'),
      figure('redis-alone', 'mean lookup in Redis, 1 ms away', micros(redisMs), 'µs'),
      figure('mysql-alone', 'mean lookup in MySQL, 1 ms away, by primary key', micros(mysqlMs), 'µs'),
      figure('served-map', 'requests that the Map answered', percent(map), '%'),
      figure('served-redis', 'requests that Redis answered', percent(fromRedis), '%'),
      figure('served-mysql', 'requests that MySQL answered', percent(fromMySql), '%'),
    ],
    plot: {
      name: 'effective',
      title: 'Mean read over the size of the Map, predicted and measured',
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
      {
        name: 'l2-alone',
        says: `hit rate of a second layer of ${l2} entries without a first one (simulated)`,
        value: percent(alone.l2Rate),
        unit: '%',
        atLeast: 60,
        atMost: 90,
      },
      {
        name: 'l2-behind',
        says: `hit rate of a second layer of ${l2} entries behind a first one of ${l2 / 2}, of what reaches it (simulated)`,
        value: percent(behindHalf.l2Rate),
        unit: '%',
        atLeast: 10,
        atMost: 45,
      },
      {
        name: 'db-share',
        says: `requests left for the database: with a first layer of ${l2 / 2} entries before one of ${l2}, against without (simulated)`,
        value: behindHalf.database / alone.database,
        unit: '×',
        atLeast: 0.85,
        atMost: 1.15,
      },
      {
        name: 'l2-reached',
        says: `requests that reach a second layer of ${l2} entries: with a first layer of ${l2 / 2}, against without (simulated)`,
        value: 1 - behindHalf.l1Rate,
        unit: '×',
        atMost: 0.6,
      },
    ],
    plot: {
      name: 'filtered',
      title: `A second layer of ${l2} entries sees only what the first one missed`,
      x: { label: 'size of the first layer (entries)', scale: 'linear' },
      y: { label: '%', scale: 'linear' },
      series: [
        { name: 'hit rate of the first layer', points: points.map((p) => [p.l1, percent(p.l1Rate)]) },
        {
          name: 'hit rate of the second, of what reaches it',
          points: points.map((p) => [p.l1, percent(p.l2Rate)]),
        },
        { name: 'requests left for the database', points: points.map((p) => [p.l1, percent(p.database)]) },
      ],
    },
  };
}

const keyOf = (rank: number) => `product:${rank + 1}`;

/** The layers with the hit rates that follow from the shares of all requests that they served. */
function withRates(layers: readonly LayerStats[], served: readonly number[]): LayerStats[] {
  let reached = 1;
  return layers.map((layer, at) => {
    const share = served[at] ?? 0;
    const hitRate = reached > 0 ? Math.min(1, share / reached) : 0;
    reached -= share;
    return { ...layer, hitRate };
  });
}

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

/** A layer's `get` with a production meter: lookups, hits, time. */
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
