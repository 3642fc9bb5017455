import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { diffLines } from 'diff';
import { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure } from '#claims';
import { createTables, fillTables } from '#kit/data/small';
import { startProxy } from '#kit/faulty-proxy';
import { openPool } from '../../../course/kit/pool';
import { keyOf } from './given';
import { plainTests } from './plain-tests';
import { changePrice, priceOf } from './starter';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, redisUrl, mysqlUrl } = servers();
    return withProducts(db, async () => {
      const passed = await onConnection(redisUrl, (subscriber) => plainTests(redis, subscriber, db));
      const changes = quick ? 30 : 400;
      const says = (what: string) => `price changes after which the old price stays in the cache: ${what}`;
      const slow = await byChance(redis, db, changes, 100);
      const quickly = await byChance(redis, db, changes, 10);
      const always = await byChance(redis, db, changes, 0);
      const claims: Claim[] = [
        share('plain', 'programs of the ten that pass a plain test, with their defects in them', passed, 100),
        share('chance-10', says('10 reads a second'), slow),
        share('chance-100', says('100 reads a second'), quickly),
        share('chance', says('a reader asks all the time'), always),
        share('forced', says('a reader comes before COMMIT'), await forced(redis, db, mysqlUrl, 10), 100),
        {
          name: 'lines',
          says: 'lines of the ten programs that the fixes take away',
          value: removed(),
          unit: '%',
        },
      ];
      return { claims };
    });
  },
});

const share = (name: string, says: string, outcomes: readonly boolean[], atLeast?: number): Claim => ({
  name,
  says,
  value: (100 * outcomes.filter(Boolean).length) / outcomes.length,
  unit: '%',
  ...(atLeast === undefined ? {} : { atLeast }),
});

/** The products of the shop if another measure has loaded it, else a few. They are left as they were. */
async function withProducts<T>(db: Pool, work: () => Promise<T>): Promise<T> {
  const [found] = await db.query<RowDataPacket[]>("SHOW TABLES LIKE 'products'");
  const tables = ['products', 'events'] as const;
  if (found.length === 0) {
    await createTables(db, tables);
    await fillTables(db, tables);
  }
  try {
    return await work();
  } finally {
    await db.query("DELETE FROM events WHERE kind = 'price'");
    if (found.length === 0) for (const table of tables) await db.query('DROP TABLE ??', [table]);
  }
}

async function byChance(redis: Redis, db: Pool, changes: number, pauseMs: number): Promise<boolean[]> {
  const state = { reading: true };
  const reader = (async () => {
    while (state.reading) {
      await priceOf(db, redis, 1);
      if (pauseMs > 0) await sleep(pauseMs);
    }
  })();
  const old = await oldAfterChanges(redis, db, changes, (price) => changePrice(db, redis, 1, price, 1));
  state.reading = false;
  await reader;
  return old;
}

async function forced(redis: Redis, db: Pool, mysqlUrl: string, changes: number): Promise<boolean[]> {
  const proxy = await startProxy(mysqlUrl);
  const writer = openPool(proxy.url, {});
  try {
    return await oldAfterChanges(redis, db, changes, async (price) => {
      const gate = proxy.hold(/^commit/i);
      const change = changePrice(writer, redis, 1, price, 1);
      await gate.arrived;
      await priceOf(db, redis, 1);
      gate.release();
      await change;
    });
  } finally {
    await writer.end();
    await proxy.close();
  }
}

/** For each change, whether a second price is in the cache after it. The first price is there again in the end. */
async function oldAfterChanges(
  redis: Redis,
  db: Pool,
  changes: number,
  change: (price: string) => Promise<void>,
): Promise<boolean[]> {
  const first = await priceOf(db, redis, 1);
  const old: boolean[] = [];
  for (let nth = 1; nth <= changes; nth++) {
    const price = `${nth}.00`;
    await change(price);
    await sleep(2);
    old.push((await priceOf(db, redis, 1)) !== price);
    await redis.del(keyOf('price', 1));
  }
  await db.execute('UPDATE products SET price = ? WHERE id = 1', [first ?? '']);
  await redis.del(keyOf('price', 1));
  return old;
}

async function onConnection<T>(url: string, work: (client: Redis) => Promise<T>): Promise<T> {
  const client = new Redis(url, { retryStrategy: () => null });
  client.on('error', () => {});
  try {
    await client.ping();
    return await work(client);
  } finally {
    client.disconnect();
  }
}

function removed(): number {
  const [before = '', after = ''] = ['starter.ts', 'find-the-bug.ts'].map((name) =>
    readFileSync(join(import.meta.dirname, name), 'utf8').replace(/^\/\/ #.*\n/gm, ''),
  );
  const lines = diffLines(before, after)
    .filter((part) => part.removed)
    .reduce((sum, part) => sum + part.count, 0);
  return (100 * lines) / before.split('\n').length;
}
