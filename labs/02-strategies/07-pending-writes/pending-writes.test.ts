import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { explore } from '#kit/explore';
import { redisBehindProxy } from '#kit/faulty-redis';
import { openProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, unhandledRejections, until } from '#kit/waiting';
import { APPLIED_WRITES, apply, finish, STREAM, selectProduct, take, VIEW_TTL_MS, work } from './given';
import { createPendingWrites, type PendingWrites } from './pending-writes';

const servers = useServers('products');

/** Looks again and again, so the red screen leaves it out. */
let watcher: Redis;
beforeAll(async () => {
  watcher = servers.connectRedis();
  nameRequests(watcher, '');
  await servers.db.query(APPLIED_WRITES);
});
beforeEach(() => servers.db.query('DELETE FROM applied_writes'));

const MUG = { id: 1, name: 'Enamel mug, 350 ml', price: '12.90', stock: 140 };
const BOARD = { id: 2, name: 'Beech cutting board', price: '34.00', stock: 12 };
const NOBODY = 999;
/** Beyond a DECIMAL(10,2): only MySQL knows. */
const TOO_DEAR = '123456789012.00';
/** Not a multiple of anything. */
const HASTY_MS = 97;
const REJECTION = expect.stringMatching(/^rejected/);

describe('Core', () => {
  test('a read returns the row, and the next read asks MySQL nothing', async () => {
    const view = openView();
    expect(await view.read(1), 'nothing is pending: read must return the row of MySQL').toEqual(MUG);
    await filled();
    const work = await servers.work(async () => {
      expect(await view.read(1), 'the second read must return what the first one returned').toEqual(MUG);
    });
    expect(work.sql('select'), 'SELECTs of the second read: the view holds a copy of the row').toBe(0);
    expect(await view.read(NOBODY), 'there is no such product: read must return null').toBeNull();
    const mysql = await openProxy(servers.mysqlUrl);
    await mysql.refuse();
    expect(
      await outcome(openView(servers.redis, servers.connectDb({}, mysql.url)).read(2)),
      'MySQL is away, and Redis holds no copy of the row: read must reject, or a product seems to be deleted',
    ).toEqual(REJECTION);
  });

  test('an accepted write is read at once, and MySQL gets it from the stream', async () => {
    const view = openView();
    await view.read(1);
    for (const product of [MUG, BOARD]) {
      const when = product === MUG ? 'this product has been read before' : 'nobody has read this product yet';
      await view.accept(product.id, { price: '20.00' });
      await view.accept(product.id, { stock: 0 });
      const expected = { ...product, price: '20.00', stock: 0 };
      expect(
        await view.read(product.id),
        `a price and a stock are pending, and ${when}: a read must be the whole product with both`,
      ).toEqual(expected);
      await filled();
      const work = await servers.work(() => view.read(product.id));
      expect(
        work.sql('select'),
        `SELECTs of the next read, while both are pending, and ${when}: the view holds a copy of the row`,
      ).toBe(0);
      expect(await row(product.id), 'the row in MySQL: the worker has not run yet').toEqual(product);
      await workOnce(view);
      expect(await row(product.id), 'the row in MySQL, after the worker has read the stream').toEqual(
        expected,
      );
    }
    await view.accept(NOBODY, { stock: 1 });
    expect(
      await view.read(NOBODY),
      'MySQL has no such product: read must return null, whatever is pending',
    ).toBeNull();
  });

  test('one step puts a write into the stream and into the view', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const view = openView();
    let between: string | undefined;
    proxy.schedule(async (request) => {
      const inStream = (await servers.redis.xlen(STREAM)) > 0;
      if (inStream !== ((await view.read(1))?.price === '20.00')) between ??= request;
    });
    await openView(servers.connectRedis({}, proxy.url)).accept(1, { price: '20.00' });
    expect(
      between,
      'before this command only the stream or only the view held the write: a process that dies here leaves it so',
    ).toBeUndefined();

    await explore(servers, {
      runs: 20,
      prepare: async () => {
        await startOver();
        await view.read(1);
      },
      actors: {
        price: ({ redis, db }) => openView(redis, db).accept(1, { price: '20.00' }),
        stock: ({ redis, db }) => openView(redis, db).accept(1, { stock: 5 }),
      },
      verdict: async () => {
        const seen = await view.read(1);
        return seen?.price === '20.00' && seen.stock === 5
          ? undefined
          : `both writes were accepted, and a read shows ${JSON.stringify(seen)}`;
      },
    });
  });

  test('a committed write stays visible, and is pending no longer', async () => {
    const view = openView();
    let seen: unknown;
    await explore(servers, {
      runs: 20,
      prepare: async () => {
        await startOver();
        await view.read(1);
        await view.accept(1, { price: '20.00' });
      },
      actors: {
        worker: async ({ redis, db }) => workOnce(openView(redis, db)),
        reader: async ({ redis, db }) => {
          seen = await openView(redis, db).read(1);
        },
      },
      verdict: async () => {
        for (const product of [seen, await view.read(1)]) {
          if (!isDeepStrictEqual(product, { ...MUG, price: '20.00' })) {
            return `the price 20.00 was accepted, and nothing else of the product has changed: a read shows ${JSON.stringify(product)}`;
          }
        }
        return undefined;
      },
    });
    await view.accept(2, { stock: 7 });
    await workOnce(view);
    expect(await view.read(2), 'the stock is committed: a read must be the whole product').toEqual({
      ...BOARD,
      stock: 7,
    });
    await servers.db.query('UPDATE products SET stock = 8 WHERE id = 2');
    await timePasses();
    expect(
      await view.read(2),
      'the write was committed, the copy of the row has expired, and MySQL holds 8 now',
    ).toMatchObject({ stock: 8 });
  });

  test('a refused write is read no longer, and hides no other write', async () => {
    const view = openView();
    await view.read(1);
    await view.accept(1, { price: TOO_DEAR, stock: 5 });
    await view.accept(1, { price: '20.00' });
    expect(await view.read(1), 'both writes are pending').toMatchObject({ price: '20.00', stock: 5 });
    await workOnce(view, 1);
    expect(
      await view.read(1),
      'MySQL refused the first write as a whole: its stock must go, and the price that is still pending must stay',
    ).toEqual({ ...MUG, price: '20.00' });
    await view.accept(1, { price: TOO_DEAR });
    await workOnce(view);
    expect(
      await view.read(1),
      'the price 20.00 was committed, then MySQL refused another one: the committed price must be read again',
    ).toEqual({ ...MUG, price: '20.00' });

    await view.accept(2, { price: '40.00' });
    const [waiting] = await take(servers.redis, 'slow');
    await view.accept(2, { price: TOO_DEAR, stock: 5 });
    expect(await view.read(2), 'all of it is pending').toMatchObject({ stock: 5 });
    await filled();
    await workOnce(view);
    expect(
      await view.read(2),
      'MySQL refused a newer price with a stock, and an older price is still pending: read the older price, and the stock of the row',
    ).toEqual({ ...BOARD, price: '40.00' });
    if (waiting) await finish(servers.redis, servers.db, view, waiting);
  });

  test('a view expires when nothing is pending, and not before', async () => {
    const proxy = await openProxy(servers.redisUrl);
    let bare: string | undefined;
    proxy.schedule(async (request) => {
      const lives = await Promise.all((await viewKeys()).map((key) => servers.redis.pttl(key)));
      if (lives.includes(-1)) bare ??= request;
    });
    await openView(servers.connectRedis({}, proxy.url)).read(1);
    expect(
      bare,
      'when this command was sent, the copy of the row had no TTL: a process that dies here leaves it forever',
    ).toBeUndefined();
    const view = openView();
    await view.accept(1, { price: '20.00' });
    await timePasses();
    expect(
      await view.read(1),
      'every key that has a TTL has expired: the pending price must be read all the same',
    ).toEqual({ ...MUG, price: '20.00' });
    await view.accept(2, { price: TOO_DEAR });
    await view.accept(3, { stock: 1 });
    await view.accept(NOBODY, { stock: 1 });
    await workOnce(view);
    // Its last write is refused, after one that was committed.
    await view.accept(3, { price: TOO_DEAR });
    await workOnce(view);
    await view.read(2);
    await filled();
    for (const key of await viewKeys()) {
      const ms = await servers.redis.pttl(key);
      const message = `PTTL ${key}, where nothing is pending any more: it must be 1 to ${VIEW_TTL_MS}, and -1 means forever`;
      expect(ms, message).toBeGreaterThan(0);
      expect(ms, message).toBeLessThanOrEqual(VIEW_TTL_MS);
    }
  });
});

