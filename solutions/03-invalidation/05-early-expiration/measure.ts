import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { type Claim, defineMeasure, forkScript, type MeasureServers, median } from '#claims';
import { seeded } from '#kit/random';
import { createSwr } from '../../02-strategies/06-stale-while-revalidate/stale-while-revalidate';
import { createLockedCache } from '../04-stampede-lock/stampede-lock';
import { createEarlyCache, shouldRefresh } from './early-expiration';
import type { Seen } from './steady';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const real = await aroundExpiries(servers(), quick);
    const claims = [...formula(quick), ...real.claims];
    if (quick) return { claims, plots: [real.plot] };
    const steady = await steadyState(servers());
    return { claims: [...claims, ...steady.claims], matrices: [steady.matrix], plots: [real.plot] };
  },
});

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

const mean = (numbers: readonly number[]) =>
  numbers.reduce((sum, number) => sum + number, 0) / numbers.length;

/** For a lead just above the load, where a lock takes care of the rest. */
const SMALL_BETA = 0.35;

// By virtual time: one value, read once a millisecond.
const SIM = { ttlMs: 600_000, readsPerMs: 1, deltaMs: 2_000 };

/** Whether a hit refreshes, so long before the expiry. */
type Rule = (gapMs: number, random: () => number) => boolean;

const xfetch =
  (beta: number): Rule =>
  (gapMs, random) =>
    shouldRefresh({ now: 0, expiresAt: gapMs, deltaMs: SIM.deltaMs, beta, random });

/** `base_ttl - ttl` by the TTL in whole seconds that Redis answers with. */
const guide: Rule = (gapMs, random) => {
  const ttl = Math.round(gapMs / 1000);
  const base = SIM.ttlMs / 1000;
  return ((base - ttl) * random()) / base > 0.5;
};

const never: Rule = () => false;

/** Without a lock: the gap at which the first refresh begins, and how many loads begin until it has ended. */
function refresh(rule: Rule, seed: number, fromGapMs: number): { gapMs: number; loads: number } {
  const random = seeded(seed);
  let first: number | undefined;
  let loads = 0;
  const stepMs = 1 / SIM.readsPerMs;
  for (let gapMs = fromGapMs; first === undefined || first - gapMs < SIM.deltaMs; gapMs -= stepMs) {
    if (gapMs > 0 && !rule(gapMs, random)) continue;
    first ??= gapMs;
    loads++;
  }
  return { gapMs: first, loads };
}

function formula(quick: boolean): Claim[] {
  const runs = (rule: Rule, count: number, fromGapMs: number = SIM.ttlMs) => {
    const refreshes = Array.from({ length: count }, (_, seed) => refresh(rule, seed, fromGapMs));
    return {
      gapMs: mean(refreshes.map(({ gapMs }) => gapMs)),
      loads: mean(refreshes.map(({ loads }) => loads)),
    };
  };
  const byAge = runs(guide, quick ? 1 : 20);
  // Earlier than that, a read draws a refresh with a probability below e^-40.
  const fromGapMs = 40 * SIM.deltaMs;
  const byGap = runs(xfetch(1), quick ? 12 : 400, fromGapMs);
  const small = runs(xfetch(SMALL_BETA), quick ? 1 : 200, fromGapMs);
  const stampede = runs(never, 1, fromGapMs);

  const draws = 100_000;
  const random = seeded(2015);
  let drawn = 0;
  for (let i = 0; i < draws; i++) if (xfetch(1)(SIM.deltaMs, random)) drawn++;

  const at = ({ gapMs }: { gapMs: number }) => (SIM.ttlMs - gapMs) / 1000;
  const gone = (run: { gapMs: number }) => (100 * at(run)) / (SIM.ttlMs / 1000);
  const lead = (beta: number) => SIM.deltaMs * beta * Math.log(SIM.readsPerMs * SIM.deltaMs * beta);
  return [
    {
      ...figure('p-at-delta', 'hits that refresh Δ before the expiry, β = 1', (100 * drawn) / draws, '%'),
      atLeast: 36,
      atMost: 37.6,
    },
    figure(
      'guide-at',
      'virtual time, TTL 600 s, 1,000 reads/s, Δ = 2 s, no lock: the first refresh by the guide’s rule, after',
      at(byAge),
      's',
    ),
    { ...figure('guide-gone', 'the same, of the TTL', gone(byAge), '%'), atMost: 55 },
    figure('xfetch-at', 'the first refresh by XFetch, after', at(byGap), 's'),
    { ...figure('xfetch-gone', 'the same, of the TTL', gone(byGap), '%'), atLeast: 95 },
    {
      ...figure(
        'lead-ratio',
        'its lead on the expiry against Δ · β · ln(λ · Δ · β)',
        byGap.gapMs / lead(1),
        '×',
      ),
      atLeast: 0.8,
      atMost: 1.4,
    },
    figure(
      'never-loads',
      'loads that begin before the first has ended: without a rule',
      stampede.loads,
      'loads',
    ),
    figure('guide-loads', 'the same, the guide’s rule', byAge.loads, 'loads'),
    { ...figure('xfetch-loads', 'the same, XFetch, β = 1', byGap.loads, 'loads'), atLeast: 1.5, atMost: 10 },
    figure('small-loads', `the same, XFetch, β = ${SMALL_BETA}`, small.loads, 'loads'),
    figure('small-lead', `lead of XFetch, β = ${SMALL_BETA}`, small.gapMs / 1000, 's'),
  ];
}

