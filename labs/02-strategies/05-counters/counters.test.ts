import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { PoolOptions, RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome as settled } from '#kit/waiting';
import { createViewCounter, type Options } from './counters';
import {
  BufferFullError,
  CREATE_VIEW_BATCHES,
  DRAINING_KEY,
  InvalidIdError,
  InvalidIncrementError,
  MAX_BY,
  PENDING_KEY,
} from './given';

const servers = useServers('products');

beforeAll(() => servers.db.query(CREATE_VIEW_BATCHES));
beforeEach(() => servers.db.query('TRUNCATE TABLE view_batches'));

const NOBODY = 999;
/** A statement by which a drain touches the tables, whichever comes first. */
const ANY_SQL = /^\s*(INSERT|UPDATE|REPLACE|DELETE|SELECT|WITH|CALL)\b/i;
/** A deadline that no busy machine meets. */
const PATIENT = { timeoutMs: 20_000, drainTimeoutMs: 20_000 };
const LATE = expect.stringMatching(/^rejected: DeadlineError/);

describe('Core', () => {
  test('1,000 increments at once are exact', async () => {
    await servers.db.query('UPDATE products SET view_count = 100 WHERE id = 1');
    const [one, other] = [openCounter(), openCounter({ redis: servers.connectRedis() })];
    await Promise.all(
      Array.from({ length: 500 }, (_, n) => [one.increment(1), other.increment(n % 2 ? 2 : 1, 3)]).flat(),
    );
    expect(
      [await one.read(1), await one.read(2), await one.read(3)],
      'views that read returns for products 1, 2 and 3: what MySQL has, and 1,000 increments of two clients',
    ).toEqual([100 + 500 + 750, 750, 0]);
    expect(await one.read(NOBODY), 'there is no such product: read must return null').toBeNull();
  });

  test('a drain moves what waits to MySQL', async () => {
    const counter = openCounter();
    expect(await settled(counter.drain()), 'nothing waits: a drain must resolve').toBeUndefined();
    // Close to 2^53, and five increments are more than 2^32.
    const stored = 2 ** 53 - 6 * MAX_BY;
    await servers.db.query('UPDATE products SET view_count = ? WHERE id = 1', [stored]);
    for (let nth = 1; nth <= 5; nth++) await counter.increment(1, MAX_BY - 1);
    await counter.increment(2, 3);
    await counter.increment(NOBODY);
    const sum = stored + 5 * (MAX_BY - 1);
    expect(await counter.read(1), 'views that read returns before the drain: large sums are exact').toBe(sum);
    expect(
      await settled(counter.drain()),
      'three ids wait, and one has no product: a drain must resolve',
    ).toBeUndefined();
    expect([await inMySql(1), await inMySql(2)], 'view_count of products 1 and 2 after the drain').toEqual([
      sum,
      3,
    ]);
    expect(await counter.read(1), 'views that read returns after the drain').toBe(sum);
    await drainAll();
    expect(await inMySql(1), 'view_count after two more drains, without an increment').toBe(sum);
  });

  test('views counted while a batch is drained are kept', async () => {
    const { mysqlProxy, counter } = await behindProxies();
    await counter.increment(1, 5);
    const statement = mysqlProxy.hold(ANY_SQL);
    const draining = counter.drain();
    await Promise.race([statement.arrived, draining]);
    await openCounter().increment(1, 2);
    await openCounter().increment(2, 7);
    statement.release();
    await draining;
    expect(
      await openCounter().read(1),
      'views that read returns: 5 were drained, and 2 were counted during the drain',
    ).toBe(7);
    await drainAll();
    expect(
      [await inMySql(1), await inMySql(2)],
      'view_count of products 1 and 2: 5 were drained, and 2 and 7 were counted during that drain',
    ).toEqual([7, 7]);
    for (let nth = 1, sent = nth; sent >= nth; nth++) {
      const before = await inMySql(1);
      sent = await incrementWhile(3, nth, drainAll);
      await drainAll();
      expect(
        (await inMySql(1)) - before,
        `views that two drains added, of 3: an increment was between its requests ${nth - 1} and ${nth} when an earlier drain came`,
      ).toBe(3);
    }
  });

  test('a batch on its way is in a read', async () => {
    const { mysqlProxy, counter } = await behindProxies();
    await counter.increment(1, 5);
    const statement = mysqlProxy.hold(ANY_SQL);
    const draining = counter.drain();
    await Promise.race([statement.arrived, draining]);
    expect(
      await openCounter().read(1),
      'views that read returns while the drain waits for its first statement in MySQL: 5 were counted',
    ).toBe(5);
    statement.release();
    await draining;
  });

  test('a drainer that is killed before its commit loses nothing', async () => {
    let nth = 1;
    for (; nth <= 50; nth++) {
      const death = await dieBeforeRequest(nth);
      if (death.hasCommitted) break;
      const scene = `a drainer was killed before its commit, when it was about to send "${death.request}"`;
      expect(death.read, `views that read returns after 10 increments: ${scene}`).toBe(10);
      expect(
        death.stored,
        `view_count of both products, after 10 and 2 more increments and two drains: ${scene}`,
      ).toEqual([12, 12]);
    }
    const before = await inMySql(1);
    await openCounter().increment(1, 3);
    await killBeforeRequest(nth - 1);
    for (const key of [PENDING_KEY, DRAINING_KEY]) {
      expect(
        await servers.redis.pttl(key),
        `ms to live of ${key}: nothing else has these views, so they must not expire`,
      ).toBeLessThan(0);
    }
    await openCounter().drain();
    expect(
      (await inMySql(1)) - before,
      'views in MySQL: a drainer with 3 views was killed, and the next drain came before anything else was counted',
    ).toBe(3);
    // One more view than a BIGINT holds: MySQL refuses the UPDATE.
    await servers.db.query('UPDATE products SET view_count = 18446744073709551615 WHERE id = 3');
    await openCounter().increment(3);
    const refused = await settled(openCounter().drain());
    expect(refused, 'MySQL refuses the views of a batch: drain must reject').toEqual(
      expect.stringMatching(/^rejected/),
    );
    await servers.db.query('UPDATE products SET view_count = 0 WHERE id = 3');
    await drainAll();
    expect(await inMySql(3), 'view_count, when MySQL has accepted what it had refused').toBe(1);
  });

  test('views counted after Redis has lost its data are kept', async () => {
    for (const views of [5, 2]) {
      const before = await servers.redis.keys('*');
      const { redis, db } = servers;
      await (await startProcess())({ redis, db, ...PATIENT }).increment(1, views);
      await drainAll();
      for (const key of await servers.redis.keys('*')) {
        if (!before.includes(key)) await servers.redis.del(key);
      }
    }
    expect(
      await inMySql(1),
      'view_count: 5 views were drained, Redis came back empty, and a new process counted 2 that were drained',
    ).toBe(7);
  });
});

