/** A process for measure.ts: readers of one hot key. Answers how often it loaded, and how many reads took as long. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { openPool } from '#kit/pool';
import { createSwr } from './stale-while-revalidate';

const LOAD_MS = 100;
const [redisUrl = '', mysqlUrl = '', key = '', readers, softTtlMs, hardTtlMs, forMs] = process.argv.slice(2);
const redis = new Redis(redisUrl);
const db = openPool(mysqlUrl);
const counted = { loads: 0, reads: 0, blocked: 0 };
const swr = createSwr({
  redis,
  softTtlMs: Number(softTtlMs),
  hardTtlMs: Number(hardTtlMs),
  loadDeadlineMs: 5000,
  cacheDeadlineMs: 1000,
  load: async () => {
    counted.loads++;
    await db.query('SELECT SLEEP(?)', [LOAD_MS / 1000]);
    return counted.loads;
  },
});

async function reader(endsAt: number): Promise<void> {
  while (Date.now() < endsAt) {
    const start = performance.now();
    await swr.get(key);
    counted.reads++;
    if (performance.now() - start >= 0.9 * LOAD_MS) counted.blocked++;
    await sleep(5);
  }
}

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  await swr.get(key);
  process.send?.('ready');
  process.once('message', async () => {
    counted.loads = 0;
    await Promise.all(Array.from({ length: Number(readers) }, () => reader(Date.now() + Number(forMs))));
    await swr.onIdle();
    process.send?.(counted, () => process.exit(0));
  });
}

void main();