describe('In production', () => {
  test('an older write that waits does not hide a newer one that is committed', async () => {
    const view = openView();
    await view.read(1);
    await view.accept(1, { price: '10.00', stock: 5 });
    const [stalled] = await take(servers.redis, 'stalled');
    await view.accept(1, { price: '20.00' });
    await workOnce(view);
    const expected = { ...MUG, price: '20.00', stock: 5 };
    const told =
      'the newer price is committed, and an older write of price and stock waits with a slow worker';
    expect(await view.read(1), `${told}: read the newer price and the pending stock`).toEqual(expected);
    await view.accept(1, { price: TOO_DEAR });
    await workOnce(view);
    expect(await view.read(1), `${told}: a refusal of a third price must not change that`).toEqual(expected);
    await timePasses();
    expect(await view.read(1), `${told}: the copy of the row has expired`).toEqual(expected);
    if (stalled) await finish(servers.redis, servers.db, view, stalled);
    expect(await view.read(1), 'the older write is committed at last: its price is overtaken').toEqual(
      expected,
    );
    expect(await row(1), 'the row in MySQL').toEqual(expected);
  });

  test('pending writes lie over the row in the order of the stream', async () => {
    const view = openView();
    await endIdsIn8();
    await view.read(1);
    await view.accept(1, { price: '10.00' });
    await view.accept(1, { price: '20.00' });
    expect(
      await view.read(1),
      'the stream ids of two prices end in -9 and -10: the second one is the newer one',
    ).toMatchObject({ price: '20.00' });
    const [older, newer] = await take(servers.redis, 'out of order');
    for (const write of [newer, older]) if (write) await finish(servers.redis, servers.db, view, write);
    expect(
      await view.read(1),
      'the write that ends in -10 was committed first, and the one that ends in -9 after it: the newer one is -10',
    ).toMatchObject({ price: '20.00' });

    const stocks = Array.from({ length: 600 }, (_, at) => at + 1);
    await Promise.all(stocks.map((stock) => view.accept(2, { stock })));
    expect(
      await view.read(2),
      '600 writes of one product are pending, more than Redis keeps in the order in which they came',
    ).toMatchObject({ stock: 600 });
  });

  test('a write that is reported twice changes nothing the second time', async () => {
    const view = openView();
    await view.read(1);
    await view.accept(1, { price: '10.00' });
    const [first] = await take(servers.redis, 'first');
    if (!first) throw new Error('the stream holds no write');
    await apply(servers.db, first);
    // The worker dies after this, and before the write leaves the stream.
    await view.committed(first);
    await view.accept(1, { price: '20.00' });
    await workOnce(view);
    await view.accept(1, { stock: 5 });
    await apply(servers.db, first);
    await view.committed(first);
    await view.refused(first);
    const expected = { ...MUG, price: '20.00', stock: 5 };
    const again = 'a commit came again, and later writes stand';
    expect(await view.read(1), `${again}: a newer price is committed, and a stock is pending`).toEqual(
      expected,
    );
    await timePasses();
    expect(await view.read(1), `${again}: the stock is still pending, so it must not expire`).toEqual(
      expected,
    );

    await workOnce(view);
    await timePasses();
    await view.read(1);
    await filled();
    await view.committed(first);
    expect(await view.read(1), `${again}: nothing is pending`).toEqual(expected);
    await timePasses();
    expect(await viewKeys(), 'keys that a second report has left without a TTL').toEqual([]);
  });

  test('a row that was read before a commit is not stored after it', async () => {
    const scenes: Readonly<Record<string, (view: PendingWrites) => Promise<unknown>>> = {
      'a price was accepted and committed': async (view) => {
        await view.accept(1, { price: '20.00' });
        await workOnce(view);
      },
      'a stock was accepted and committed': async (view) => {
        await view.accept(1, { stock: 5 });
        await workOnce(view);
      },
      'a price was committed and a second one refused': async (view) => {
        await view.accept(1, { price: '20.00' });
        await view.accept(1, { price: TOO_DEAR });
        await workOnce(view);
      },
      'a price was committed while the stock is pending': async (view) => {
        await view.accept(1, { price: '20.00' });
        await workOnce(view);
        await view.accept(1, { stock: MUG.stock });
      },
      'a price was committed and read by another process': async (view) => {
        await view.accept(1, { price: '20.00' });
        await workOnce(view);
        await view.read(1);
        await filled();
      },
    };
    for (const [what, happens] of Object.entries(scenes)) {
      await startOver();
      const view = openView();
      const slow = await readsOldRow();
      await happens(view);
      await slow.goesOn();
      expect(
        await view.read(1),
        `a slow reader had read the old row, then ${what}, then the reader went on: no later read may show its row`,
      ).toEqual(await row(1));
    }
  });

  test('the copy of a row ends at its TTL, even if the product is written all the time', async () => {
    const ttlMs = 60;
    const kinds = { 'every write is committed': true, 'some write is always pending': false };
    for (const [kind, isCommitted] of Object.entries(kinds)) {
      // If the machine paused for longer than the TTL, no write renewed anything: once more.
      for (let tries = 0, longestMs = ttlMs; tries < 5 && longestMs >= ttlMs; tries++) {
        const written = await writeBeyond(ttlMs, isCommitted);
        longestMs = written.longestMs;
        expect(
          written.seen,
          `another program changed the name, ${kind}, and the TTL since the fill has passed: read the row again`,
        ).toMatchObject({ name: 'new' });
      }
    }
  });

  test('without Redis no write is accepted, and no older value is read', async () => {
    const write = { id: '1-1', product: 1, changes: { stock: 6 } };
    for (const fault of ['blackHole', 'refuse'] as const) {
      const { proxy, redis } = await redisBehindProxy(servers, { maxRetriesPerRequest: null });
      const view = openHasty(redis);
      await proxy[fault]();
      if (fault === 'refuse') await until(() => redis.status !== 'ready');
      const calls = {
        accept: () => view.accept(1, { stock: 6 }),
        read: () => view.read(1),
        committed: () => view.committed(write),
        refused: () => view.refused(write),
      };
      for (const [name, call] of Object.entries(calls)) {
        expect(
          await outcomeInTime(call),
          `Redis does not answer (${fault}), and deadlineMs is ${HASTY_MS}: ${name} must reject by then`,
        ).toEqual(REJECTION);
      }
    }
    const unhandled = unhandledRejections();
    const { view, reading } = await silentAfterSelect();
    expect(
      reading,
      `Redis fell silent after the SELECT, and deadlineMs is ${HASTY_MS}: read must end by then, with the row or an error`,
    ).not.toBe('still waiting');
    expect(
      await outcomeInTime(() => view.read(2)),
      `Redis is still silent, and deadlineMs is ${HASTY_MS}: read must reject by then`,
    ).toEqual(REJECTION);
    expect(unhandled(), 'errors that nobody has caught: each ends the process').toEqual([]);
  });

  test('in a cluster, all keys of a product are in the slot of the stream', async () => {
    const view = openView();
    await view.read(1);
    await view.accept(1, { price: '20.00' });
    await workOnce(view);
    await view.accept(1, { stock: 5 });
    await view.read(1);
    await filled();
    const elsewhere = (await viewKeys()).filter((key) => hashTag(key) !== hashTag(STREAM));
    expect(
      elsewhere,
      `keys with another hash tag than ${STREAM}: a cluster refuses a script whose keys are in two slots`,
    ).toEqual([]);
  });
});