describe('In production', () => {
  test('a drainer that is killed after its commit doubles nothing', async () => {
    const { requests } = await dieBeforeRequest(Number.POSITIVE_INFINITY);
    for (let nth = requests; nth > 0; nth--) {
      const death = await dieBeforeRequest(nth);
      if (!death.hasCommitted) break;
      const scene = `a drainer was killed after its commit, when it was about to send "${death.request}"`;
      expect(death.read, `views that read returns after 10 increments: ${scene}`).toBe(10);
      expect(
        death.stored,
        `view_count of both products, after 10 and 2 more increments and two drains: ${scene}`,
      ).toEqual([12, 12]);
    }
  });

  test('two drainers at once add a batch once', async () => {
    await openCounter().increment(1, 5);
    const drains = [];
    for (const { mysqlProxy, counter } of [await behindProxies(), await behindProxies()]) {
      const statement = mysqlProxy.hold(ANY_SQL);
      const draining = settled(counter.drain());
      await Promise.race([statement.arrived, draining]);
      drains.push({ statement, draining });
    }
    for (const { statement } of drains) statement.release();
    await Promise.all(drains.map(({ draining }) => draining));
    await drainAll();
    expect(
      await inMySql(1),
      'view_count: 5 views were counted, and two drainers had the same batch in hand at once',
    ).toBe(5);
  });

  test('a drainer that wakes up late does not delete the next batch', async () => {
    const [slow, other] = [await behindProxies(), await behindProxies()];
    await openCounter().increment(1, 5);
    const statement = slow.mysqlProxy.hold(ANY_SQL);
    const late = Promise.allSettled([slow.counter.drain()]);
    await Promise.race([statement.arrived, late]);
    const deletion = slow.redisProxy.hold(/./);
    statement.release();
    await Promise.race([deletion.arrived, late]);
    // The slow drainer has committed its batch. The other one ends that batch, and begins the next one.
    await Promise.race([other.counter.drain().catch(() => {}), sleep(300)]);
    await openCounter().increment(1, 2);
    const next = other.mysqlProxy.hold(ANY_SQL);
    const dying = Promise.allSettled([other.counter.drain()]);
    await Promise.race([next.arrived, dying, sleep(300)]);
    deletion.release();
    await late;
    other.mysqlProxy.cut();
    await dying;
    await drainAll();
    expect(
      await inMySql(1),
      'view_count: 5 and 2 views were counted. A drainer slept between its commit and its next command, and the drainer of the next batch died before its commit',
    ).toBe(7);
  });

  test('a read sees each view once while batches move', async () => {
    const moves = {
      'a whole drain, and the next one': async () => ({ move: drainAll, end: async () => {} }),
      'the first step of a drain': startingDrainer,
      'the commit of a drain': committingDrainer,
    };
    for (const [what, prepare] of Object.entries(moves)) {
      for (let nth = 1, sent = nth; sent >= nth; nth++) {
        await drainAll();
        const before = await inMySql(1);
        await openCounter().increment(1, 10);
        const { move, end } = await prepare();
        const { redisProxy, mysqlProxy, counter } = await behindProxies();
        sent = 0;
        const moveBeforeIt = async () => {
          if (++sent === nth) await move();
        };
        for (const proxy of [redisProxy, mysqlProxy]) proxy.schedule(moveBeforeIt);
        const views = Number(await counter.read(1)) - before;
        await (sent < nth && move());
        await end();
        expect(views, `views that read returns, of 10: before its request ${nth} came ${what}`).toBe(10);
      }
    }
  });

  test('an id or an increment that is not a positive integer is refused before any request', async () => {
    const counter = openCounter();
    const ids: unknown[] = ['1', '1; DROP', [1], true, null, undefined, 0, -1, 1.5, Number.NaN, 2 ** 53];
    const increments: unknown[] = ['1', null, true, 0, -5, 0.5, Number.NaN, MAX_BY + 1];
    const work = await servers.work(async () => {
      for (const id of ids as number[]) {
        for (const call of [() => counter.increment(id), () => counter.read(id)]) {
          expect(
            await rejectionOf(call),
            `the id ${inspect(id)} must be refused with InvalidIdError`,
          ).toBeInstanceOf(InvalidIdError);
        }
      }
      for (const by of increments as number[]) {
        expect(
          await rejectionOf(() => counter.increment(1, by)),
          `the increment ${inspect(by)} must be refused with InvalidIncrementError`,
        ).toBeInstanceOf(InvalidIncrementError);
      }
    });
    expect(work.redis() + work.sql(), 'requests sent for these calls').toBe(0);
  });

  test('a new id is refused when too many wait, and a known one is counted', async () => {
    const counter = openCounter({ maxIds: 3 });
    for (const id of [1, 2, 3]) {
      expect(
        await settled(counter.increment(id)),
        `id ${id} of 3, and maxIds is 3: there is room for it`,
      ).toBeUndefined();
    }
    expect(
      await rejectionOf(() => counter.increment(11)),
      'three ids wait and maxIds is 3: a fourth one must be refused with BufferFullError',
    ).toBeInstanceOf(BufferFullError);
    await settled(counter.increment(1, 7));
    expect(await counter.read(1), 'views of an id that waits already: it needs no room').toBe(8);
    await counter.drain();
    const calls = [1, 2, 3, 11, 12, 13].map((id) => counter.increment(id));
    const accepted = (await Promise.allSettled(calls)).filter(({ status }) => status === 'fulfilled');
    expect(accepted.length, 'ids accepted after a drain, of six at once: maxIds is 3').toBe(3);
  });

  test('a server that does not answer costs a call its deadline', async () => {
    const silent: Readonly<Record<string, (opened: Opened) => unknown>> = {
      'Redis stalls': ({ redisProxy }) => redisProxy.stall(),
      'MySQL stalls': ({ mysqlProxy }) => mysqlProxy.stall(),
      'no connection of the pool is free': ({ db }) => db.getConnection(),
    };
    const open = async (strike: (opened: Opened) => unknown) => {
      const deadlines = { timeoutMs: SHORT_MS, drainTimeoutMs: SHORT_MS };
      const opened = await behindProxies({ ...deadlines, poolOptions: { connectionLimit: 1 } });
      await strike(opened);
      return opened.counter;
    };
    await openCounter().increment(1);
    const expectLate = async (
      fault: string,
      strike: (opened: Opened) => unknown,
      call: 'increment' | 'read' | 'drain',
    ) =>
      expect(
        await settled<unknown>((await open(strike))[call](1)),
        `${fault}: ${call} must reject with DeadlineError`,
      ).toEqual(LATE);
    await Promise.all(
      Object.entries(silent).flatMap(([fault, strike]) => [
        expectLate(fault, strike, 'read'),
        expectLate(fault, strike, 'drain'),
        ...(fault === 'Redis stalls' ? [expectLate(fault, strike, 'increment')] : []),
      ]),
    );
    for (const [call, seen] of await Promise.all([callWithLateRedis('read'), callWithLateRedis('drain')])) {
      expect(
        seen,
        `Redis answers after 0.6 of the deadline, and MySQL not at all. After 1.3 of it, ${call} must have rejected with DeadlineError`,
      ).toEqual(LATE);
    }
    const { mysqlProxy, counter } = await behindProxies({ timeoutMs: 20 });
    mysqlProxy.delay(30);
    expect(
      await settled(counter.drain(), 10_000),
      'each statement takes 30 ms, timeoutMs is 20 and drainTimeoutMs 20,000: drain must resolve',
    ).toBeUndefined();
  });

  test('an increment that gave up counts once at most', async () => {
    const { redisProxy, redis, counter } = await behindProxies({ timeoutMs: SHORT_MS });
    const first = redisProxy.hold(/./);
    const counting = settled(counter.increment(1, 3));
    await Promise.race([first.arrived, counting]);
    expect(await counting, 'Redis does not answer: increment must reject with DeadlineError').toEqual(LATE);
    first.release();
    await settled(redis.ping());
    expect(
      [0, 3],
      'views that read returns, of an increment by 3 that got no answer in its time: none or 3',
    ).toContain(await openCounter().read(1));
  });

  test('a call that gave up leaves the pool as it was', async () => {
    const { mysqlProxy, db, counter } = await behindProxies({
      timeoutMs: SHORT_MS,
      drainTimeoutMs: SHORT_MS,
      poolOptions: { connectionLimit: 1 },
    });
    await openCounter().increment(1, 3);
    const commit = mysqlProxy.hold(/^COMMIT/i);
    const draining = settled(counter.drain());
    await Promise.race([commit.arrived, draining]);
    mysqlProxy.delay(5000);
    commit.release();
    expect(await draining, 'the COMMIT has no answer: drain must reject with DeadlineError').toEqual(LATE);
    await mysqlProxy.heal();
    expect(
      await answers(db.query('SELECT 1')),
      'the next query on the pool: a drain has given up before its COMMIT was answered',
    ).toBe('answered');
    await drainAll();
    expect(await inMySql(1), 'view_count: 3 views, and the COMMIT of a drain got no answer').toBe(3);

    const select = mysqlProxy.hold(/SELECT/i);
    const reading = settled(counter.read(1));
    await Promise.race([select.arrived, reading]);
    expect(await reading, 'the SELECT has no answer: read must reject with DeadlineError').toEqual(LATE);
    expect(
      await answers(db.query('SELECT 1')),
      'the next query on the pool: a read has given up before its SELECT was answered',
    ).toBe('answered');
    select.release();

    await openCounter().increment(1);
    const only = await db.getConnection();
    const late = await Promise.all([settled(counter.read(1)), settled(counter.drain())]);
    expect(late, 'no connection of the pool is free: read and drain must reject').toEqual([LATE, LATE]);
    const sent: string[] = [];
    mysqlProxy.schedule(async (request) => void sent.push(request));
    only.release();
    await sleep(20);
    expect(
      await answers(db.query('SELECT 1')),
      'the next query on the pool: its connection came free after read and drain had given up',
    ).toBe('answered');
    // A late SELECT of the read does no harm.
    expect(
      sent.filter((request) => !/^SELECT/i.test(request)),
      'what a drain sent to MySQL: a connection came free after it had given up, so it must begin nothing',
    ).toEqual([]);
  });
});

