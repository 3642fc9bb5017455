import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { median } from '#claims';
import { startProxy } from '#kit/faulty-proxy';
import { type Contender, open } from './contenders';
import { within } from './scene';

/** Packages that have an L1 of their own. */
export const TIERED = ['this lab', 'cache-manager', 'cacheable', 'bentocache'] as const;

const READERS = 50;
const KEYS = 1_000;

/** L1 hits of 1 kB in the time of one GET of ioredis and JSON.parse, 50 readers: each round asks all of them in turn. */
export async function hitRatios(redis: Redis, url: string, reads: number, rounds: number) {
  const text = JSON.stringify({ text: 'x'.repeat(1_000) });
  await redis.mset(Array.from({ length: KEYS }, (_, at) => [`hit-${at}`, text]).flat());
  const load = async () => ({ text: 'x'.repeat(1_000) });
  const caches = await Promise.all(
    TIERED.map(async (name) => ({ name, cache: await open(name, { url, twoTiers: true }) })),
  );
  const subjects = caches.map(({ name, cache }) => ({
    name,
    get: (at: number) => cache.get(`${name}-hit-${at % KEYS}`, load),
    ratios: [] as number[],
  }));
  try {
    for (const { get } of subjects) {
      for (let at = 0; at < 3 * KEYS; at++) await get(at);
    }
    for (let round = 0; round <= rounds; round++) {
      const getMs = await timed(async (at) => JSON.parse((await redis.get(`hit-${at % KEYS}`)) ?? ''), reads);
      for (const { get, ratios } of subjects) {
        // The first round warms up.
        const ms = await timed(get, reads);
        if (round > 0) ratios.push(getMs / ms);
      }
    }
  } finally {
    await Promise.all(caches.map(({ cache }) => within(500, Promise.resolve(cache.close()))));
  }
  return subjects.map(({ name, ratios }) => [name, median(ratios)] as const);
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

/** What the L1 of one process gives after another has invalidated: with the bus, and after the bus was down for 0.4 s. */
export async function acrossProcesses(
  name: string,
  url: string,
): Promise<{ heard: string; afterCut: string }> {
  const bus = await startProxy(url);
  const reader = await open(name, { url, busUrl: bus.url, twoTiers: true });
  const writer = await open(name, { url, busUrl: url, twoTiers: true });
  try {
    const heard = await seenAfter(reader, writer, `${name}-heard`);
    const afterCut = await seenAfter(reader, writer, `${name}-cut`, bus.refuse, bus.heal);
    return { heard, afterCut };
  } finally {
    for (const cache of [reader, writer]) await within(500, Promise.resolve(cache.close()));
    await bus.close();
  }
}

async function seenAfter(
  reader: Contender,
  writer: Contender,
  key: string,
  before?: () => Promise<void>,
  after?: () => Promise<void>,
): Promise<'stale' | 'fresh'> {
  for (let i = 0; i < 3; i++) await reader.get(key, async () => 'old').then(() => sleep(20));
  await before?.();
  await writer.remove(key);
  await writer.get(key, async () => 'new');
  await sleep(before ? 400 : 50);
  await after?.();
  await sleep(after ? 400 : 50);
  return (await reader.get(key, async () => 'new')) === 'new' ? 'fresh' : 'stale';
}