/** Deadlines that a busy machine keeps. */
const PATIENT = { deadlineMs: 3000 };

function openView(redis: Redis = servers.redis, db: Pool = servers.db): PendingWrites {
  return createPendingWrites({ redis, db, ...PATIENT });
}

/** The worker takes what waits, commits it or is refused, and reports it. */
const workOnce = (view: PendingWrites, count?: number) => work(servers.redis, servers.db, view, count);

const row = (id: number) => selectProduct(servers.db, id);

/** All keys in Redis but the stream, and the one by which the course knows its database. */
const viewKeys = async () =>
  (await watcher.keys('*')).filter((key) => key !== STREAM && !key.startsWith('caching-deep-dive:'));

/** As before the test: nothing is pending, applied or in a view. */
async function startOver() {
  await servers.redis.del(STREAM, ...(await viewKeys()));
  await servers.db.query('DELETE FROM applied_writes');
  const { name, price, stock } = MUG;
  await servers.db.query('UPDATE products SET ? WHERE id = 1', [{ name, price, stock }]);
}

/** What Redis Cluster takes the slot from. */
const hashTag = (key: string) => /^[^{]*\{([^}]+)\}/.exec(key)?.[1] ?? key;

/** Waits for the copy of the row, which a read need not wait for. */
async function filled() {
  await sleep(1);
  // Behind what the view has sent.
  await servers.redis.ping();
}