/** Not a multiple of anything. */
const SHORT_MS = 130;

type Opened = Awaited<ReturnType<typeof behindProxies>>;

const openCounter = (options: Partial<Options> = {}) =>
  createViewCounter({ redis: servers.redis, db: servers.db, ...PATIENT, ...options });

/** A counter whose servers can be held or taken away. The connections are up. */
async function behindProxies(
  { poolOptions = {}, ...options }: Partial<Options> & { poolOptions?: PoolOptions } = {},
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
  return { redisProxy, mysqlProxy, redis, db, counter: create({ redis, db, ...PATIENT, ...options }) };
}

/**
 * What a call has come to at 1.3 of its deadline: Redis answers at 0.6 of it, MySQL never. A machine that is too slow for
 * this scene gets a longer deadline.
 */
async function callWithLateRedis(call: 'read' | 'drain') {
  for (let deadlineMs = 80; ; deadlineMs *= 2) {
    const { redisProxy, mysqlProxy, counter } = await behindProxies({
      timeoutMs: deadlineMs,
      drainTimeoutMs: deadlineMs,
    });
    const first = redisProxy.hold(/./);
    const statement = mysqlProxy.hold(/./);
    setTimeout(() => first.release(), 0.6 * deadlineMs);
    // Timers of one process end in the order of their times, however busy it is.
    const end = sleep(1.3 * deadlineMs, 'still waiting');
    const calling = Promise.race([settled<unknown>(counter[call](1), 4 * deadlineMs), end]);
    const hasReachedMySql = await Promise.race([
      statement.arrived.then(() => true),
      calling.then(() => false),
    ]);
    if (hasReachedMySql || deadlineMs > 500) return [call, await calling] as const;
  }
}

