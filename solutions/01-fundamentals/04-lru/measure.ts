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
  map: 'first key of a Map',
};
const WORKS: Record<Work, string> = {
  hit: 'hits',
  'long-hit': 'hits, keys of 32 characters that end alike',
  evict: 'set with eviction',
  mix: 'get, or set on a miss, Zipf 0.99',
};
const label = (entries: number) => (entries < 1e6 ? `${entries / 1e3}k` : `${entries / 1e6}M`);

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

const BOUNDS: Record<string, Pick<Claim, 'atLeast' | 'atMost'>> = {
  'fast-hit-10k': { atLeast: 0.6 },
  'fast-evict-10k': { atLeast: 1.1 },
  'fast-mix-10k': { atLeast: 0.8 },
  'map-evict-10k': { atMost: 0.5 },
};

export default defineMeasure({
  async run({ quick }) {
    const names: Name[] = quick ? ['lru-cache', 'fast', 'map'] : (Object.keys(TITLES) as Name[]);
    const sizes = quick ? [10_000] : [1_000, 10_000, 100_000, 1_000_000];
    const racers: Racers = names.map((name) => [name, start(name)]);
    const results: { work: Work; entries: number; result: Result }[] = [];
    const claims: Claim[] = [];
    const measured = async (work: Work, entries: number) => {
      await askAll(racers, { ask: 'prepare', entries, work });
      await askAll(racers, { ask: 'speed', ms: quick ? 20 : 150 });
      results.push({ work, entries, result: await race(racers, quick ? 7 : 9, quick ? 8 : 20) });
    };
    try {
      for (const entries of sizes) {
        for (const work of ['hit', 'evict', 'mix'] as const) {
          await measured(work, entries);
          if (entries === 10_000 && work === 'evict') claims.push(...(await held(racers, entries)));
        }
        if (entries === 10_000 || entries === 100_000) claims.push(...(await bytes(racers, entries)));
      }
      // Last: from here on V8 has seen FastLru hash keys in two ways, and its code for it is another.
      if (!quick) await measured('long-hit', 10_000);
    } finally {
      for (const [, child] of racers) child.kill();
    }
    return {
      claims: [
        ...results.flatMap(({ work, entries, result }) => speedClaims(work, entries, result)),
        ...claims,
      ],
      plots: quick ? [] : [plot('evict', results), plot('mix', results)],
    };
  },
});

/** The loader by its path from here: the caller may stand in another folder, and may itself be run by another loader. */
function start(name: Name): ChildProcess {
  return forkScript(join(import.meta.dirname, 'contender.ts'), [name], ['--expose-gc']);
}

/** All of ours; of the others, what the lesson speaks of. */
function speedClaims(work: Work, entries: number, result: Result): Claim[] {
  const told = (name: Name) =>
    name === 'fast' ||
    (name === 'map' && work !== 'hit' && work !== 'long-hit') ||
    (name !== 'lru-cache' && entries === 100_000);
  return (Object.keys(result) as Name[]).filter(told).map((name) => {
    const claim = `${name}-${work}-${label(entries).toLowerCase()}`;
    return {
      name: claim,
      says: `${TITLES[name]} against lru-cache, ${WORKS[work]}, ${label(entries)} entries`,
      value: result[name]?.ratio ?? Number.NaN,
      unit: '×',
      ...BOUNDS[claim],
    };
  });
}

async function held(racers: Racers, entries: number): Promise<Claim[]> {
  const quickLru = racers.find(([name]) => name === 'quick-lru');
  if (!quickLru) return [];
  const value = (await ask(quickLru[1], { ask: 'held' })) / entries;
  return [
    {
      name: 'quick-lru-held',
      says: 'quick-lru, the most entries held against its maxSize',
      value,
      unit: '×',
    },
  ];
}

async function bytes(racers: Racers, entries: number): Promise<Claim[]> {
  const seen = await askAll(racers, { ask: 'bytes' });
  const of = (wanted: Name) => seen.find(([name]) => name === wanted)?.[1] ?? Number.NaN;
  if (entries === 10_000) {
    const says = 'FastLru against lru-cache, memory an entry, 10k entries';
    return [{ name: 'fast-memory', says, value: of('fast') / of('lru-cache'), unit: '×', atMost: 0.8 }];
  }
  return seen.map(([name, value]) => ({
    name: `${name}-bytes`,
    says: `${TITLES[name]}, memory an entry without key and value, ${label(entries)} entries`,
    value,
    unit: 'bytes',
  }));
}

function plot(work: Work, results: readonly { work: Work; entries: number; result: Result }[]): Plot {
  const points = results.filter((point) => point.work === work);
  const titles: Record<string, string> = {
    evict: 'Set with eviction: the Map that looks for its first key falls by orders of magnitude',
    mix: 'Get, or set on a miss, Zipf 0.99 over four times as many keys as fit',
  };
  return {
    name: work,
    title: titles[work] ?? '',
    x: { label: 'entries', scale: 'log' },
    y: { label: 'calls a second of processor time', scale: 'log' },
    series: (Object.keys(TITLES) as Name[]).map((name) => ({
      name: TITLES[name],
      points: points.map(({ entries, result }) => [entries, result[name]?.speed ?? Number.NaN] as const),
    })),
  };
}