// On the real servers: instances with a connection each, in this process.
const INSTANCES = 4;
const READERS = 20;
const PAUSE_MS = 10;
const TTL_MS = 500;
const LOAD_MS = 50;

interface Value {
  /** By performance.now. */
  readonly loadedAt: number;
}

type Load = () => Promise<Value>;
type Get = (key: string, load: Load) => Promise<Value>;

interface Contender {
  readonly name: string;
  readonly says: string;
  /** Whether the TTL counts from the beginning of a load; else from its end. */
  readonly fromBeginning: boolean;
  readonly inQuick: boolean;
  open(redis: Redis): { get: Get; settled(): Promise<void> };
}

const CONTENDERS: readonly Contender[] = [
  {
    name: 'none',
    says: 'cache-aside',
    fromBeginning: false,
    inQuick: true,
    open: (redis) => ({ get: cacheAside(redis), settled: async () => {} }),
  },
  {
    name: 'lock',
    says: 'lock (3.4)',
    fromBeginning: false,
    inQuick: false,
    open(redis) {
      const cache = createLockedCache({ redis });
      const times = { freshMs: TTL_MS, staleMs: 0, lockMs: 5000, waitMs: 5000 };
      return { get: (key, load) => cache.getOrLoad(key, load, times), settled: async () => {} };
    },
  },
  {
    name: 'swr',
    says: 'SWR (2.6)',
    fromBeginning: true,
    inQuick: false,
    open(redis) {
      let source: Load | undefined;
      const swr = createSwr({
        redis,
        load: async () => source?.(),
        softTtlMs: TTL_MS,
        hardTtlMs: 20 * TTL_MS,
        loadDeadlineMs: 5000,
        cacheDeadlineMs: 1000,
      });
      return {
        get(key, load) {
          source = load;
          return swr.get(key) as Promise<Value>;
        },
        settled: () => swr.onIdle(),
      };
    },
  },
  {
    name: 'xfetch',
    says: 'XFetch',
    fromBeginning: true,
    inQuick: true,
    open: (redis) => createEarlyCache({ redis, ttlMs: TTL_MS, loadDeadlineMs: 450 }),
  },
];

/** GET; on a miss the load, for each reader, and SET. */
const cacheAside =
  (redis: Redis): Get =>
  async (key, load) => {
    const text = await redis.get(key);
    if (text !== null) return JSON.parse(text);
    const value = await load();
    await redis.set(key, JSON.stringify(value), 'PX', TTL_MS);
    return value;
  };

interface Watched {
  /** When each load began, from the expiry of the value that was there (ms). */
  readonly begun: readonly number[];
  readonly values: number;
  readonly reads: number;
  /** Reads that took at least half a load, and got what was loaded meanwhile. */
  readonly blocked: number;
}

async function watch({ name, fromBeginning, open }: Contender, { redis, db }: MeasureServers, forMs: number) {
  const key = `measure:${name}`;
  const clients = Array.from({ length: INSTANCES }, () => redis.duplicate({ commandTimeout: 1000 }));
  const begun: number[] = [];
  let expiresAt = Number.NaN;
  let values = 0;
  const load = async () => {
    const start = performance.now();
    const replaces = values;
    if (values > 0) begun.push(start - expiresAt);
    await db.query('SELECT SLEEP(?)', [LOAD_MS / 1000]);
    expiresAt = (fromBeginning ? start : performance.now()) + TTL_MS;
    values = replaces + 1;
    return { loadedAt: performance.now(), text: 'x'.repeat(1000) };
  };
  try {
    const caches = clients.map(open);
    await caches[0]?.get(key, load);
    let reads = 0;
    let blocked = 0;
    const end = performance.now() + forMs;
    const reader = async ({ get }: { get: Get }) => {
      while (performance.now() < end) {
        const start = performance.now();
        const { loadedAt } = await get(key, load);
        reads++;
        // On a busy machine there are long reads of values too that were there before them.
        if (performance.now() - start >= LOAD_MS / 2 && loadedAt > start) blocked++;
        await sleep(PAUSE_MS);
      }
    };
    await Promise.all(
      caches.flatMap((cache) => Array.from({ length: READERS / INSTANCES }, () => reader(cache))),
    );
    await Promise.all(caches.map((cache) => cache.settled()));
    return { begun, values: values - 1, reads, blocked };
  } finally {
    for (const client of clients) client.disconnect();
  }
}

