import type { PoolOptions, RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { explore } from '#kit/explore';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import {
  BufferFullError,
  CREATE_VIEW_BATCHES,
  createViewCounter,
  DeadlineError,
  InvalidIdError,
  InvalidIncrementError,
  MAX_BY,
  type ViewCounterOptions,
} from './counters';

const servers = useServers('products');

beforeAll(() => servers.db.query(CREATE_VIEW_BATCHES));
beforeEach(() => servers.db.query('TRUNCATE TABLE view_batches'));

/** A statement by which a drain touches the tables, whichever comes first. */
const ANY_WRITE = /^\s*(INSERT|UPDATE|REPLACE|DELETE|SELECT|WITH|CALL)\b/i;
const NOBODY = 999;

/** A deadline that no busy machine meets, unless the test asks for another. */
const openCounter = (options: Partial<ViewCounterOptions> = {}) =>
  createViewCounter({ redis: servers.redis, db: servers.db, timeoutMs: 10_000, ...options });

/** A counter whose servers can be held or taken away. */
async function behindProxies(
  { poolOptions = {}, ...options }: Partial<ViewCounterOptions> & { poolOptions?: PoolOptions } = {},
  create = createViewCounter,
) {
  const [redisProxy, mysqlProxy] = await Promise.all([
    openProxy(servers.redisUrl),
    openProxy(servers.mysqlUrl),
  ]);
  const redis = servers.connectRedis({}, redisProxy.url);
  const db = servers.connectDb(poolOptions, mysqlProxy.url);
  onTestFinished(() => redis.disconnect());
  await Promise.all([redis.ping(), db.query('SELECT 1')]);
  const counter = create({ redis, db, timeoutMs: 10_000, ...options });
  return { redisProxy, mysqlProxy, redis, db, counter };
}

async function inDatabase(id: number): Promise<number> {
  const [[row]] = await servers.db.query<RowDataPacket[]>('SELECT view_count FROM products WHERE id = ?', [
    id,
  ]);
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
      (error: unknown) => (error instanceof DeadlineError ? 'DeadlineError' : `rejected: ${error}`),
    ),
    after(2000, 'still waiting'),
  ]);

test('1,000 increments at once are exact', async () => {
  const [one, other] = [openCounter(), openCounter({ redis: servers.connectRedis() })];
  await servers.db.query('UPDATE products SET view_count = 100 WHERE id = 1');
  await Promise.all(
    Array.from({ length: 500 }, (_, n) => [one.increment(1), other.increment(n % 2 === 0 ? 1 : 2, 3)]).flat(),
  );
  await one.drain();
  const counted = [await inDatabase(1), await inDatabase(2), await inDatabase(3)];
  expect(
    counted,
    'two clients counted at once: an increment must be one step in Redis, a read and a write of the sum lose views',
  ).toEqual([100 + 500 + 750, 750, 0]);
});

