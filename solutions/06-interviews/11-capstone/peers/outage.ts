import { setTimeout as sleep } from 'node:timers/promises';
import { percentile } from '#claims';
import { startProxy } from '#kit/faulty-proxy';
import type { Contender } from './clients';
import { open } from './contenders';
import { LOAD_MS, within } from './scene';

export interface Outage {
  /** When half of 200 reads of cold keys had their answer: Redis stalled, and refused (ms; infinite: none within 3 s). */
  readonly stalledMs: number;
  readonly refusedMs: number;
  /** What the caller of an invalidation in a partition hears. */
  readonly told: string;
  /** What reads give when the partition is over. */
  readonly after: 'stale' | 'fresh' | 'nothing';
}

const WATCHED_MS = 3_000;
const READS = 200;
const DEADLINE_MS = 30;

export async function outage(name: string, url: string): Promise<Outage> {
  return { ...(await readsInAnOutage(name, url)), ...(await invalidationInAPartition(name, url)) };
}

async function readsInAnOutage(name: string, url: string): Promise<Pick<Outage, 'stalledMs' | 'refusedMs'>> {
  const proxy = await startProxy(url);
  const cache = await open(name, { url: proxy.url, deadlineMs: DEADLINE_MS });
  try {
    proxy.stall();
    const stalledMs = await answersAfter((at) => cache.get(`${name}-stalled-${at}`, slow));
    await proxy.heal();
    await sleep(300);
    await proxy.refuse();
    await sleep(20);
    return { stalledMs, refusedMs: await answersAfter((at) => cache.get(`${name}-refused-${at}`, slow)) };
  } finally {
    await within(500, Promise.resolve(cache.close()));
    await proxy.close();
  }
}

async function invalidationInAPartition(name: string, url: string): Promise<Pick<Outage, 'told' | 'after'>> {
  const proxy = await startProxy(url);
  // Long enough for a busy machine: a read after the partition must come from the cache.
  const cache = await open(name, { url: proxy.url, deadlineMs: 500 });
  const key = `${name}-moved`;
  try {
    await untilCached(cache, key, 'old');
    await proxy.refuse();
    await sleep(20);
    const removing = cache.remove(key).then((value) => `resolves (\`${value}\`)`);
    const told = String(await within(WATCHED_MS, removing));
    await proxy.heal();
    await untilCached(cache, `${name}-probe`, 'any');
    const read = await within(
      WATCHED_MS,
      cache.get(key, async () => 'new'),
    );
    return { told, after: read === 'old' ? 'stale' : read === 'new' ? 'fresh' : 'nothing' };
  } finally {
    await within(500, Promise.resolve(cache.close()));
    await proxy.close();
  }
}

/** Until a read does not load. */
async function untilCached(cache: Contender, key: string, value: string): Promise<void> {
  const end = performance.now() + WATCHED_MS;
  let loaded = true;
  const load = async () => {
    loaded = true;
    return value;
  };
  while (loaded && performance.now() < end) {
    await sleep(20);
    await within(WATCHED_MS, cache.get(key, load));
    loaded = false;
    await within(WATCHED_MS, cache.get(key, load));
  }
}

const slow = () => sleep(LOAD_MS, 'loaded');

async function answersAfter(read: (at: number) => Promise<unknown>): Promise<number> {
  const began = performance.now();
  const times = await Promise.all(
    Array.from({ length: READS }, async (_, at) => {
      const answer = await within(WATCHED_MS, read(at));
      return answer === 'loaded' ? performance.now() - began : Number.POSITIVE_INFINITY;
    }),
  );
  return percentile(times, 0.5);
}