/** Every key that has a TTL expires now. */
async function timePasses() {
  await filled();
  for (const key of await viewKeys()) {
    if ((await servers.redis.pttl(key)) >= 0) await servers.redis.del(key);
  }
}

/** With a deadline that passes at once in {@link outcomeInTime}. */
const openHasty = (redis: Redis, db: Pool = servers.db) =>
  createPendingWrites({ redis, db, deadlineMs: HASTY_MS });

/** What a call comes to, when half as much again as its deadline has passed since `sent`: its last command to Redis. */
async function outcomeInTime(call: () => Promise<unknown>, sent: () => Promise<unknown> = () => sleep(2)) {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const ending = outcome(call());
    await Promise.race([sent(), ending]);
    vi.advanceTimersByTime(1.5 * HASTY_MS);
    return await ending;
  } finally {
    vi.useRealTimers();
  }
}

/** A read of product 1, for which Redis falls silent between its SELECT and its next command. */
async function silentAfterSelect() {
  const mysqlProxy = await openProxy(servers.mysqlUrl);
  const { proxy, redis } = await redisBehindProxy(servers, { maxRetriesPerRequest: null });
  const db = servers.connectDb({}, mysqlProxy.url);
  const view = openHasty(redis, db);
  await db.query('SELECT 1');
  const select = mysqlProxy.hold(/FROM products/i);
  const reading = await outcomeInTime(
    () => view.read(1),
    async () => {
      await select.arrived;
      const next = proxy.hold(/./);
      select.release();
      await next.arrived;
    },
  );
  return { view, reading };
}