/** Drains what an earlier drain has left behind, and then the rest. */
async function drainAll(): Promise<void> {
  const counter = openCounter();
  await counter.drain();
  await counter.drain();
}

/** A module that knows nothing of what was before, as in a process that has just been started. */
async function startProcess() {
  vi.resetModules();
  return (await import('./counters')).createViewCounter;
}

/** Increments product 1 while `move` happens before the request number `nth` of it; how many requests it sent. */
async function incrementWhile(by: number, nth: number, move: () => Promise<void>): Promise<number> {
  const { redisProxy, counter } = await behindProxies();
  let sent = 0;
  redisProxy.schedule(async () => {
    if (++sent === nth) await move();
  });
  await counter.increment(1, by);
  return sent;
}

/**
 * A drainer that ends before its request number `nth`. Its proxies end with it and its module is its own, so that nothing
 * is left of it but what has reached the servers.
 */
async function killBeforeRequest(nth: number) {
  const { redisProxy, mysqlProxy, redis, counter } = await behindProxies({}, await startProcess());
  const proxies = [redisProxy, mysqlProxy];
  let requests = 0;
  const ending = new Promise<string>((resolve) => {
    const pass = async (request: string) => {
      if (++requests < nth) return;
      resolve(request);
      await new Promise<never>(() => {});
    };
    for (const proxy of proxies) proxy.schedule(pass);
  });
  const request = await Promise.race([ending, settled(counter.drain()).then(() => 'nothing more')]);
  redis.disconnect();
  await Promise.all(proxies.map((proxy) => proxy.close()));
  return { request: request.trim().split(/\s+/, 2).join(' '), requests };
}

