import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { type Claim, defineMeasure, forkScript, type MeasureServers, type Plot } from '#claims';
import { seeded } from '#kit/random';
import { createSwr } from '../../02-strategies/06-stale-while-revalidate/stale-while-revalidate';
import { createLockedCache } from '../04-stampede-lock/stampede-lock';
import { createEarlyCache, shouldRefresh } from './early-expiration';
import type { Seen } from './steady';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const claims = [...formula(quick), ...(await aroundExpiries(servers(), quick))];
    const plots = [probabilityOverTime(quick ? 500 : 10_000)];
    if (quick) return { claims, plots };
    const steady = await steadyState(servers());
    return { claims: [...claims, ...steady.claims], matrices: [steady.matrix], plots };
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
const SIMULATED = 'TTL 600 s, a load of 2 s, 1,000 reads a second';

/** Whether a hit fires, so long before the expiry. */
type Rule = (gapMs: number, random: () => number) => boolean;

const xfetch =
  (beta: number): Rule =>
  (gapMs, random) =>
    shouldRefresh({ now: 0, expiresAt: gapMs, deltaMs: SIM.deltaMs, beta, random });

/** A common version: the share of the TTL that has gone, times a random number. Δ is not in it. */
const byAge: Rule = (gapMs, random) => ((SIM.ttlMs - gapMs) * random()) / SIM.ttlMs > 0.5;

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

/** The share of hits that fire, by how much of the life of the entry is left: for random numbers that are evenly spread. */
function probabilityOverTime(hits: number): Plot {
  const points = (beta: number) =>
    Array.from({ length: 49 }, (_, step): [number, number] => {
      const gapInDeltas = (48 - step) / 8;
      let fired = 0;
      for (let hit = 0; hit < hits; hit++) {
        if (xfetch(beta)(gapInDeltas * SIM.deltaMs, () => (hit + 0.5) / hits)) fired++;
      }
      return [-gapInDeltas, (100 * fired) / hits];
    });
  return {
    name: 'probability',
    title: 'Hits that fire, by the time that is left until the expiry',
    x: { label: 'time from the expiry, in units of Δ', scale: 'linear' },
    y: { label: 'hits that fire (%)', scale: 'linear' },
    series: [2, 1, 0.5].map((beta) => ({ name: `β = ${beta}`, points: points(beta) })),
  };
}

function formula(quick: boolean): Claim[] {
  const runs = (rule: Rule, count: number, fromGapMs: number = SIM.ttlMs) => {
    const refreshes = Array.from({ length: count }, (_, seed) => refresh(rule, seed, fromGapMs));
    return {
      gapMs: mean(refreshes.map(({ gapMs }) => gapMs)),
      loads: mean(refreshes.map(({ loads }) => loads)),
    };
  };
  const age = runs(byAge, quick ? 1 : 5);
  // Earlier than that, a hit fires with a probability below e^-25.
  const fromGapMs = 25 * SIM.deltaMs;
  const full = runs(xfetch(1), quick ? 12 : 400, fromGapMs);
  const small = runs(xfetch(SMALL_BETA), quick ? 1 : 200, fromGapMs);
  const stampede = runs(never, 1, fromGapMs);

  const hits = 100_000;
  const random = seeded(2015);
  let fired = 0;
  for (let hit = 0; hit < hits; hit++) if (xfetch(1)(SIM.deltaMs, random)) fired++;

  const used = ({ gapMs }: { gapMs: number }) => (100 * (SIM.ttlMs - gapMs)) / SIM.ttlMs;
  const lead = SIM.deltaMs * Math.log(SIM.readsPerMs * SIM.deltaMs);
  const usedOf = `part of the TTL that has gone at the first refresh, ${SIMULATED}:`;
  const loadsOf = `loads that begin before the first has ended, no lock, ${SIMULATED}:`;
  return [
    {
      ...figure('p-at-delta', 'hits that fire Δ before the expiry, β = 1', (100 * fired) / hits, '%'),
      atLeast: 36,
      atMost: 37.6,
    },
    { ...figure('used-xfetch', `${usedOf} XFetch, β = 1`, used(full), '%'), atLeast: 95 },
    { ...figure('used-age', `${usedOf} by the age of the value`, used(age), '%'), atMost: 55 },
    {
      ...figure(
        'lead-ratio',
        `lead on the expiry, ${SIMULATED}: XFetch, β = 1, against Δ · ln(λ · Δ)`,
        full.gapMs / lead,
        '×',
      ),
      atLeast: 0.8,
      atMost: 1.4,
    },
    { ...figure('xfetch-loads', `${loadsOf} XFetch, β = 1`, full.loads, 'loads'), atLeast: 1.5, atMost: 10 },
    figure('small-loads', `${loadsOf} XFetch, β = ${SMALL_BETA}`, small.loads, 'loads'),
    figure('never-loads', `${loadsOf} no early refresh`, stampede.loads, 'loads'),
    figure(
      'small-lead',
      `lead on the expiry, ${SIMULATED}: XFetch, β = ${SMALL_BETA}`,
      small.gapMs / 1000,
      's',
    ),
  ];
}

// On the real servers: instances with a connection each, in this process.
const INSTANCES = 4;
const READERS = 20;
const PAUSE_MS = 10;
const TTL_MS = 500;
const LOAD_MS = 50;
const WORK = `${READERS} readers, TTL ${TTL_MS} ms, a load of ${LOAD_MS} ms`;

interface Value {
  /** By performance.now. */
  readonly loadedAt: number;
}

