import { once } from 'node:events';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { forkScript, median } from '#claims';
import type { Across } from './bus';
import type { Setup } from './clients';
import { open } from './contenders';
import { within } from './scene';

/** Contenders that have an L1 of their own. */
export const TIERED = ['this lab', 'cache-manager', 'cacheable', 'bentocache'];

const READERS = 50;
const KEYS = 1_000;
/** An L1 answers in a fraction of a microsecond: a garbage collection is a large part of few reads. */
const LOCAL_READS = 20;
/** No channel comes here: our L1 is not used. */
const NOWHERE = 'redis://127.0.0.1:1';

export interface Speed {
  readonly name: string;
  /** Hits of 1 kB in the time of one GET of ioredis and JSON.parse, 50 readers. */
  readonly redisHits: number;
  readonly localHits: number | undefined;
}

/** Each round asks all of them in turn. */
export async function speeds(
  redis: Redis,
  url: string,
  names: readonly string[],
  reads: number,
  rounds: number,
) {
  const text = JSON.stringify({ text: 'x'.repeat(1_000) });
  await redis.mset(Array.from({ length: KEYS }, (_, at) => [`hit-${at}`, text]).flat());
  const opened = await Promise.all(names.map((name) => openBoth(name, url)));
  const subjects = opened.flatMap(({ one, two }) => (two ? [one, two] : [one]));
  for (const { warm } of subjects) await warm();
  for (let round = 0; round <= rounds; round++) {
    const getMs = await timed(async (at) => JSON.parse((await redis.get(`hit-${at % KEYS}`)) ?? ''), reads);
    for (const { get, ratios, local } of subjects) {
      const times = local ? LOCAL_READS : 1;
      const ms = (await timed(get, reads * times)) / times;
      // The first round warms up.
      if (round > 0) ratios.push(getMs / ms);
    }
  }
  for (const { close } of subjects) await close();
  return opened.map(
    ({ name, one, two }): Speed => ({
      name,
      redisHits: median(one.ratios),
      localHits: two && median(two.ratios),
    }),
  );
}

async function openBoth(name: string, url: string) {
  const one = await subjectOf(name, name === 'this lab' ? { url, busUrl: NOWHERE } : { url });
  const two = TIERED.includes(name) ? await subjectOf(name, { url, twoTiers: true }) : undefined;
  return { name, one, two };
}

async function subjectOf(name: string, setup: Setup) {
  const cache = await open(name, setup);
  const load = async () => ({ text: 'x'.repeat(1_000) });
  const get = (at: number) => cache.get(`${name}-hit-${at % KEYS}`, load);
  return {
    get,
    local: setup.twoTiers ?? false,
    ratios: [] as number[],
    async warm() {
      for (let at = 0; at < 3 * KEYS; at += READERS) {
        await Promise.all(Array.from({ length: READERS }, (_, next) => get(at + next)));
      }
    },
    close: () => within(500, Promise.resolve(cache.close())),
  };
}

async function timed(read: (at: number) => Promise<unknown>, reads: number): Promise<number> {
  let left = reads;
  const reader = async () => {
    while (left-- > 0) await read(left);
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: READERS }, reader));
  return performance.now() - began;
}

/** What the L1 of one cache gives after another has invalidated: with the bus, and after the bus was down for 0.4 s. */
export async function acrossProcesses(name: string, url: string): Promise<Across> {
  // In a process of its own: one package ends it.
  const child = forkScript(join(import.meta.dirname, 'bus.ts'), [name, url]);
  const across: { -readonly [K in keyof Across]: Across[K] } = {
    heard: 'its process dies',
    afterCut: 'its process dies',
  };
  child.on('message', (part: Partial<Across>) => Object.assign(across, part));
  await once(child, 'exit');
  return across;
}
