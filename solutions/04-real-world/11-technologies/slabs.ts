import { setTimeout as sleep } from 'node:timers/promises';
import type { Claim, Plot } from '#claims';
import { seeded } from '#kit/random';
import { MEMORY_MB, startMemcached } from './memcached';
import { Line } from './peers';

const SMALL = 1_000;
const LARGE = 4_000;

const FULL = 1.5 * MEMORY_MB * 1000;
const KEYS = (8 * 1_000_000) / LARGE;
const random = seeded(11);
const OFF = 'slab_automove=0';
/** Its default is 30: seconds that are looked at before a page is moved. */
const WINDOW_S = 5;
const WATCHED_S = 16;

/** Items grow from 1 kB to 4 kB: the hit rate of a set of items that would fit twice. */
export async function slabClaims(quick: boolean): Promise<{ claims: Claim[]; plots: Plot[] }> {
  const accesses = quick ? 2_000 : 40_000;
  const [fresh, full] = await Promise.all([grown('fresh', accesses), grown('full', accesses)]);
  const says = `hits of 8 MB of items of ${LARGE / 1000} kB: memcached with ${MEMORY_MB} MB, automover off,`;
  const filled = `full of items of ${SMALL / 1000} kB before`;
  const claims: Claim[] = [
    { name: 'memcached-slab-fresh', says: `${says} empty before`, value: fresh, unit: '%', atLeast: 90 },
    { name: 'memcached-slab-full', says: `${says} ${filled}`, value: full, unit: '%', atMost: 30 },
  ];
  if (quick) return { claims, plots: [] };
  const [flushed, unused, off, on] = await Promise.all([
    grown('flushed', accesses),
    unusedClaim(),
    watched(OFF),
    watched(`slab_automove_window=${WINDOW_S}`),
  ]);
  return {
    claims: [
      ...claims,
      {
        name: 'memcached-slab-flushed',
        says: `${says} ${filled}, then flush_all`,
        value: flushed,
        unit: '%',
      },
      {
        name: 'memcached-slab-moved',
        says: `time until ${LARGE / 1000} kB items hit to 90 %: automover with a window of ${WINDOW_S} s`,
        value: on.find(([, rate]) => rate >= 90)?.[0] ?? WATCHED_S,
        unit: 's',
      },
      unused,
    ],
    plots: [
      {
        name: 'slabs',
        title: `Hits after items have grown from ${SMALL / 1000} kB to ${LARGE / 1000} kB, in a full memcached`,
        x: { label: 'seconds', scale: 'linear' },
        y: { label: 'hits (%)', scale: 'linear' },
        series: [
          { name: 'automover off', points: off },
          { name: `automover (${WINDOW_S} s)`, points: on },
        ],
      },
    ],
  };
}

/** An item has a chunk of its class for itself, however much of it is left. */
async function unusedClaim(): Promise<Claim> {
  return withLine(OFF, async (line) => {
    for (let bytes = 100; bytes < 4_000; bytes += 10) await fill(line, `of${bytes}`, 1, bytes);
    const stats = async (about: string) => line.ask(`stats ${about}\r\n`, (text) => text.endsWith('END\r\n'));
    const of = (text: string, name: string) =>
      new Map(
        [...text.matchAll(new RegExp(`(\\d+):${name} (\\d+)`, 'g'))].map(([, id, n]) => [id, Number(n)]),
      );
    const [slabs, items] = [await stats('slabs'), await stats('items')];
    const [sizes, used] = [of(slabs, 'chunk_size'), of(slabs, 'used_chunks')];
    const taken = sum([...sizes].map(([id, size]) => size * (used.get(id) ?? 0)));
    const requested = of(items, 'mem_requested');
    return {
      name: 'memcached-slab-unused',
      says: 'bytes of the chunks that items of 100 to 4,000 bytes leave unused: memcached',
      value: 100 * (1 - sum([...requested.values()]) / taken),
      unit: '%',
    };
  });
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, number) => total + number, 0);

async function grown(before: 'fresh' | 'full' | 'flushed', accesses: number): Promise<number> {
  return withLine(OFF, async (line) => {
    if (before !== 'fresh') await fill(line, 'small', FULL, SMALL);
    if (before === 'flushed') await line.ask('flush_all\r\n');
    await fill(line, 'large', KEYS, LARGE);
    return hitRate(line, accesses);
  });
}

/** The hit rate of each second, at a pace that leaves the machine to others. */
async function watched(option: string): Promise<[second: number, hits: number][]> {
  return withLine(option, async (line) => {
    await fill(line, 'small', FULL, SMALL);
    const points: [number, number][] = [];
    for (let second = 1; second <= WATCHED_S; second++) {
      const rates: number[] = [];
      for (let step = 0; step < 10; step++) {
        rates.push(await hitRate(line, BATCH));
        await sleep(1_000 / 10);
      }
      points.push([second, sum(rates) / rates.length]);
    }
    return points;
  });
}

async function withLine<T>(option: string, use: (line: Line) => Promise<T>): Promise<T> {
  const server = await startMemcached('-o', option);
  const line = new Line(server.port);
  try {
    return await use(line);
  } finally {
    line.close();
    await server.close();
  }
}

const BATCH = 500;
/** `mn` is answered after all that came before it. */
const passed = (text: string) => text.endsWith('MN\r\n');

async function fill(line: Line, kind: string, count: number, bytes: number): Promise<void> {
  const value = 'x'.repeat(bytes);
  for (let from = 0; from < count; from += BATCH) {
    const sets = Array.from(
      { length: Math.min(BATCH, count - from) },
      (_, at) => `ms ${kind}:${from + at} ${bytes} q\r\n${value}\r\n`,
    );
    await line.ask(`${sets.join('')}mn\r\n`, passed);
  }
}

/** Random reads, where each miss is filled. */
async function hitRate(line: Line, accesses: number): Promise<number> {
  const value = 'x'.repeat(LARGE);
  let hits = 0;
  for (let done = 0; done < accesses; done += BATCH) {
    const asked = Array.from({ length: BATCH }, () => `large:${Math.floor(random() * KEYS)}`);
    const found = await line.ask(`${asked.map((key) => `mg ${key} k q\r\n`).join('')}mn\r\n`, passed);
    const hit = new Set([...found.matchAll(/^HD k(\S+)/gm)].map(([, key]) => key));
    const missed = asked.filter((key) => !hit.has(key));
    hits += asked.length - missed.length;
    const sets = missed.map((key) => `ms ${key} ${LARGE} q\r\n${value}\r\n`);
    await line.ask(`${sets.join('')}mn\r\n`, passed);
  }
  return (100 * hits) / accesses;
}
