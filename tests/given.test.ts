import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import {
  backoffMs,
  DeadlineError,
  InFlight,
  parseJson,
  type TransactionOptions,
  toRecord,
  transaction,
  withDeadline,
} from '#kit/given';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome } from '#kit/waiting';

const servers = useServers('products');

const stockOf = async (id: number) => {
  const [rows] = await servers.db.query('SELECT stock FROM products WHERE id = ?', [id]);
  return (rows as { stock: number }[])[0]?.stock;
};
const setStock = (id: number, stock: number) =>
  servers.db.query('UPDATE products SET stock = ? WHERE id = ?', [stock, id]);

test('withDeadline gives the value, the error, or its own error', async () => {
  expect(await withDeadline(Promise.resolve(1), 1000)).toBe(1);
  expect(await outcome(withDeadline(Promise.reject(new Error('no')), 1000))).toBe('rejected: Error: no');
  await expect(withDeadline(new Promise(() => {}), 5)).rejects.toBeInstanceOf(DeadlineError);
  // A failure after the deadline is not an unhandled rejection.
  await expect(
    withDeadline(
      sleep(10).then(() => Promise.reject(new Error('late'))),
      1,
    ),
  ).rejects.toThrow(/within 1 ms/);
  await sleep(15);
});

test('a transaction commits, rolls back, and ends with its deadline', async () => {
  await setStock(1, 5);
  const work = (stock: number, then: () => Promise<unknown>) =>
    transaction(
      servers.db,
      async (connection) => {
        await connection.query('UPDATE products SET stock = ? WHERE id = 1', [stock]);
        await then();
      },
      100,
    );
  await work(6, async () => {});
  expect(await stockOf(1)).toBe(6);
  await expect(work(7, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await stockOf(1)).toBe(6);
  await expect(work(8, () => new Promise(() => {}))).rejects.toBeInstanceOf(DeadlineError);
  // The lock is free again: its connection was closed.
  await setStock(1, 9);
  expect(await stockOf(1)).toBe(9);
});

test('the deadline of a transaction holds for the wait for a connection, and for a rollback', async () => {
  const db = servers.connectDb({ connectionLimit: 1 });
  const only = await db.getConnection();
  await expect(transaction(db, async () => {}, 30)).rejects.toBeInstanceOf(DeadlineError);
  only.release();
  // The connection that came too late is in the pool again.
  const [[after]] = (await db.query('SELECT CONNECTION_ID() AS id')) as unknown as [[{ id: number }]];
  expect(after.id).toBe(only.threadId);

  const proxy = await openProxy(servers.mysqlUrl);
  const behind = servers.connectDb({}, proxy.url);
  await behind.query('SELECT 1');
  const failing = transaction(
    behind,
    async () => {
      proxy.blackHole();
      throw new Error('no');
    },
    { deadlineMs: 100 },
  );
  expect(await outcome(failing)).toBe('rejected: Error: no');
});

test('a transaction has its isolation level, and the next one of the connection has not', async () => {
  const db = servers.connectDb({ connectionLimit: 1 });
  await setStock(2, 1);
  const stockSeenAfterAnUpdate = (options?: TransactionOptions) =>
    transaction(
      db,
      async (connection) => {
        await connection.query('SELECT stock FROM products WHERE id = 2');
        await servers.db.query('UPDATE products SET stock = stock + 1 WHERE id = 2');
        const [rows] = await connection.query('SELECT stock FROM products WHERE id = 2');
        return (rows as { stock: number }[])[0]?.stock;
      },
      options,
    );
  expect(await stockSeenAfterAnUpdate({ isolation: 'READ COMMITTED' })).toBe(2);
  expect(await stockSeenAfterAnUpdate()).toBe(2);
});

test('InFlight starts work once for a key, and forgets it when it has settled', async () => {
  const inFlight = new InFlight<number>();
  let started = 0;
  const start = () => sleep(5).then(() => ++started);
  expect(
    await Promise.all([inFlight.run('a', start), inFlight.run('a', start), inFlight.run('b', start)]),
  ).toEqual([1, 1, 2]);
  expect(inFlight.has('a')).toBe(false);
  await expect(inFlight.run('a', () => Promise.reject(new Error('no')))).rejects.toThrow('no');
  expect(await inFlight.run('a', start)).toBe(3);
});

test('pauses double up to a longest one, and half of each is random', () => {
  const least = [0, 1, 2, 3, 4, 9].map((attempt) => backoffMs(attempt, { random: () => 0 }));
  expect(least).toEqual([5, 10, 20, 40, 80, 80]);
  expect(backoffMs(4, { random: () => 0.999 })).toBeLessThan(160);
});

test('bytes that are not JSON in UTF-8 are undefined', () => {
  expect(parseJson(Buffer.from('{"a":null}'))).toEqual({ a: null });
  expect(parseJson(Buffer.from('null'))).toBeNull();
  expect(parseJson(Buffer.from('fffe00', 'hex'))).toBeUndefined();
  expect(parseJson(Buffer.from('<html>'))).toBeUndefined();
});

test('a flat list of a hash becomes a record', () => {
  expect(toRecord(['a', '1', 'b', '2'])).toEqual({ a: '1', b: '2' });
});