test('what is counted while a batch is drained is kept', async () => {
  const { mysqlProxy, counter } = await behindProxies();
  await servers.db.query('UPDATE products SET view_count = 100 WHERE id = 1');
  const readers = openCounter();
  await counter.increment(1, 5);
  expect(await readers.read(1), 'a read is the database and what waits in Redis').toBe(105);

  const gate = mysqlProxy.hold(ANY_WRITE);
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

/**
 * A drainer that ends before the request that `last` picks. Its proxies end with it and its module is its own, so that
 * nothing is left of it but what has reached the servers.
 * @returns the request that was not sent any more, undefined when `last` picked none; what others saw at that moment
 */
async function drainUntil(last: (request: string) => boolean) {
  vi.resetModules();
  const { createViewCounter: create } = await import('./counters');
  const { redisProxy, mysqlProxy, redis, counter } = await behindProxies({}, create);
  const proxies = [redisProxy, mysqlProxy];
  const ending = new Promise<string>((resolve) => {
    let over = false;
    const pass = async (request: string) => {
      over ||= last(request);
      if (!over) return;
      resolve(request);
      await new Promise<never>(() => {});
    };
    for (const proxy of proxies) proxy.schedule(pass);
  });
  const request = await Promise.race([ending, counter.drain().then(() => undefined)]);
  const seen = await committed();
  redis.disconnect();
  await Promise.all(proxies.map((proxy) => proxy.close()));
  return { request: request?.trim().split(/\s+/, 2).join(' '), seen };
}

/** What a connection sees that has no part in a drain. */
async function committed(): Promise<string> {
  const [[row]] = await servers.db.query<RowDataPacket[]>(
    'SELECT view_count, (SELECT COUNT(*) FROM view_batches) AS batches FROM products WHERE id = 1',
  );
  return `${row?.view_count} views, ${row?.batches} batches`;
}

/** One drainer after the other ends, each a request later: as far as its COMMIT, or from there to its end. */
async function endAtEachRequest(part: 'up to COMMIT' | 'after COMMIT') {
  const counter = openCounter();
  let counted = 5;
  await counter.increment(1, counted);
  await drainAll();
  const ends = [];
  for (let nth = 1; nth <= 50; nth++) {
    await counter.increment(1, 10);
    const before = await committed();
    let [requests, sentCommit] = [0, false];
    const { request, seen } = await drainUntil((next) => {
      if (sentCommit === (part === 'after COMMIT')) requests++;
      const here = requests === nth;
      sentCommit ||= /^COMMIT/i.test(next);
      return here;
    });
    if (request === undefined) break;
    const read = await counter.read(1);
    await counter.increment(1, 2);
    await drainAll();
    counted += 12;
    ends.push({ request, early: seen !== before, read, stored: await inDatabase(1), counted });
    if (ends.at(-1)?.stored !== counted) break;
  }
  return ends;
}

test('a drainer that is killed before its commit loses nothing', async () => {
  for (const { request, early, read, stored, counted } of await endAtEachRequest('up to COMMIT')) {
    const reason = early
      ? 'what it had written was committed by itself: no transaction was open on the connection that wrote (beginTransaction), so the views and the id were not rolled back together'
      : 'the batch and its id must get their places in one step, and keep them in Redis until the commit';
    expect(stored, `a drainer died just before "${request}" was sent, and ${reason}`).toBe(counted);
    expect(read, `a drainer died just before "${request}" was sent: a read must count its batch once`).toBe(
      counted - 2,
    );
  }
});

test('a drainer that is killed after its commit doubles nothing', async () => {
  for (const { request, read, stored, counted } of await endAtEachRequest('after COMMIT')) {
    expect(
      stored,
      `a drainer died after its commit, just before "${request}" was sent: the batch comes again, and only an id that was committed with it tells that it is old`,
    ).toBe(counted);
    expect(read, 'the batch is in the database and still in Redis: a read must count it once').toBe(
      counted - 2,
    );
  }
});

test('two drainers at once neither double nor lose', async () => {
  const [slow, quick] = [await behindProxies(), await behindProxies()];
  const counter = openCounter();
  await counter.increment(1, 5);
  const gates = [slow, quick].map(({ mysqlProxy }) => mysqlProxy.hold(ANY_WRITE));
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
  const commit = slow.mysqlProxy.hold(/^COMMIT/i);
  const late = slow.counter.drain();
  await Promise.race([commit.arrived, Promise.allSettled([late])]);
  const deletion = slow.redisProxy.hold(/./);
  commit.release();
  await Promise.race([deletion.arrived, Promise.allSettled([late])]);
  const redelivered = Promise.allSettled([quick.counter.drain()]);
  await Promise.race([redelivered, after(300, 0)]);
  await counter.increment(1, 2);
  const second = quick.mysqlProxy.hold(/^COMMIT/i);
  const cut = quick.counter.drain();
  await Promise.race([second.arrived, Promise.allSettled([cut]), after(300, 0)]);
  deletion.release();
  await Promise.allSettled([late]);
  quick.mysqlProxy.cut();
  await Promise.allSettled([redelivered, cut]);
  await drainAll();
  expect(
    await inDatabase(1),
    'a slow drainer woke up when the next batch was on its way, and deleted that one: delete only the batch that you have applied',
  ).toBe(12);
});

test('a read never goes backwards while batches move', async () => {
  const { redisProxy, mysqlProxy, counter } = await behindProxies();
  for (let nth = 1, sent = nth; sent >= nth; nth++) {
    await drainAll();
    const before = await inDatabase(1);
    await openCounter().increment(1, 10);
    sent = 0;
    const drainBeforeIt = async () => {
      if (++sent === nth) await drainAll();
    };
    for (const proxy of [redisProxy, mysqlProxy]) proxy.schedule(drainBeforeIt);
    const views = Number(await counter.read(1)) - before;
    for (const proxy of [redisProxy, mysqlProxy]) proxy.schedule();
    expect(
      views,
      `10 views had been counted, and a drain moved them just before request ${nth} of a read: it must neither miss them nor count them twice`,
    ).toBe(10);
  }

  const seen: (number | null)[] = [];
  let earlier = 0;
  await explore(servers, {
    runs: 30,
    seed: 5,
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
  await servers.db.query('INSERT INTO products (id, name, price, stock, category_id, updated_at) VALUES ?', [
    ids.map((id) => [id, `Product ${id}`, '1.00', 1, 1, new Date(0)]),
  ]);
  const counter = openCounter();
  await Promise.all([...ids, ...ids.map((id) => id + 5000)].map((id) => counter.increment(id, 2)));
  let ended: unknown;
  const work = await servers.work(async () => {
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
  const [rows] = await servers.db.query<RowDataPacket[]>(
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
  const work = await servers.work(async () => {
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
  const before = await servers.redis.keys('*');
  await counter.increment(1, 5);
  await drainAll();
  // Redis loses all that it held.
  for (const key of await servers.redis.keys('*')) if (!before.includes(key)) await servers.redis.del(key);
  await counter.increment(1, 2);
  await drainAll();
  expect(
    await inDatabase(1),
    'Redis was emptied, and the next batch was taken for an old one: no later batch may ever get the id of an earlier one',
  ).toBe(7);

  const shaky = await behindProxies({
    timeoutMs: 100,
    drainTimeoutMs: 100,
    poolOptions: { connectionLimit: 1 },
  });
  const { redisProxy, mysqlProxy, db, counter: patient } = shaky;
  const hasty = openCounter({ ...shaky, timeoutMs: 40, drainTimeoutMs: 40 });
  await counter.increment(1, 3);
  const commit = mysqlProxy.hold(/^COMMIT/i);
  const draining = outcome(patient.drain());
  await Promise.race([commit.arrived, draining]);
  mysqlProxy.delay(5000);
  commit.release();
  expect(
    await draining,
    'the COMMIT was not answered: a drain must reject with DeadlineError after drainTimeoutMs',
  ).toBe('DeadlineError');
  await mysqlProxy.heal();
  expect(
    await outcome(db.query('SELECT 1')),
    'a drain gave up and put its connection back into the pool, where the next user waits behind its COMMIT: destroy it',
  ).toBe('resolved');
  await drainAll();
  expect(await inDatabase(1), 'the COMMIT had got through, unanswered: applied once is enough').toBe(10);

  await counter.increment(1, 1);
  const only = await db.getConnection();
  expect(
    await Promise.all([outcome(hasty.read(1)), outcome(hasty.drain())]),
    'no connection of the pool came free: read and drain must reject with DeadlineError all the same',
  ).toEqual(['DeadlineError', 'DeadlineError']);
  only.release();
  expect(
    await outcome(db.query('SELECT 1')),
    'the connection came free after the deadline, and nobody gave it back to the pool',
  ).toBe('resolved');

  mysqlProxy.stall();
  expect(
    await outcome(hasty.read(1)),
    'MySQL is stalled: a read must reject with DeadlineError after timeoutMs',
  ).toBe('DeadlineError');
  await mysqlProxy.heal();
  expect(
    await outcome(db.query('SELECT 1')),
    'a read gave up and never gave its connection back: the pool has none left',
  ).toBe('resolved');

  const second = mysqlProxy.hold(/^COMMIT/i);
  const ending = outcome(patient.drain());
  await Promise.race([second.arrived, ending]);
  redisProxy.stall();
  second.release();
  expect(
    await Promise.all([hasty.increment(1), hasty.read(1), hasty.drain()].map(outcome)),
    'Redis is stalled: increment and read must reject with DeadlineError after timeoutMs, drain after drainTimeoutMs',
  ).toEqual(['DeadlineError', 'DeadlineError', 'DeadlineError']);
  expect(
    await ending,
    'Redis is stalled after the commit: a drain may wait for it no longer than drainTimeoutMs',
  ).toMatch(/^(DeadlineError|resolved)$/);
  await drainAll();
  expect(await inDatabase(1), 'drains that gave up left a batch behind: the next one applies it').toBe(11);
});
