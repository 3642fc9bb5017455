/**
 * A process for measure.ts, to be killed. It passes in turns: with the lab's relay, and the way it is often written (delete
 * the events, then their keys), on a table of its own.
 */
import { Redis } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { openPool } from '#kit/pool';
import { createRelay } from './events';

const [redisUrl = '', mysqlUrl = '', plainTable = ''] = process.argv.slice(2);
const redis = new Redis(redisUrl);
const db = openPool(mysqlUrl);
const BATCH = 20;
const relay = createRelay({ redis, db, batchSize: BATCH });

async function passPlainly(): Promise<void> {
  const connection = await db.getConnection();
  await connection.beginTransaction();
  const [rows] = await connection.query<RowDataPacket[]>(
    'SELECT id, cache_key FROM ?? ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED',
    [plainTable, BATCH],
  );
  const ids = rows.map(({ id }) => id);
  if (ids.length > 0) await connection.query('DELETE FROM ?? WHERE id IN (?)', [plainTable, ids]);
  await connection.commit();
  connection.release();
  if (rows.length > 0) await redis.del(rows.map((row) => row.cache_key));
}

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  await Promise.all([redis.ping(), db.query('SELECT 1')]);
  process.send?.('ready');
  process.once('message', async () => {
    for (;;) {
      await relay.pass();
      await passPlainly();
    }
  });
}

void main();
