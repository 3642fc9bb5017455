import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { diffArrays } from 'diff';
import { Redis } from 'ioredis';
import { defineMeasure, median } from '#claims';
import { collectGarbage } from '#kit/effort';
import { type Cache, type Options, createCache as stepFour } from './changing-spec';
import { createCache as stepTwo } from './core';
import { leaseKey, valueKey } from './given';
import { createCache as stepOne } from './records-1';
import { createCache as stepThree } from './records-3';
import { createCache as withTimers } from './timers-1';

const READERS = 1_000;
const TIMES = { ttlMs: 60_000, staleMs: 30_000, maxEntries: 10_000 };
const LOAD_MS = 30;
const KEY = 'product:1';

type Create = (options: Options) => Cache;
const STEPS: readonly (readonly [title: string, create: Create])[] = [
  ['1: TTL', stepOne],
  ['2: one load', stepTwo],
  ['3: bounded stale', stepThree],
  ['4: two processes', stepFour],
];
const RECORDS = ['records-1.ts', 'core.ts', 'records-3.ts', 'changing-spec.ts'];

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, redisUrl } = servers();
    const other = new Redis(redisUrl);
    try {
      const runs: Awaited<ReturnType<typeof readersOf>>[] = [];
      for (const [, create] of STEPS) runs.push(await readersOf(create, [redis, other]));
      const [one, two, three, four] = runs.map(({ cold }) => cold);
      const waiting = runs.map(({ waited }) => (100 * waited) / READERS);
      const hit = await costOfHit(redis, quick ? 200 : 3_000);
      const entries = quick ? 5_000 : 50_000;
      const recordBytes = await bytesOfAnEntry(stepOne, entries);
      const timerBytes = await bytesOfAnEntry(withTimers, entries);
      return {
        claims: [
          {
            name: 'loads-one-process',
            says: `loads for ${READERS} readers of a missing key: step 2 against step 1`,
            value: (100 * Number(two)) / Number(one),
            unit: '%',
            atMost: 1,
          },
          {
            name: 'loads-two-processes',
            says: `loads for ${READERS} readers of a missing key, half of them in a second cache: step 4 against step 3`,
            value: Number(four) / Number(three),
            unit: '×',
            atMost: 0.5,
          },
          share('waiting-2', 'readers that wait for the load when a value has expired: step 2', waiting[1], {
            atLeast: 100,
          }),
          share('waiting-3', 'readers that wait for the load when a value has expired: step 3', waiting[2], {
            atMost: 0,
          }),
          {
            name: 'hit',
            says: 'median time of a GET of Redis, against a hit of step 4 within syncMs',
            value: hit,
            unit: '×',
            atLeast: 3,
          },
          {
            name: 'memory',
            says: 'memory of an entry with a timer of its own, against one with a time in it',
            value: timerBytes / recordBytes,
            unit: '×',
            atLeast: 1.2,
          },
          share(
            'rewritten-records',
            'lines of step 1 that are not in step 3 any more: a time in each entry',
            goneShare('records-1.ts', 'records-3.ts'),
          ),
          share(
            'rewritten-timers',
            'lines of step 1 that are not in step 3 any more: a timer for each key',
            goneShare('timers-1.ts', 'timers-3.ts'),
          ),
        ],
        matrices: quick
          ? []
          : [
              {
                name: 'steps',
                columns: [
                  'lines',
                  'rewritten of the step before',
                  'loads, missing key',
                  'readers that wait at an expiry',
                  'loads at that expiry',
                ],
                rows: STEPS.map(([title], at) => {
                  const run = runs[at];
                  const file = RECORDS[at] ?? '';
                  const before = RECORDS[at - 1];
                  const removed =
                    before === undefined ? '' : `${goneLines(before, file)} of ${codeOf(before).length}`;
                  return [
                    title,
                    `${codeOf(file).length}`,
                    removed,
                    `${run?.cold}`,
                    `${run?.waited}`,
                    `${run?.expired}`,
                  ];
                }),
              },
            ],
      };
    } finally {
      await clear(redis);
      other.disconnect();
    }
  },
});

function share(
  name: string,
  says: string,
  value = Number.NaN,
  bound: { atLeast?: number; atMost?: number } = {},
) {
  return { name, says, value, unit: '%', ...bound };
}

/** Half of the readers use a second cache, with a connection of its own. */
async function readersOf(create: Create, clients: readonly [Redis, Redis]) {
  const [redis] = clients;
  await clear(redis);
  let time = 0;
  const caches = clients.map((redis) => create({ ...TIMES, syncMs: 10, now: () => time, redis }));
  const cold = await wave(caches);
  // The TTL passes, in the processes and in Redis: what is left there is the stale time.
  time += TIMES.ttlMs + 1;
  await redis.pexpire(valueKey(KEY), TIMES.staleMs - 1);
  const expired = await wave(caches);
  await clear(redis);
  return { cold: cold.loads, waited: expired.waited, expired: expired.loads };
}

/** All readers at once; a reader that has waited gets its value after a load has ended. */
async function wave(caches: readonly Cache[]) {
  let loads = 0;
  let waited = 0;
  let hasEnded = false;
  const load = async () => {
    loads++;
    await sleep(LOAD_MS);
    hasEnded = true;
    return loads;
  };
  const read = async (cache: Cache) => {
    await cache.get(KEY, load);
    if (hasEnded) waited++;
  };
  const readers = Array.from({ length: READERS / caches.length }, () => caches.map(read)).flat();
  await Promise.all(readers);
  // A refresh in the background ends too.
  await sleep(2 * LOAD_MS);
  return { loads, waited };
}

const clear = (redis: Redis) => redis.del(KEY, valueKey(KEY), leaseKey(KEY));

async function costOfHit(redis: Redis, rounds: number): Promise<number> {
  const cache = stepFour({ ...TIMES, redis, syncMs: 60_000 });
  const load = async () => ({ name: 'x'.repeat(500) });
  await cache.get(KEY, load);
  await redis.set(KEY, JSON.stringify(await load()), 'PX', 60_000);
  const [gets, hits]: [number[], number[]] = [[], []];
  for (let n = 0; n < rounds; n++) {
    gets.push(await timed(async () => JSON.parse((await redis.get(KEY)) ?? '')));
    hits.push(await timed(() => cache.get(KEY, load)));
  }
  return median(gets) / median(hits);
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}

async function bytesOfAnEntry(create: Create, entries: number): Promise<number> {
  const cache = create({ ttlMs: 600_000, maxEntries: entries });
  const before = usedBytes();
  for (let n = 0; n < entries; n++) await cache.get(`product:${n}`, async () => n);
  const bytes = (usedBytes() - before) / entries;
  // Used until here: the cache, and its timers.
  for (let n = 0; n < entries; n++) await cache.invalidate(`product:${n}`);
  return bytes;
}

function usedBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

/** Without blank lines, comments and imports. */
const codeOf = (file: string): string[] =>
  readFileSync(join(__dirname, file), 'utf8')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(\/\/|\/\*|\*|import )/.test(line));

/** How many lines of the one file are not in the other one, in their order. */
const goneLines = (before: string, after: string): number =>
  diffArrays(codeOf(before), codeOf(after))
    .filter(({ removed }) => removed)
    .reduce((sum, { value }) => sum + value.length, 0);

const goneShare = (before: string, after: string): number =>
  (100 * goneLines(before, after)) / codeOf(before).length;
