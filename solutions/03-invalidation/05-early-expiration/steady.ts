/** A process for measure.ts: readers of one hot key. Answers how often it loaded, and how many reads waited for that. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import mysql from 'mysql2/promise';
import { createEarlyCache } from './early-expiration';

const LOAD_MS = 100;
const [redisUrl = '', mysqlUrl = '', key = '', readers, ttlMs, beta, forMs] = process.argv.slice(2);
const redis = new Redis(redisUrl, { commandTimeout: 1000 });
const db = mysql.createPool({ uri: mysqlUrl });
const counted = { loads: 0, reads: 0, blocked: 0 };
const cache = createEarlyCache({ redis, ttlMs: Number(ttlMs), beta: Number(beta), loadDeadlineMs: 900 });

/** @returns when it ended */
async function load(): Promise<number> {
  counted.loads++;
  await db.query('SELECT SLEEP(?)', [LOAD_MS / 1000]);
  return Date.now();
}

async function reader(endsAt: number): Promise<void> {
  while (Date.now() < endsAt) {
    const start = Date.now();
    const loadedAt = await cache.get(key, load);
    counted.reads++;
    // A process that had to wait for a core has long reads too, of values that were there before them.
    if (Date.now() - start >= LOAD_MS / 2 && loadedAt > start) counted.blocked++;
    await sleep(20);
  }
}

process.on('disconnect', () => process.exit(1));
await Promise.all([redis.ping(), db.query('SELECT 1')]);
process.send?.('ready');
process.once('message', async () => {
  // The first fill: nothing can be refreshed before it is there.
  await cache.get(key, load);
  counted.loads = 0;
  await Promise.all(Array.from({ length: Number(readers) }, () => reader(Date.now() + Number(forMs))));
  await cache.settled();
  process.send?.(counted, () => process.exit(0));
});
