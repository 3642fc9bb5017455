/** A process for measure.ts: runs the workloads that it is sent. One whose load never ends is there to be killed. */
import { Redis } from 'ioredis';
import { openPool } from '#kit/pool';
import { createLockedCache } from './stampede-lock';
import { clock, run, type Workload } from './workload';

const [redisUrl = '', mysqlUrl = ''] = process.argv.slice(2);
const redis = new Redis(redisUrl);
const db = openPool(mysqlUrl, { connectionLimit: 20 });

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  await Promise.all([redis.ping(), db.query('SELECT 1')]);
  process.send?.('ready');
  process.on('message', async ({ hang, ...workload }: Workload & { hang?: true }) => {
    if (!hang) return void process.send?.(await run(workload, redis, db));
    const load = () => {
      process.send?.(clock());
      return new Promise(() => {});
    };
    await createLockedCache({ redis }).getOrLoad(workload.key, load, workload.times);
  });
}

void main();
