import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type Claim, defineMeasure, forkScript, median, type Plot } from '#claims';
import type { Name, Question, Work } from './contender';

const TITLES: Record<Name, string> = {
  fast: 'FastLru',
  plain: 'Lru (the lab)',
  'lru-cache': 'lru-cache',
  mnemonist: 'mnemonist LRUMap',
  'quick-lru': 'quick-lru',
  map: 'the order of a Map',
  kept: 'Map, one iterator for all evictions',
};
const WORKS: Record<Work, string> = {
  hit: 'hits',
  'long-hit': 'hits, keys of 32 characters that end alike',
  hot: 'hits on one key, after 20,000 of them',
  evict: 'set with eviction',
  mix: 'get, or set on a miss, a few keys being most popular (Zipf 0.99)',
};
const label = (entries: number) => `${entries / 1e3}k`;

type Racers = readonly (readonly [Name, ChildProcess])[];
/** Calls a second, and the same in parts of lru-cache's: medians over the rounds. */
type Result = Record<string, { speed: number; ratio: number }>;

async function ask(child: ChildProcess, question: Question): Promise<number> {
  const answer = once(child, 'message');
  child.send(question);
  return (await answer)[0];
}

const askAll = (racers: Racers, question: Question) =>
  Promise.all(racers.map(async ([name, child]) => [name, await ask(child, question)] as const));

/** One after the other, in another order each round, so that what disturbs the machine disturbs all. */
async function race(racers: Racers, rounds: number, ms: number): Promise<Result> {
  const seen: Record<string, number>[] = [];
  for (let round = 0; round < rounds; round++) {
    const speeds: Record<string, number> = {};
    for (let i = 0; i < racers.length; i++) {
      const [name, child] = racers[(i + round) % racers.length] as Racers[number];
      speeds[name] = await ask(child, { ask: 'speed', ms });
    }
    seen.push(speeds);
  }
  const of = (name: string) => seen.map((speeds) => speeds[name] ?? Number.NaN);
  const reference = of('lru-cache');
  return Object.fromEntries(
    racers.map(([name]) => {
      const ratios = of(name).map((speed, round) => speed / (reference[round] ?? Number.NaN));
      return [name, { speed: median(of(name)), ratio: median(ratios) }];
    }),
  );
}

/** Only where the difference is far greater than what else runs on the machine can make it. */
const BOUNDS: Record<string, Pick<Claim, 'atLeast' | 'atMost'>> = {
  'map-evict-10k': { atMost: 0.5 },
  'map-hot-10k': { atMost: 0.5 },
};

/** In this order, because a process that has seen other work may run other code of V8. */
const PLAN: readonly (readonly [Work, entries: number])[] = [
  ['evict', 1_000],
  ['hit', 10_000],
  ['evict', 10_000],
  ['mix', 10_000],
  ['hot', 10_000],
  ['evict', 100_000],
  ['mix', 100_000],
  ['hot', 100_000],
  // From here on V8 has seen FastLru hash keys in two ways.
  ['long-hit', 10_000],
];
const QUICK_PLAN = PLAN.filter(([work, entries]) => entries === 10_000 && work !== 'long-hit');

export default defineMeasure({
  async run({ quick }) {
    const names: Name[] = quick
      ? ['lru-cache', 'fast', 'map']
      : ['fast', 'plain', 'lru-cache', 'mnemonist', 'quick-lru', 'map'];
    const racers: Racers = names.map((name) => [name, start(name)]);
    const results: { work: Work; entries: number; result: Result }[] = [];
    const claims: Claim[] = [];
    try {
      for (const [work, entries] of quick ? QUICK_PLAN : PLAN) {
        await askAll(racers, { ask: 'prepare', entries, work });
        await askAll(racers, { ask: 'speed', ms: quick ? 20 : 100 });
        results.push({ work, entries, result: await race(racers, quick ? 5 : 7, quick ? 8 : 20) });
        if (work !== 'evict' || entries === 1_000) continue;
        if (entries === 10_000) claims.push(...(await held(racers, entries)));
        claims.push(...(await bytes(racers, entries)));
      }
    } finally {
      for (const [, child] of racers) child.kill();
    }
    return {
      claims: [
        ...results.flatMap(({ work, entries, result }) => speedClaims(work, entries, result)),
        ...(quick ? [] : await leftBehind()),
        ...claims,
      ],
      plots: quick ? [] : [evictionPlot(results)],
    };
  },
});

