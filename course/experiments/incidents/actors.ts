import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { PoolConnection } from 'mysql2/promise';
import { nameRequests } from '../../kit/requests';
import type { Part, Shop } from './shop';

/** Puts `count` events into a stream. */
export const fillStream = ({ redis }: { redis: Redis }, stream: string, count: number): Promise<unknown> =>
  redis.eval(
    `for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], 'MAXLEN', '~', 20000, '*', 'id', i) end`,
    1,
    stream,
    count,
  );

/** The same in single commands, as a program does. */
export async function addEvents({ redis }: { redis: Redis }, stream: string, count: number): Promise<void> {
  const events = redis.pipeline();
  for (let id = 0; id < count; id++) events.xadd(stream, 'MAXLEN', '~', 20_000, '*', 'id', id);
  await events.exec();
}

/** A stream with a group that has handled all of its first events. */
export async function relayOf(shop: Shop, name: string) {
  const { redis } = shop;
  const stream = `events:${name}`;
  const group = `${name}-relay`;
  await redis.del(stream);
  await fillStream(shop, stream, 20);
  await redis.call('XGROUP', 'CREATE', stream, group, '0');
  const handle = async (count: number) => {
    const answer = await redis.call(
      'XREADGROUP',
      'GROUP',
      group,
      'one',
      'COUNT',
      count,
      'STREAMS',
      stream,
      '>',
    );
    const [, entries] = Array.isArray(answer) && Array.isArray(answer[0]) ? answer[0] : [];
    const ids = (Array.isArray(entries) ? entries : []).map(([id]) => String(id));
    if (ids.length > 0) await redis.call('XACK', stream, group, ...ids);
  };
  await handle(20);
  return { stream, group, handle };
}

/** INNODB_TRX answers from a copy that is up to 100 ms old: a shorter moment would show nothing. */
export const TRX_COPY_MS = 120;

/** A connection with a transaction that has a snapshot. @returns `id`: what KILL takes */
export async function openTransaction({
  db,
  names,
  number,
}: Shop): Promise<{ connection: PoolConnection; id: string; part: Part }> {
  const connection = await db.getConnection();
  nameRequests(connection, '');
  // A person may KILL it while they explore.
  connection.on('error', () => {});
  await connection.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
  await connection.query(`SELECT note FROM ${names.table} WHERE id = ${number(0, 100)}`);
  const shownFrom = performance.now() + TRX_COPY_MS;
  return {
    connection,
    id: String(connection.threadId),
    part: {
      begin: () => sleep(Math.max(0, shownFrom - performance.now())),
      intact: () => connection.ping(),
      end: () => connection.destroy(),
    },
  };
}

/** As if the key had been read often, or never: OBJECT FREQ says so. */
export const setFrequency = (redis: Redis, key: string, frequency: number): Promise<unknown> =>
  redis.eval(
    `redis.call('RESTORE', KEYS[1], 0, redis.call('DUMP', KEYS[1]), 'REPLACE', 'FREQ', ARGV[1])`,
    1,
    key,
    frequency,
  );