async function aroundExpiries(servers: MeasureServers, quick: boolean) {
  const forMs = quick ? 550 : 5.5 * TTL_MS;
  const seen: { contender: Contender; watched: Watched }[] = [];
  for (const contender of CONTENDERS) {
    if (quick && !contender.inQuick) continue;
    seen.push({ contender, watched: await watch(contender, servers, forMs) });
  }
  const ttls = forMs / TTL_MS;
  const of = (name: string) => seen.find(({ contender }) => contender.name === name)?.watched;
  const claims = seen.flatMap(({ contender: { name, says }, watched: { begun, blocked } }) => [
    figure(`loads-${name}`, `loads per TTL, ${says}`, begun.length / ttls, 'loads'),
    figure(`blocked-${name}`, `reads per TTL that waited for a load, ${says}`, blocked / ttls, 'reads'),
  ]);
  const blockedOf = (name: string) => of(name)?.blocked ?? Number.NaN;
  claims.push(
    {
      ...figure(
        'blocked-share',
        'reads that waited: XFetch, β = 1, against cache-aside',
        (100 * blockedOf('xfetch')) / blockedOf('none'),
        '%',
      ),
      atMost: 50,
    },
    figure('lead', 'lead of XFetch on the expiry, β = 1: p50', -median(of('xfetch')?.begun ?? []), 'ms'),
  );
  return {
    claims,
    plot: {
      name: 'expiry',
      title: `Loads of one value, by when they begin: ${READERS} readers of one key in ${INSTANCES} instances, TTL ${TTL_MS} ms, a load of ${LOAD_MS} ms`,
      x: { label: 'time from the expiry of the value (ms)', scale: 'linear' as const },
      y: { label: 'loads of a value, so far', scale: 'log' as const },
      series: seen.map(({ contender: { says }, watched }) => ({ name: says, points: cumulated(watched) })),
    },
  };
}

const SHOWN_UNTIL_MS = 80;

function cumulated({ begun, values }: Watched): [number, number][] {
  const sorted = [...begun].sort((a, b) => a - b);
  const points = sorted.flatMap((at, index): [number, number][] => [
    ...(index > 0 ? [[at, index / values] as [number, number]] : []),
    [at, (index + 1) / values],
  ]);
  return [...points, [SHOWN_UNTIL_MS, sorted.length / values]];
}

// Processes of their own: steady.ts.
const PROCESSES = 4;
const STEADY_MS = 7000;
/** Two run at a time: neither keeps a core busy. */
const STEADY = [
  ['cache-manager', 'bentocache'],
  ['async-cache-dedupe', 'SWR behind the lock (3.4)'],
  ['XFetch, β = 1', 'XFetch, β = 0.35'],
];

async function steadyState({ redisUrl, mysqlUrl }: MeasureServers) {
  const seen = new Map<string, Seen>();
  for (const names of STEADY)
    await Promise.all(names.map(async (name) => seen.set(name, await steady(name, redisUrl, mysqlUrl))));
  const of = (name: string, what: keyof Seen) => seen.get(name)?.[what] ?? Number.NaN;
  return {
    claims: [
      figure(
        'steady-loads',
        'loads in 7 s, 4 processes with 20 readers each, TTL 1 s, a load of 100 ms: XFetch, β = 1',
        of('XFetch, β = 1', 'loads'),
        'loads',
      ),
      figure('steady-small-loads', 'the same, β = 0.35', of('XFetch, β = 0.35', 'loads'), 'loads'),
      figure('steady-rate', 'reads per ms in that run', of('XFetch, β = 0.35', 'reads') / STEADY_MS, 'reads'),
    ],
    matrix: {
      name: 'steady',
      columns: [
        `loads in ${STEADY_MS / 1000} s`,
        'reads that waited for a load',
        'oldest value returned, since its load ended',
      ],
      rows: STEADY.flat().map((name): [string, ...string[]] => [
        name,
        String(of(name, 'loads')),
        String(of(name, 'blocked')),
        `${of(name, 'oldestMs')} ms`,
      ]),
    },
  };
}

async function steady(name: string, redisUrl: string, mysqlUrl: string): Promise<Seen> {
  const args = [name, redisUrl, mysqlUrl, READERS, STEADY_MS].map(String);
  const children = Array.from({ length: PROCESSES }, () =>
    forkScript(join(import.meta.dirname, 'steady.ts'), args),
  );
  try {
    await Promise.all(children.map((child) => once(child, 'message')));
    const ended = children.map((child) => once(child, 'message'));
    for (const child of children) child.send('go');
    const all = (await Promise.all(ended)).map(([seen]) => seen as Seen);
    const sum = (of: (seen: Seen) => number) => all.map(of).reduce((a, b) => a + b);
    return {
      loads: sum(({ loads }) => loads),
      reads: sum(({ reads }) => reads),
      blocked: sum(({ blocked }) => blocked),
      oldestMs: Math.max(...all.map(({ oldestMs }) => oldestMs)),
    };
  } finally {
    for (const child of children) child.kill();
  }
}