/** The loader by its path from here: the caller may stand in another folder, and may itself be run by another loader. */
function start(name: Name): ChildProcess {
  return forkScript(join(import.meta.dirname, 'contender.ts'), [name], ['--expose-gc']);
}

/** All of them among 100,000 entries; of fewer entries, those that the lesson speaks of. */
function speedClaims(work: Work, entries: number, result: Result): Claim[] {
  const isShown = (name: Name) =>
    name !== 'lru-cache' &&
    (name === 'fast' || (name === 'map' && (work === 'evict' || work === 'hot')) || entries === 100_000);
  return (Object.keys(result) as Name[]).filter(isShown).map((name) => {
    const claim = `${name}-${work}-${label(entries)}`;
    return {
      name: claim,
      says: `${WORKS[work]}, ${label(entries)} entries: speed of ${TITLES[name]} against lru-cache`,
      value: result[name]?.ratio ?? Number.NaN,
      unit: '×',
      ...BOUNDS[claim],
    };
  });
}

/** In a process that has done nothing else. */
async function leftBehind(): Promise<Claim[]> {
  const entries = 100_000;
  const seen: Claim[] = [];
  for (const name of ['kept', 'plain'] as const) {
    const child = start(name);
    await ask(child, { ask: 'prepare', entries, work: 'hit' });
    const value = Math.max(0, await ask(child, { ask: 'left' }));
    child.kill();
    seen.push({
      name: `${name}-left`,
      says: `memory that a million hits without an eviction leave behind, ${label(entries)} entries: ${TITLES[name]}`,
      value,
      unit: 'MB',
    });
  }
  return seen;
}

async function held(racers: Racers, entries: number): Promise<Claim[]> {
  const quickLru = racers.find(([name]) => name === 'quick-lru');
  if (!quickLru) return [];
  const value = (await ask(quickLru[1], { ask: 'held' })) / entries;
  return [
    {
      name: 'quick-lru-held',
      says: 'most entries held by quick-lru, against its maxSize',
      value,
      unit: '×',
    },
  ];
}

async function bytes(racers: Racers, entries: number): Promise<Claim[]> {
  const seen = await askAll(racers, { ask: 'bytes' });
  const of = (wanted: Name) => seen.find(([name]) => name === wanted)?.[1] ?? Number.NaN;
  if (entries === 10_000) {
    const says = 'memory of an entry without its key and value, 10k entries: FastLru against lru-cache';
    return [{ name: 'fast-memory', says, value: of('fast') / of('lru-cache'), unit: '×', atMost: 0.8 }];
  }
  return seen.map(([name, value]) => ({
    name: `${name}-bytes`,
    says: `memory of an entry without its key and value, ${label(entries)} entries: ${TITLES[name]}`,
    value,
    unit: 'bytes',
  }));
}

function evictionPlot(results: readonly { work: Work; entries: number; result: Result }[]): Plot {
  const points = results.filter(({ work }) => work === 'evict');
  const names = Object.keys(points[0]?.result ?? {}) as Name[];
  return {
    name: 'evict',
    title: 'Set with eviction: the LRU on the order of a Map falls by orders of magnitude',
    x: { label: 'entries', scale: 'log' },
    y: { label: 'calls a second of processor time', scale: 'log' },
    series: names.map((name) => ({
      name: TITLES[name],
      points: points.map(({ entries, result }) => [entries, result[name]?.speed ?? Number.NaN] as const),
    })),
  };
}
