import type { RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { explore } from '#kit/interleave';
import { startProcesses } from '#kit/processes';
import { useStack } from '#kit/stack';
import { openWire } from '#kit/wire';
import {
  BufferFullError,
  CREATE_VIEW_BATCHES,
  createViewCounter,
  InvalidIdError,
  InvalidIncrementError,
  MAX_BY,
  type ViewCounterOptions,
} from './counters';
import subjectFile from './counters?file';

const stack = useStack('products');

beforeAll(() => stack.db.query(CREATE_VIEW_BATCHES));
beforeEach(() => stack.db.query('TRUNCATE TABLE view_batches'));

/** A statement by which a drain touches the tables, whichever comes first. */
const ANY_WRITE = /^\s*(INSERT|UPDATE|REPLACE|DELETE|SELECT|WITH|CALL)\b/i;
const NOBODY = 999;

/** A deadline that no busy machine meets, unless the test asks for another. */
const openCounter = (options: Partial<ViewCounterOptions> = {}) =>
  createViewCounter({ redis: stack.redis, db: stack.db, timeoutMs: 10_000, ...options });

/** A counter whose servers can be held or taken away. */
async function behindWires(options: Partial<ViewCounterOptions> = {}) {
  const [redisWire, mysqlWire] = await Promise.all([openWire(stack.redisUrl), openWire(stack.mysqlUrl)]);
  const redis = stack.connectRedis({}, redisWire.url);
  const db = stack.connectDb({}, mysqlWire.url);
  onTestFinished(() => redis.disconnect());
  await Promise.all([redis.ping(), db.query('SELECT 1')]);
  return { redisWire, mysqlWire, counter: openCounter({ redis, db, ...options }) };
}

async function inDatabase(id: number): Promise<number> {
  const [[row]] = await stack.db.query<RowDataPacket[]>('SELECT view_count FROM products WHERE id = ?', [id]);
  return Number(row?.view_count);
}

/** Drains what an earlier drain has left behind, and then the rest. */
async function drainAll(): Promise<void> {
  const counter = openCounter();
  await counter.drain();
  await counter.drain();
}

const after = <T>(ms: number, marker: T) =>
  new Promise<T>((resolve) => {
    setTimeout(() => resolve(marker), ms);
  });

/** What became of a call, within two seconds. */
const outcome = (call: Promise<unknown>) =>
  Promise.race([
    call.then(
      () => 'resolved',
      () => 'rejected',
    ),
    after(2000, 'still waiting'),
  ]);

test('10,000 increments at once are exact', async () => {
  const [one, other] = [openCounter(), openCounter({ redis: stack.connectRedis() })];
  await stack.db.query('UPDATE products SET view_count = 100 WHERE id = 1');
  await Promise.all(
    Array.from({ length: 5000 }, (_, n) => [
      one.increment(1),
      other.increment(n % 2 === 0 ? 1 : 2, 3),
    ]).flat(),
  );
  await one.drain();
  const counted = [await inDatabase(1), await inDatabase(2), await inDatabase(3)];
  expect(
    counted,
    'two clients counted at once: an increment must be one step in Redis, a read and a write of the sum lose views',
  ).toEqual([100 + 5000 + 7500, 7500, 0]);
});

test('what is counted while a batch is drained is kept', async () => {
  const { mysqlWire, counter } = await behindWires();
  await stack.db.query('UPDATE products SET view_count = 100 WHERE id = 1');
  const readers = openCounter();
  await counter.increment(1, 5);
  expect(await readers.read(1), 'a read is the database and what waits in Redis').toBe(105);

  const gate = mysqlWire.hold(ANY_WRITE);
  const draining = counter.drain();
  await Promise.race([gate.arrived, draining]);
  await readers.increment(1, 2);
  await readers.increment(2, 7);
  expect(await readers.read(1), 'the batch on its way to the database must be in a read, once').toBe(107);
  gate.release();
  await draining;

  expect(await readers.read(1), 'the batch has arrived, and 2 views wait: a read counts both').toBe(107);
  await drainAll();
  expect(
    [await inDatabase(1), await inDatabase(2)],
    'views were counted while the batch was on its way: the drain must take the batch away first, and delete only what it took',
  ).toEqual([107, 7]);
  expect(await readers.read(1), 'all has arrived: nothing may be counted twice').toBe(107);
});

/** A process with a counter behind wires, which drains when it is told to. */
async function startDrainer() {
  const wires = await Promise.all([openWire(stack.redisUrl), openWire(stack.mysqlUrl)]);
  const [redisWire, mysqlWire] = wires;
  const urls = { redis: redisWire.url, mysql: mysqlWire.url };
  const [drainer] = await startProcesses<typeof import('./counters'), typeof urls, void>(
    1,
    subjectFile,
    urls,
    async ({ subject, args, Redis, mysql }) => {
      const [redis, db] = [new Redis(args.redis), mysql.createPool({ uri: args.mysql })];
      await subject.createViewCounter({ redis, db }).drain();
    },
  );
  if (!drainer) throw new Error('no process was started');
  return { drainer, redisWire, mysqlWire };
}

test('a drainer that is killed before its commit loses nothing', async () => {
  const counter = openCounter();
  await counter.increment(1, 5);
  const { drainer, mysqlWire } = await startDrainer();
  const commit = mysqlWire.hold(/^COMMIT/i);
  await Promise.race([commit.arrived, drainer.result]);
  await drainer.kill();
  await counter.increment(1, 2);
  await drainAll();
  expect(
    await inDatabase(1),
    'the process died with its transaction open: the batch must stay in Redis until the commit is done, and its id must be rolled back with it',
  ).toBe(7);
});

test('a drainer that is killed after its commit doubles nothing', async () => {
  const counter = openCounter();
  await counter.increment(1, 5);
  const { drainer, redisWire, mysqlWire } = await startDrainer();
  const commit = mysqlWire.hold(/^COMMIT/i);
  await Promise.race([commit.arrived, drainer.result]);
  const deletion = redisWire.hold(/./);
  commit.release();
  await Promise.race([deletion.arrived, drainer.result]);
  await drainer.kill();
  expect(
    await counter.read(1),
    'the batch is in the database and still in Redis: a read must count it once',
  ).toBe(5);
  await counter.increment(1, 2);
  await drainAll();
  expect(
    await inDatabase(1),
    'the process died between its commit and the delete: the batch comes again, and only an id that was committed with it tells that it is old',
  ).toBe(7);
});

test('two drainers at once neither double nor lose', async () => {
  const [slow, quick] = [await behindWires(), await behindWires()];
  const counter = openCounter();
  await counter.increment(1, 5);
  const gates = [slow, quick].map(({ mysqlWire }) => mysqlWire.hold(ANY_WRITE));
  const drains = [slow.counter.drain(), quick.counter.drain()];
  await Promise.race([
    Promise.all(gates.map((gate) => gate.arrived)),
    Promise.allSettled(drains),
    after(300, 0),
  ]);
  for (const gate of gates) gate.release();
  await Promise.allSettled(drains);
  await drainAll();
  expect(await inDatabase(1), 'both drainers held the same batch: one of them has to apply it').toBe(5);

  await counter.increment(1, 5);
  const commit = slow.mysqlWire.hold(/^COMMIT/i);
  const late = slow.counter.drain();
  await Promise.race([commit.arrived, Promise.allSettled([late])]);
  const deletion = slow.redisWire.hold(/./);
  commit.release();
  await Promise.race([deletion.arrived, Promise.allSettled([late])]);
  const redelivered = Promise.allSettled([quick.counter.drain()]);
  await Promise.race([redelivered, after(300, 0)]);
  await counter.increment(1, 2);
  const second = quick.mysqlWire.hold(/^COMMIT/i);
  const cut = quick.counter.drain();
  await Promise.race([second.arrived, Promise.allSettled([cut]), after(300, 0)]);
  deletion.release();
  await Promise.allSettled([late]);
  quick.mysqlWire.cut();
  await Promise.allSettled([redelivered, cut]);
  await drainAll();
  expect(
    await inDatabase(1),
    'a slow drainer woke up when the next batch was on its way, and deleted that one: delete only the batch that you have applied',
  ).toBe(12);
});

test('a read never goes backwards while batches move', async () => {
  const seen: (number | null)[] = [];
  let earlier = 0;
  await explore(stack, {
    runs: 40,
    prepare: async () => {
      seen.length = 0;
      await drainAll();
      earlier = await inDatabase(1);
      await openCounter().increment(1, 10);
    },
    actors: {
      reader: async ({ redis, db }) => {
        const counter = openCounter({ redis, db });
        seen.push(await counter.read(1), await counter.read(1));
      },
      drainer: async ({ redis, db }) => {
        const counter = openCounter({ redis, db });
        await counter.drain();
        await counter.increment(1);
        await counter.drain();
      },
    },
    verdict: async () => {
      const [first = 0, second = 0] = seen.map((views) => Number(views) - earlier);
      if (first < 10 || second < 10) {
        return `10 views had been counted, and the reads saw ${first} and ${second}: a batch moved between your two looks`;
      }
      if (second < first) return `a read saw ${first} views and the next one ${second}`;
      return second > 11
        ? `11 views were counted, and a read saw ${second}: it counted a batch twice`
        : undefined;
    },
  });
});

test('a batch of many ids is a few statements, and ids of no product do not stop it', async () => {
  const ids = Array.from({ length: 300 }, (_, n) => 1001 + n);
  await stack.db.query('INSERT INTO products (id, name, price, stock, category_id, updated_at) VALUES ?', [
    ids.map((id) => [id, `Product ${id}`, '1.00', 1, 1, new Date(0)]),
  ]);
  const counter = openCounter();
  await Promise.all([...ids, ...ids.map((id) => id + 5000)].map((id) => counter.increment(id, 2)));
  let ended: unknown;
  const work = await stack.work(async () => {
    ended = await counter.drain().catch((error: unknown) => error);
  });
  expect(ended, 'half of the ids have no product: the batch must go through without them').toBeUndefined();
  const statements = work.sql(
    'select',
    'insert',
    'insert_select',
    'replace',
    'update',
    'update_multi',
    'delete',
    'delete_multi',
  );
  expect(statements, '600 ids waited: apply them in a few statements, not in one each').toBeLessThanOrEqual(
    20,
  );
  const [rows] = await stack.db.query<RowDataPacket[]>(
    'SELECT view_count, COUNT(*) AS products FROM products WHERE id > 1000 GROUP BY view_count',
  );
  expect(
    rows.map((row) => [Number(row.view_count), Number(row.products)]),
    'each of the 300 products was seen twice, and no product may be made up for the other ids',
  ).toEqual([[2, 300]]);
  expect(await counter.read(NOBODY), 'there is no such product').toBeNull();
});

test('what is no id or no increment is refused, and so is a new id when too many wait', async () => {
  const counter = openCounter({ maxIds: 2 });
  await counter.increment(1);
  const work = await stack.work(async () => {
    for (const id of [0, -1, 1.5, Number.NaN, 2 ** 53, '1', '1; DROP', null, undefined] as number[]) {
      const call = async () => counter.increment(id);
      await expect(call(), `${String(id)} is no product id: refuse it`).rejects.toThrow(InvalidIdError);
      await expect((async () => counter.read(id))(), `read(${String(id)}) too`).rejects.toThrow(
        InvalidIdError,
      );
    }
    for (const by of [0, -5, 0.5, Number.NaN, MAX_BY + 1, '1', null] as number[]) {
      const call = async () => counter.increment(1, by);
      await expect(call(), `by ${String(by)} is no increment: refuse it`).rejects.toThrow(
        InvalidIncrementError,
      );
    }
  });
  expect(work.redis(), 'a refused call must not reach Redis').toBe(0);

  await counter.increment(2);
  const third = await counter.increment(3).catch((error: unknown) => error);
  expect(
    third,
    'two ids wait and maxIds is 2: a third must be refused, or memory has no bound',
  ).toBeInstanceOf(BufferFullError);
  await counter.increment(1, MAX_BY);
  expect(await counter.read(1), 'an id that waits already needs no more room: go on counting it').toBe(
    1 + MAX_BY,
  );
  expect(await counter.read(3), 'a refused increment counts nothing').toBe(0);
  await counter.drain();
  const rush = await Promise.allSettled([1, 2, 3, 11, 12, 13].map((id) => counter.increment(id)));
  expect(
    rush.filter(({ status }) => status === 'fulfilled'),
    'six new ids came at once and there is room for two: ask for room in the step that adds',
  ).toHaveLength(2);
  await counter.drain();
  await counter.increment(3);
  expect(await counter.read(3), 'the drain made room').toBeGreaterThan(0);
});

test('a server that does not answer, or comes back empty, spoils nothing', async () => {
  const counter = openCounter();
  const before = await stack.redis.keys('*');
  await counter.increment(1, 5);
  await drainAll();
  // Redis loses all that it held.
  for (const key of await stack.redis.keys('*')) if (!before.includes(key)) await stack.redis.del(key);
  await counter.increment(1, 2);
  await drainAll();
  expect(
    await inDatabase(1),
    'Redis was emptied, and the next batch was taken for an old one: no later batch may ever get the id of an earlier one',
  ).toBe(7);

  const { redisWire, mysqlWire, counter: shaky } = await behindWires({ timeoutMs: 100, drainTimeoutMs: 100 });
  await counter.increment(1, 3);
  const commit = mysqlWire.hold(/^COMMIT/i);
  const draining = outcome(shaky.drain());
  await Promise.race([commit.arrived, draining]);
  mysqlWire.delay(5000);
  commit.release();
  expect(await draining, 'the COMMIT was not answered: a drain must give up after drainTimeoutMs').toBe(
    'rejected',
  );
  await drainAll();
  expect(await inDatabase(1), 'the COMMIT had got through, unanswered: applied once is enough').toBe(10);

  redisWire.stall();
  const calls = await Promise.all([outcome(shaky.increment(1)), outcome(shaky.read(1))]);
  expect(calls, 'Redis is stalled: increment and read must reject after timeoutMs').toEqual([
    'rejected',
    'rejected',
  ]);
});
