import { type Claim, defineMeasure, type Matrix } from '#claims';
import { type Outage, outage } from './peers/outage';
import { inProcesses } from './peers/processes';
import { type Races, races } from './peers/races';
import type { Seen } from './peers/readers';
import { LOAD_MS, TTL_MS } from './peers/scene';
import { acrossProcesses, hitRatios, TIERED } from './peers/tiers';

const OURS = 'this lab';
const PROCESSES = 4;

interface Row {
  readonly name: string;
  readonly seen: Seen;
  readonly raced: Races;
  readonly away: Outage;
  readonly tiers?: { readonly heard: string; readonly afterCut: string };
}

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, redisUrl: url } = servers();
    const hits = await hitRatios(redis, url, quick ? 2_000 : 20_000, quick ? 3 : 7);
    const steadyMs = quick ? 1_200 : 5_000;
    const rows: Row[] = [];
    // One after the other: they would take the processor from each other.
    for (const name of [OURS]) {
      const seen = await inProcesses(name, url, PROCESSES, steadyMs);
      const away = await outage(name, url);
      rows.push({ name, seen, away, raced: await races(name, url), ...(await tiersOf(name, url)) });
    }
    const ours = rows.find(({ name }) => name === OURS);
    if (!ours) throw new Error('this lab was not measured');
    return {
      claims: claimsOf(ours, steadyMs, hits),
      matrices: quick ? [] : [loads(rows), consistency(rows), outages(rows)].slice(3),
      plots: [
        {
          name: 'hits',
          title: 'L1 hits of 1 kB in the time of one GET of ioredis',
          label: 'hits',
          bars: hits,
        },
      ],
    };
  },
});

const tiersOf = async (name: string, url: string) =>
  TIERED.some((tiered) => tiered === name) ? { tiers: await acrossProcesses(name, url) } : {};

function claimsOf(
  { seen, raced, away, tiers }: Row,
  steadyMs: number,
  hits: readonly (readonly [string, number])[],
): Claim[] {
  const isFresh = [raced.stored, raced.storedByTag, raced.joined, tiers?.heard, tiers?.afterCut];
  return [
    {
      name: 'cold-loads',
      says: '1,000 readers of a cold key in four processes',
      value: seen.coldLoads,
      unit: 'loads',
      atMost: 1,
    },
    {
      name: 'steady-loads',
      says: `80 readers in four processes, TTL ${TTL_MS / 1000} s: loads for each TTL that passes`,
      value: seen.steadyLoads / (steadyMs / TTL_MS),
      unit: 'loads',
      atMost: 1.2,
    },
    {
      name: 'steady-blocked',
      says: 'reads of them that waited for a load',
      value: seen.blocked,
      unit: 'reads',
      atMost: 0,
    },
    {
      name: 'stale',
      says: 'races with an invalidation that end in an old value: load by key, by tag, joined, L1, L1 after its channel was down',
      value: isFresh.filter((state) => state !== 'fresh').length,
      unit: 'races',
      atMost: 0,
    },
    {
      name: 'lost',
      says: 'invalidations in a partition that were reported as done, or lost',
      value: Number(away.told !== 'rejects') + Number(away.after !== 'fresh'),
      unit: 'invalidations',
      atMost: 0,
    },
    {
      name: 'stalled-ratio',
      says: 'Redis stalled: time of a read against that of its load, median of 200 at once',
      value: away.stalledMs / LOAD_MS,
      unit: '×',
      atMost: 4,
    },
    {
      name: 'stalled-ms',
      says: 'Redis stalled: median of 200 reads at once, a load of 100 ms',
      value: away.stalledMs,
      unit: 'ms',
    },
    {
      name: 'refused-ms',
      says: 'Redis gone: median of 200 reads at once, a load of 100 ms',
      value: away.refusedMs,
      unit: 'ms',
    },
    ...hits.map(
      ([name, value]): Claim => ({
        name: `hit-${name.replaceAll(' ', '-')}`,
        says: `L1 hits of 1 kB in the time of one GET of ioredis, 50 readers: ${name}`,
        value,
        unit: '×',
        ...(name === OURS ? { atLeast: 10 } : {}),
      }),
    ),
  ];
}

const loads = (rows: readonly Row[]): Matrix => ({
  name: 'loads',
  columns: [
    'loads for 1,000 readers of a cold key, 4 processes',
    'TTL 1 s, 5 s, 80 readers: loads',
    'reads that waited',
    'oldest value',
    '50 callers of a load that fails',
    'second caller of a load that never ends',
  ],
  rows: rows.map(({ name, seen, raced }) => [
    name,
    String(seen.coldLoads),
    String(seen.steadyLoads),
    String(seen.blocked),
    `${(seen.oldestMs / 1000).toFixed(1)} s`,
    raced.failing,
    raced.hung,
  ]),
});

const consistency = (rows: readonly Row[]): Matrix => ({
  name: 'consistency',
  columns: [
    'late fill after an invalidation',
    'the same by tag',
    'read begun after it, old load under way',
    'L1 of another process',
    'the same, after its bus was down for 0.4 s',
  ],
  rows: rows.map(({ name, raced, tiers }) => [
    name,
    marked(raced.stored),
    marked(raced.storedByTag),
    marked(raced.joined),
    marked(tiers?.heard ?? 'no L1'),
    marked(tiers?.afterCut ?? 'no L1'),
  ]),
});

const outages = (rows: readonly Row[]): Matrix => ({
  name: 'outages',
  columns: [
    'Redis stalled: p50 of a read, load 100 ms',
    'Redis gone: p50',
    'invalidation in a partition',
    'the read after it',
  ],
  rows: rows.map(({ name, away }) => [
    name,
    shownMs(away.stalledMs),
    shownMs(away.refusedMs),
    away.told,
    marked(away.after),
  ]),
});

const marked = (state: string): string => (state === 'stale' ? '**stale**' : state);

const shownMs = (ms: number): string => (Number.isFinite(ms) ? `${Math.round(ms)} ms` : 'none within 3 s');