/** A drainer is killed with 10 views of two products in its batch. Others count, and drain what is left. */
async function dieBeforeRequest(nth: number) {
  const counter = openCounter();
  await servers.db.query('UPDATE products SET view_count = 0 WHERE id IN (1, 2)');
  for (const id of [1, 2]) await counter.increment(id, 10);
  const killed = await killBeforeRequest(nth);
  const hasCommitted = (await inMySql(1)) === 10 && (await inMySql(2)) === 10;
  const read = await counter.read(1);
  for (const id of [1, 2]) await counter.increment(id, 2);
  await drainAll();
  return { ...killed, hasCommitted, read, stored: [await inMySql(1), await inMySql(2)] };
}

/** A drainer. `move` lets it go as far as its first statement in MySQL, and `end` to its end. */
async function startingDrainer() {
  const { mysqlProxy, counter } = await behindProxies();
  const statement = mysqlProxy.hold(ANY_SQL);
  let draining: Promise<unknown> = Promise.resolve();
  return {
    async move() {
      draining = settled(counter.drain(), 5000);
      await Promise.race([statement.arrived, draining]);
    },
    async end() {
      statement.release();
      await draining;
    },
  };
}

/** A drainer that is about to commit. `move` lets it commit, and holds what it sends to Redis after that until `end`. */
async function committingDrainer() {
  const { redisProxy, mysqlProxy, counter } = await behindProxies();
  const commit = mysqlProxy.hold(/^COMMIT/i);
  const draining = settled(counter.drain(), 5000);
  await Promise.race([commit.arrived, draining]);
  const next = redisProxy.hold(/./);
  return {
    async move() {
      commit.release();
      await Promise.race([next.arrived, draining]);
    },
    async end() {
      next.release();
      await draining;
    },
  };
}

/** Whether a query is answered soon. */
const answers = (query: Promise<unknown>) => settled(query.then(() => 'answered'));

/** What a call rejects or throws with. */
async function rejectionOf(call: () => Promise<unknown>): Promise<unknown> {
  try {
    return await call();
  } catch (error) {
    return error;
  }
}

async function inMySql(id: number): Promise<number> {
  const [[row]] = await servers.db.query<RowDataPacket[]>('SELECT view_count FROM products WHERE id = ?', [
    id,
  ]);
  return Number(row?.view_count);
}
