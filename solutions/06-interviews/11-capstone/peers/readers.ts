/** A process for processes.ts: many readers of a cold key, and then of one that expires again and again. */
import { setTimeout as sleep } from 'node:timers/promises';
import { open } from './contenders';
import { LOAD_MS, TTL_MS } from './scene';

export interface Seen {
  /** Of the cold key. */
  readonly coldLoads: number;
  readonly steadyLoads: number;
  /** Reads of the steady part that waited for a load. */
  readonly blocked: number;
  /** Age of the oldest value of the steady part, since its load ended (ms). */
  readonly oldestMs: number;
}

const STEADY_READERS = 20;

const [name = '', url = '', coldReaders, steadyMs] = process.argv.slice(2);

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  const cold = await open(name, { url });
  const steady = await open(name, { url, ttlMs: TTL_MS });
  let loads = 0;
  /** @returns when it began and when it ended: all processes of a machine have one such clock */
  const load = async () => {
    loads++;
    const begunAt = now();
    await sleep(LOAD_MS);
    return { begunAt, endedAt: now() };
  };
  process.on('message', async (part) => {
    if (part === 'cold') {
      await Promise.all(Array.from({ length: Number(coldReaders) }, () => cold.get(`${name}-cold`, load)));
      process.send?.({ coldLoads: loads });
      loads = 0;
      return;
    }
    // The first fill is none of an expiry.
    await steady.get(`${name}-steady`, load);
    process.send?.('filled');
    loads = 0;
    let [blocked, oldestMs] = [0, 0];
    const endsAt = now() + Number(steadyMs);
    const reader = async () => {
      while (now() < endsAt) {
        const askedAt = now();
        const value = Object(await steady.get(`${name}-steady`, load));
        if (value.begunAt > askedAt) blocked++;
        oldestMs = Math.max(oldestMs, askedAt - value.endedAt);
        await sleep(20);
      }
    };
    await Promise.all(Array.from({ length: STEADY_READERS }, reader));
    process.send?.({ steadyLoads: loads, blocked, oldestMs }, () => process.exit(0));
  });
  process.send?.('ready');
}

const now = () => Number(process.hrtime.bigint()) / 1e6;

void main();