/** Writes product 1, again and again, until the copy of its row is older than its TTL. */
async function writeBeyond(ttlMs: number, isCommitted: boolean) {
  await startOver();
  const view = createPendingWrites({ redis: servers.redis, db: servers.db, viewTtlMs: ttlMs, ...PATIENT });
  await view.read(1);
  await filled();
  const end = performance.now() + ttlMs + 20;
  let [last, longestMs] = [performance.now(), 0];
  await servers.db.query("UPDATE products SET name = 'new' WHERE id = 1");
  for (let stock = 1; ; stock++) {
    const isOld = performance.now() > end;
    await view.accept(1, { stock });
    const writes = isCommitted ? await take(servers.redis, 'worker') : [];
    for (const write of writes) await view.committed(write);
    const seen = await view.read(1);
    longestMs = Math.max(longestMs, performance.now() - last);
    last = performance.now();
    if (isOld) return { seen, longestMs };
    await sleep(10);
  }
}

/** A reader of product 1 that has looked at the view and at the row, and stands before its next command. */
async function readsOldRow() {
  const [redisProxy, mysqlProxy] = [await openProxy(servers.redisUrl), await openProxy(servers.mysqlUrl)];
  const redis = servers.connectRedis({}, redisProxy.url);
  await redis.ping();
  const reader = openView(redis, servers.connectDb({}, mysqlProxy.url));
  const select = mysqlProxy.hold(/FROM products/i);
  const reading = outcome(reader.read(1), 3000);
  await Promise.race([select.arrived, reading]);
  const next = redisProxy.hold(/./);
  select.release();
  await Promise.race([next.arrived, reading.then(() => sleep(50))]);
  return {
    async goesOn() {
      next.release();
      await reading;
      // A fill that the reader does not wait for.
      await redis.ping();
    },
  };
}

/** The next ids of the stream end in -9 and -10. */
async function endIdsIn8() {
  await take(servers.redis, 'nobody');
  await servers.redis.call('XSETID', STREAM, '9000000000000-8');
}