type Load = () => Promise<Value>;
type Get = (key: string, load: Load) => Promise<Value>;

interface Contender {
  readonly name: string;
  readonly says: string;
  readonly inQuick: boolean;
  open(redis: Redis): { get: Get; onIdle?(): Promise<void> };
}

const CONTENDERS: readonly Contender[] = [
  {
    name: 'none',
    says: 'cache-aside',
    inQuick: true,
    open: (redis) => ({ get: cacheAside(redis) }),
  },
  {
    name: 'lock',
    says: 'lock (3.4)',
    inQuick: false,
    open(redis) {
      const cache = createLockedCache({ redis });
      const times = { freshMs: TTL_MS, staleMs: 0, lockMs: 5000, waitMs: 5000 };
      return { get: (key, load) => cache.getOrLoad(key, load, times) };
    },
  },
  {
    name: 'swr',
    says: 'SWR (2.6)',
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
        onIdle: () => swr.onIdle(),
      };
    },
  },
  {
    name: 'xfetch',
    says: 'XFetch',
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

async function watch({ name, open }: Contender, { redis, db }: MeasureServers, forMs: number) {
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
    expiresAt = performance.now() + TTL_MS;
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
    await Promise.all(caches.map((cache) => cache.onIdle?.()));
    // A refresh that has begun ends before its client is closed.
    if (values < begun.length + 1) await sleep(2 * LOAD_MS);
    return { begun, values: values - 1, reads, blocked };
  } finally {
    for (const client of clients) client.disconnect();
  }
}

async function aroundExpiries(servers: MeasureServers, quick: boolean): Promise<Claim[]> {
  const forMs = quick ? 550 : 4.5 * TTL_MS;
  const ttls = forMs / TTL_MS;
  const seen = new Map<string, Watched>();
  for (const contender of CONTENDERS) {
    if (!quick || contender.inQuick) seen.set(contender.name, await watch(contender, servers, forMs));
  }
  const claims = CONTENDERS.flatMap(({ name, says }) => {
    const watched = seen.get(name);
    if (!watched) return [];
    return [
      figure(`loads-${name}`, `loads per TTL, ${WORK}: ${says}`, watched.begun.length / ttls, 'loads'),
      figure(
        `blocked-${name}`,
        `reads per TTL that waited, ${WORK}: ${says}`,
        watched.blocked / ttls,
        'reads',
      ),
    ];
  });
  const [aside, early] = ['none', 'xfetch'].map((name) => seen.get(name));
  const leadMs = -mean(early?.begun ?? []);
  return [
    ...claims,
    {
      ...figure(
        'blocked-share',
        `reads that waited, ${WORK}: XFetch, β = 1, against cache-aside`,
        (100 * (early?.blocked ?? Number.NaN)) / (aside?.blocked ?? Number.NaN),
        '%',
      ),
      atMost: 50,
    },
    figure('short-lead', `lead on the expiry, ${WORK}: XFetch, β = 1, mean`, leadMs, 'ms'),
    figure(
      'short-share',
      `lead on the expiry as a part of the TTL, ${WORK}: XFetch, β = 1`,
      (100 * leadMs) / TTL_MS,
      '%',
    ),
    figure(
      'short-expected',
      `${LEAD_BY_FORMULA}, ${WORK}`,
      expectedLeadMs(LOAD_MS, (early?.reads ?? Number.NaN) / forMs),
      'ms',
    ),
  ];
}

const LEAD_BY_FORMULA =
  'lead on the expiry by the formula Δ · (ln(λ · Δ) + 0.58), from the reads of that run';

/** On average the first of many rare events comes 0.58 Δ before the moment at which one is expected. */
const expectedLeadMs = (deltaMs: number, readsPerMs: number) =>
  deltaMs * (Math.log(readsPerMs * deltaMs) + 0.5772);

// Processes of their own: steady.ts.
const PROCESSES = 4;
const STEADY_MS = 4400;
const STEADY = `${STEADY_MS / 1000} s, ${PROCESSES} processes with 20 readers each, TTL 1 s, a load of 100 ms`;
/** Two run at a time: neither keeps a core busy. */
const ROUNDS = [
  ['cache-manager', 'bentocache'],
  ['async-cache-dedupe', 'SWR behind the lock (3.4)'],
  ['XFetch, β = 1', 'XFetch, β = 0.35'],
];

async function steadyState({ redisUrl, mysqlUrl }: MeasureServers) {
  const seen = new Map<string, Seen>();
  for (const names of ROUNDS)
    await Promise.all(names.map(async (name) => seen.set(name, await steady(name, redisUrl, mysqlUrl))));
  const of = (name: string, what: keyof Seen) => seen.get(name)?.[what] ?? Number.NaN;
  return {
    claims: [
      figure('steady-loads', `loads in ${STEADY}: XFetch, β = 1`, of('XFetch, β = 1', 'loads'), 'loads'),
      figure(
        'steady-expected',
        `${LEAD_BY_FORMULA}, ${STEADY}`,
        expectedLeadMs(100, of('XFetch, β = 1', 'reads') / STEADY_MS),
        'ms',
      ),
      figure(
        'steady-small-loads',
        `loads in ${STEADY}: XFetch, β = 0.35`,
        of('XFetch, β = 0.35', 'loads'),
        'loads',
      ),
    ],
    matrix: {
      name: 'steady',
      columns: [
        `loads in ${STEADY_MS / 1000} s`,
        'reads that waited for a load',
        'oldest value returned, since its load ended',
      ],
      rows: ROUNDS.flat().map((name): [string, ...string[]] => [
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
