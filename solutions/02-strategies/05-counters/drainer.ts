/**
 * A process for measure.ts, to be killed. It drains in turns: with the lab's counter, and the way it is often written
 * (take the views out of Redis, then write them), on a hash and a table of their own.
 */
import { Redis } from 'ioredis';
import { openPool } from '#kit/pool';
import { createViewCounter } from './counters';

const [redisUrl = '', mysqlUrl = '', plainKey = '', plainTable = ''] = process.argv.slice(2);
const redis = new Redis(redisUrl);
const db = openPool(mysqlUrl);
const counter = createViewCounter({ redis, db });

async function drainPlainly(): Promise<void> {
  const [[, views] = []] = (await redis.multi().hgetall(plainKey).del(plainKey).exec()) ?? [];
  const connection = await db.getConnection();
  await connection.beginTransaction();
  for (const [id, count] of Object.entries(views as Record<string, string>)) {
    await connection.query('UPDATE ?? SET view_count = view_count + ? WHERE id = ?', [
      plainTable,
      Number(count),
      id,
    ]);
  }
  await connection.commit();
  connection.release();
}

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  await Promise.all([redis.ping(), db.query('SELECT 1')]);
  process.send?.('ready');
  process.once('message', async () => {
    for (;;) {
      await counter.drain();
      await drainPlainly();
    }
  });
}

void main();
