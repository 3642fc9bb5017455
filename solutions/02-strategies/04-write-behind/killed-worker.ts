/** A process for measure.ts, to be killed: it runs the worker of the lab from the first message on. */
import { Redis } from 'ioredis';
import { openPool } from '#kit/pool';
import { createWorker } from './write-behind';

const [redisUrl = '', mysqlUrl = '', name = ''] = process.argv.slice(2);
const redis = new Redis(redisUrl);
const db = openPool(mysqlUrl);
const worker = createWorker({ redis, db, name, batchSize: 20, claimIdleMs: 0 });

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  await Promise.all([redis.ping(), db.query('SELECT 1')]);
  process.send?.('ready');
  process.once('message', () => worker.run(new AbortController().signal));
}

void main();
