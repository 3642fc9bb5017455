import { setTimeout as sleep } from 'node:timers/promises';
import { percentile } from '#claims';
import { startProxy } from '#kit/faulty-proxy';
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
  const proxy = await startProxy(url);
  const cache = await open(name, { url: proxy.url, deadlineMs: DEADLINE_MS });
  const key = `${name}-moved`;
  try {
    await cache.get(key, async () => 'old');
    proxy.stall();
    const stalledMs = await answersAfter((at) => cache.get(`${name}-stalled-${at}`, slow));
    await proxy.heal();
    await sleep(300);
    await proxy.refuse();
    await sleep(20);
    const refusedMs = await answersAfter((at) => cache.get(`${name}-refused-${at}`, slow));
    const told = await within(
      WATCHED_MS / 2,
      cache.remove(key).then((value) => `resolves (\`${value}\`)`),
    );
    await proxy.heal();
    await sleep(500);
    const read = await within(
      WATCHED_MS,
      cache.get(key, async () => 'new'),
    );
    return {
      stalledMs,
      refusedMs,
      told: String(told),
      after: read === 'old' ? 'stale' : read === 'new' ? 'fresh' : 'nothing',
    };
  } finally {
    await within(500, Promise.resolve(cache.close()));
    await proxy.close();
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
