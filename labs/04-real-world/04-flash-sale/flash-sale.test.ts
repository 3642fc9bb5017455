import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { explore } from '#kit/explore';
import { redisBehindProxy } from '#kit/faulty-redis';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, until } from '#kit/waiting';
import { createSale, type Options } from './flash-sale';
import {
  BusyError,
  CREATE_ITEMS,
  CREATE_ORDERS,
  gateKey,
  LIMIT_PER_BUYER,
  payOrder,
  type Request,
  readStock,
} from './given';

const servers = useServers();

beforeAll(async () => {
  await servers.db.query(CREATE_ITEMS);
  await servers.db.query(CREATE_ORDERS);
});
beforeEach(() => putOnSale(10));

const ITEM = 1;
const GATE = gateKey(ITEM);
const GATE_MS = 57_300;
const SOLD_OUT = { kind: 'sold out' };
const RESERVED = { kind: 'reserved', orderId: expect.any(Number) };
const REJECTION = expect.stringMatching(/^rejected/);

describe('Core', () => {
  test('a reservation takes one unit from the row and writes one order', async () => {
    await putOnSale(2);
    const sale = openSale();
    const first = await sale.reserve(from(1));
    expect(first, 'two units are left: reserve must return the order').toEqual(RESERVED);
    expect(await rows(), 'the row and the orders after one reservation').toEqual({ stock: 1, orders: [1] });
    const second = await sale.reserve(from(2));
    expect(second, 'one unit is left: reserve must return an order').toEqual(RESERVED);
    expect(second, 'the orders of two buyers must have two ids').not.toEqual(first);
    expect(await sale.reserve(from(3)), 'no unit is left').toEqual(SOLD_OUT);
    expect(await rows(), 'the row and the orders: two units, three buyers').toEqual({
      stock: 0,
      orders: [1, 2],
    });
  });

  test('a hundred buyers of ten units get exactly ten orders', async () => {
    const outcomes = await reserveAll(buyers(100), openSale(), openSale(elsewhere()));
    const { stock, orders } = await rows();
    expect(orders.length, 'orders in MySQL: there were ten units').toBe(10);
    expect(stock, 'stock of the row, after ten orders of ten units').toBe(0);
    expect(
      kinds(outcomes),
      'outcomes of the hundred buyers: each must get an order, or that it is sold out',
    ).toEqual({ reserved: 10, 'sold out': 90 });
  });

  test('a buyer who comes after the last unit costs no SQL', async () => {
    const sale = openSale();
    for (const buyer of buyers(10)) await sale.reserve(buyer);
    const late = openSale(elsewhere());
    let outcomes: unknown[] = [];
    const work = await servers.work(async () => {
      outcomes = await reserveAll(buyers(30, 100), late);
    });
    expect(kinds(outcomes), 'outcomes of thirty late buyers').toEqual({ 'sold out': 30 });
    expect(work.sql(), 'SQL statements for them: Redis knows that nothing is left').toBe(0);
  });

  test('a unit and its order are committed together, or not at all', async () => {
    await dieAtEachRequest(async (db, redis, when) => {
      await putOnSale(10);
      await outcome(openSale({ db, redis }).reserve(from(1)));
      const { stock, orders } = await rows();
      expect(
        stock + orders.length,
        `units of the row and of the orders together, of 10. The process died ${when()}`,
      ).toBe(10);
    });
  });

  test('a gate that promises too much sells no more than the row has', async () => {
    await putOnSale(4);
    await servers.redis.set(GATE, 1_000, 'PX', 20_000);
    const outcomes = await reserveAll(buyers(30), openSale(), openSale(elsewhere()));
    expect(await rows(), 'the row had 4 units, and the gate promised 1,000 to 30 buyers').toMatchObject({
      stock: 0,
      orders: { length: 4 },
    });
    expect(kinds(outcomes), 'outcomes of the thirty buyers').toEqual({ reserved: 4, 'sold out': 26 });
    await explore(servers, {
      runs: 5,
      prepare: async () => {
        await putOnSale(1);
        await servers.redis.set(GATE, 1_000, 'PX', 20_000);
      },
      actors: {
        one: (actor) => openSale(actor).reserve(from(1)),
        other: (actor) => openSale(actor).reserve(from(2)),
      },
      verdict: async () => {
        const { stock, orders } = await rows();
        if (orders.length === 1 && stock === 0) return;
        return `one unit was for sale, and MySQL holds ${orders.length} orders and a stock of ${stock}`;
      },
    });
  });

  test('a lost gate is filled from the row, and lives for gateMs from its fill', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    let bare: string | undefined;
    proxy.schedule(async (request) => {
      if ((await servers.redis.pttl(GATE)) === -1) bare ??= request;
    });
    const sale = openSale({ redis });
    await sale.reserve(from(1));
    await expectTtl(servers.redis, GATE, GATE_MS, 'the gate must live for gateMs');
    expect(await gate(), 'units of the gate: the row had 10, and one of them is sold').toBe(9);
    await servers.redis.pexpire(GATE, 20_000);
    await sale.reserve(from(2));
    await expectTtl(servers.redis, GATE, 20_000, 'a reservation must not change the TTL, which was 20,000');
    await servers.redis.set(GATE, 0, 'PX', 20_000);
    expect(await sale.reserve(from(3)), 'the gate says that nothing is left').toEqual(SOLD_OUT);
    await expectTtl(servers.redis, GATE, 20_000, 'a refusal must not change the TTL, which was 20,000');

    await servers.redis.del(GATE);
    expect(await sale.reserve(from(4)), 'Redis has lost the gate, and the row has units').toEqual(RESERVED);
    expect(await gate(), 'units of the gate that was filled again: three of ten are sold').toBe(7);
    await servers.redis.del(GATE);
    await createSale({ redis: servers.redis, db: servers.db }).reserve(from(5));
    await expectTtl(servers.redis, GATE, 5_000, 'without gateMs, a gate must live for 5,000 ms');
    expect(
      bare,
      'when this command was sent, the gate had no TTL: if the process dies before it, a wrong gate stays forever',
    ).toBeUndefined();
  });
});

describe('In production', () => {
  test('a request that gets no order gives its unit back to the gate, once', async () => {
    const sale = openSale();
    for (let nth = 0; nth < LIMIT_PER_BUYER; nth++) await sale.reserve(from(1, `${nth}`));
    const before = await gate();
    const failures: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      'gives no answer': (proxy) => proxy.blackHole(),
    };
    for (const [failure, strike] of Object.entries(failures)) {
      const { proxy, db } = await behindMysqlProxy();
      await strike(proxy);
      expect(
        await outcome(openSale({ db, mysqlMs: 60 }).reserve(from(2, failure))),
        `MySQL ${failure}: reserve must reject within mysqlMs, 60`,
      ).toEqual(REJECTION);
      await expectGate(before, `units of the gate after an order that failed, because MySQL ${failure}`);
    }
    const silent = await behindMysqlProxy();
    silent.proxy.blackHole();
    await loseRedis();
    expect(
      await outcome(openSale({ db: silent.db, mysqlMs: 60 }).reserve(from(2))),
      'Redis has lost the gate, and MySQL gives no answer to fill it: reserve must reject in time',
    ).toEqual(REJECTION);
    await openSale().reserve(from(3));
    const refilled = await gate();
    expect(
      await sale.reserve(from(1, 'one more')),
      `buyer 1 has ${LIMIT_PER_BUYER} units already, as many as LIMIT_PER_BUYER allows`,
    ).toEqual({ kind: 'over the limit' });
    await expectGate(refilled, 'units of the gate after a request over the limit: a bot can send a thousand');
  });

  test('a unit that comes back to a lost gate does not make a gate', async () => {
    await putOnSale(6);
    const { proxy, db } = await behindMysqlProxy();
    const sale = openSale();
    await sale.reserve(from(1));
    const held = proxy.hold(/./);
    const reserving = outcome(openSale({ db }).reserve(from(2)));
    await Promise.race([held.arrived, reserving]);
    await loseRedis();
    await proxy.refuse();
    expect(await reserving, 'MySQL has gone away: reserve must reject').toEqual(REJECTION);
    const sell = async (first: number) => {
      const outcomes = [];
      for (const buyer of buyers(3, first)) outcomes.push(await outcome(sale.reserve(buyer)));
      return kinds(outcomes);
    };
    expect(
      await sell(10),
      'outcomes of three buyers, with five units in the row: Redis was emptied, and then an order failed',
    ).toEqual({ reserved: 3 });

    await loseRedis();
    await letPass(1);
    await sale.expire();
    expect(
      await sell(20),
      'outcomes of three buyers, with three units in the row: Redis was emptied, and then an order expired',
    ).toEqual({ reserved: 3 });
  });

  test('the same request again is the same order', async () => {
    await putOnSale(3);
    const five = Array(5).fill(from(1, 'same'));
    const again = await reserveAll(five, openSale(), openSale(elsewhere()));
    const [first] = again;
    expect(first, 'five times the same request at once, and three units').toEqual(RESERVED);
    expect(again, 'outcomes of the five calls: each must get the order of the first one').toEqual(
      Array(5).fill(first),
    );
    expect(await rows(), 'the row and the orders: one request, one unit').toEqual({ stock: 2, orders: [1] });
    await expectGate(2, 'units of the gate: one request must take one unit of three');
    const other = await outcome(openSale().reserve(from(2, 'same')));
    expect(other, 'buyer 2 has sent the id of buyer 1: it must get an order').toEqual(RESERVED);
    expect(other, 'buyer 2 must not get the order of buyer 1').not.toEqual(first);
    await openSale().reserve(from(3));
    expect(await openSale().reserve(from(4)), 'all three units are sold').toEqual(SOLD_OUT);
    expect(
      await outcome(openSale().reserve(from(1, 'same'))),
      'the request of buyer 1 again, after the last unit was sold: it must get its order',
    ).toEqual(first);

    expect(await keysWithoutTtl(), 'keys that are noted and never expire').toEqual([]);

    await putOnSale(1);
    const sale = openSale({ gateMs: 100 });
    const last = await sale.reserve(from(1));
    await sleep(130);
    expect(await sale.reserve(from(5)), 'the gate has ended, and the row has no unit').toEqual(SOLD_OUT);
    expect(
      await outcome(sale.reserve(from(1))),
      'the request of buyer 1 again, after the gate has ended and was filled with 0: it must get its order',
    ).toEqual(last);

    await putOnSale(1);
    const lost = await outcome(openSale({ db: await losingTheAnswerOfCommit() }).reserve(from(1)));
    expect(lost, 'MySQL has committed, and the connection has ended before its answer').toEqual(REJECTION);
    for (const buyer of buyers(2, 10)) await openSale().reserve(buyer);
    expect(
      await outcome(openSale().reserve(from(1))),
      'the request of buyer 1 again, after the answer of COMMIT was lost: its order stands, and it must get it',
    ).toEqual(RESERVED);
  });

  test('a buyer never gets more units than the limit, whatever it sends at once', async () => {
    let nth = 0;
    const buy = (actor: Partial<Options>) => openSale(actor).reserve(from(1, `${nth++}`));
    await explore(servers, {
      runs: 6,
      prepare: async () => {
        await putOnSale(10);
        for (let i = 1; i < LIMIT_PER_BUYER; i++) await buy({});
      },
      actors: { one: buy, other: buy },
      verdict: async () => {
        const { stock, orders } = await rows();
        if (orders.length === LIMIT_PER_BUYER && stock === 10 - LIMIT_PER_BUYER) return;
        return `a buyer with ${LIMIT_PER_BUYER - 1} of ${LIMIT_PER_BUYER} units asked for two more: it has ${orders.length} orders, and ${stock} of 10 units are left`;
      },
    });
    await letPass(1);
    await openSale().expire();
    expect(
      await outcome(buy({})),
      'the orders of this buyer have expired: they must not count any more',
    ).toEqual(RESERVED);
  });

  test('a reservation that is not paid in time comes back once, to the row and to the gate', async () => {
    const sale = openSale();
    for (const buyer of buyers(10)) await sale.reserve(buyer);
    for (const buyer of buyers(20, 20)) await sale.reserve(buyer);
    expect(await sale.expire(), 'no order is due yet').toBe(0);
    await letPass(1, 2, 3);
    const [one, other] = await Promise.all([sale.expire(), openSale(elsewhere()).expire()]);
    expect(one + other, 'orders that two workers have expired: three were due').toBe(3);
    expect(await rows(), 'the row, and the buyers of orders that have not expired').toEqual({
      stock: 3,
      orders: [4, 5, 6, 7, 8, 9, 10],
    });
    await expectGate(3, 'units of the gate: three came back, after twenty buyers were refused');
    expect(await outcome(sale.reserve(from(50))), 'a unit has come back').toEqual(RESERVED);
    await explore(servers, {
      runs: 5,
      prepare: async () => {
        await putOnSale(1);
        await openSale().reserve(from(1));
        await letPass(1);
      },
      actors: { one: (actor) => openSale(actor).expire(), other: (actor) => openSale(actor).expire() },
      verdict: async () => {
        const { stock } = await rows();
        return stock === 1 ? undefined : `one unit was reserved and has expired: the stock is ${stock}`;
      },
    });
    await dieAtEachRequest(async (db, redis, when) => {
      await putOnSale(1);
      await openSale().reserve(from(1));
      await letPass(1);
      await outcome(openSale({ db, redis, redisMs: 20 }).expire());
      await openSale().expire();
      expect((await rows()).stock, `stock. A worker died ${when()}, and another one ran after it`).toBe(1);
    });
    const silent = await behindMysqlProxy();
    silent.proxy.blackHole();
    expect(
      await outcome(openSale({ db: silent.db, mysqlMs: 60 }).expire()),
      'MySQL gives no answer to a worker: expire must reject in time, or the worker never runs again',
    ).toEqual(REJECTION);
  });

  test('an order is paid or expires, and never both', async () => {
    let paid = false;
    let orderId = 0;
    await explore(servers, {
      runs: 6,
      prepare: async () => {
        await putOnSale(1);
        const reserved = await openSale().reserve(from(1));
        orderId = reserved.kind === 'reserved' ? reserved.orderId : 0;
        await letPass(1);
      },
      actors: {
        checkout: async ({ db }) => {
          paid = await payOrder(db, orderId);
        },
        worker: (actor) => openSale(actor).expire(),
      },
      verdict: async () => {
        const { stock, orders } = await rows();
        if (orders.length === (paid ? 1 : 0) && stock === (paid ? 0 : 1)) return;
        return `the payment was ${paid ? 'accepted' : 'refused'}: ${orders.length} orders stand, and ${stock} units are for sale`;
      },
    });
    await putOnSale(1);
    await openSale().reserve(from(1));
    await letPass(1);
    expect(await openSale().expire(), 'orders that expire was to end: one was due, and nobody has paid').toBe(
      1,
    );
  });

  test('while Redis does not answer the row decides, and few calls ask it at once', async () => {
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      'gives no answer': (proxy) => proxy.blackHole(),
    };
    for (const [fault, strike] of Object.entries(faults)) {
      await putOnSale(2);
      const { proxy, redis } = await redisBehindProxy(servers);
      await strike(proxy);
      const { proxy: mysqlProxy, db } = await behindMysqlProxy();
      const errors: unknown[] = [];
      const onGateError = (error: unknown) => errors.push(error);
      const sale = openSale({ redis, db, redisMs: 30, maxUngated: 2, mysqlMs: 5_000, onGateError });
      mysqlProxy.stall();
      let refused = 0;
      const calls = buyers(8).map(async (buyer) => {
        const result = await rejectionOf(() => sale.reserve(buyer));
        if (result instanceof BusyError) refused++;
        return result;
      });
      await until(() => refused >= 6);
      expect(
        refused,
        `calls that rejected with BusyError. Redis ${fault}, maxUngated is 2, MySQL is slow, and 8 calls came at once`,
      ).toBe(6);
      expect(errors.length, `errors given to onGateError while Redis ${fault}`).toBeGreaterThan(0);
      await mysqlProxy.heal();
      const ended = await outcome(Promise.all(calls));
      expect(ended, `Redis ${fault}, and the row has 2 units: two calls must get them`).toEqual(
        expect.arrayContaining([RESERVED, RESERVED]),
      );
      expect(
        await outcome(sale.reserve(from(20))),
        `Redis ${fault}, and the row is empty: after the two calls, there is room for this one`,
      ).toEqual(SOLD_OUT);
      const { db: dead } = await deadMysql();
      const away = openSale({ redis, db: dead, redisMs: 10, maxUngated: 1 });
      for (const buyer of buyers(2, 30)) {
        expect(
          await rejectionOf(() => away.reserve(buyer)),
          `Redis ${fault} and MySQL is away too: each call must reject with the error of MySQL, one after the other`,
        ).toMatchObject({ code: 'ECONNREFUSED' });
      }
      expect((await rows()).orders.length, 'orders, of two units').toBe(2);
      expect(
        await outcome(createSale({ redis, db: servers.db }).reserve(from(40)), 3_000),
        `Redis ${fault}, and the row is empty; without redisMs an answer may take 100 ms`,
      ).toEqual(SOLD_OUT);
      await letPass(...buyers(8).map(({ buyerId }) => buyerId));
      errors.length = 0;
      await expectExpiredWithoutGate(sale, errors, fault);
      await proxy.heal();
      await expectGateIsUsed(sale);
    }
  });

  test('a gate that promises too much is closed by the first refusal of the row', async () => {
    await putOnSale(2);
    await servers.redis.set(GATE, 1_000, 'PX', GATE_MS);
    const sale = openSale();
    const work = await servers.work(async () => {
      for (const buyer of buyers(60)) await outcome(sale.reserve(buyer));
    });
    expect((await rows()).orders, 'buyers with an order: the row had two units').toEqual([1, 2]);
    expect(
      work.sql('update', 'select'),
      'SELECTs and UPDATEs for 60 buyers of two units: once the row has refused a buyer, the gate must not let more in',
    ).toBeLessThan(15);
    expect(await servers.redis.pttl(GATE), 'PTTL of the closed gate: it must end, too').not.toBe(-1);
    await letPass(1);
    await sale.expire();
    expect(
      await outcome(sale.reserve(from(90))),
      'an order has expired after the gate was closed: its unit must be for sale',
    ).toEqual(RESERVED);
  });

  test('a lost gate is filled once for all buyers who wait', async () => {
    await putOnSale(0);
    await servers.db.query('REPLACE INTO sale_items (id, stock) VALUES (?, 0)', [ITEM + 1]);
    const sale = openSale();
    const all = buyers(60).map((buyer, i) => ({ ...buyer, itemId: ITEM + (i % 2) }));
    let outcomes: unknown[] = [];
    const work = await servers.work(async () => {
      outcomes = await reserveAll(all, sale);
    });
    expect(kinds(outcomes), 'outcomes of 30 buyers each of two items: both rows are empty').toEqual({
      'sold out': 60,
    });
    expect(
      work.sql(),
      'SQL statements, when 60 buyers came at once and Redis had lost the gates of two items that are sold out',
    ).toBeLessThanOrEqual(4);
  });

  test('a transaction that MySQL rolls back because of others is tried again', async () => {
    await putOnSale(3);
    const sale = openSale();
    await sale.reserve(from(1));
    // Heavier than the transaction of one buyer, so that MySQL rolls back the other one.
    const other = await servers.db.getConnection();
    await other.beginTransaction();
    await other.query(insertMany(ITEM + 1, 60));
    await other.query(insertMany(ITEM, 1, 'contested'));
    const { proxy, db } = await behindMysqlProxy();
    let sent = 0;
    proxy.schedule(async () => void sent++);
    const reserving = outcome(openSale({ db }).reserve(from(1, 'contested')), 3_000);
    await Promise.race([reserving, until(async () => sent > 1 && (await someoneWaitsForALock()))]);
    await other.query('UPDATE sale_items SET stock = stock WHERE id = ?', [ITEM]);
    await other.rollback();
    other.release();
    expect(
      await reserving,
      'MySQL has rolled back the transaction of this buyer as the victim of a deadlock: it must be tried again',
    ).toEqual(RESERVED);
    expect(await rows(), 'the row and the orders: two orders of three units').toMatchObject({
      stock: 1,
      orders: { length: 2 },
    });
  });
});

/** Its deadlines are long: a busy machine is not an outage. */
const openSale = (options: Partial<Options> = {}) =>
  createSale({
    redis: servers.redis,
    db: servers.db,
    gateMs: GATE_MS,
    redisMs: 3_000,
    mysqlMs: 10_000,
    ...options,
  });

/** All buyers at once, each in one of the processes. */
const reserveAll = (all: readonly Request[], ...sales: readonly ReturnType<typeof openSale>[]) =>
  Promise.all(all.map((buyer, i) => outcome(pick(sales, i).reserve(buyer), 4_000)));

/** The connections of another process. */
const elsewhere = () => ({ redis: servers.connectRedis(), db: servers.connectDb() });

const from = (buyerId: number, requestId = 'r1'): Request => ({ itemId: ITEM, buyerId, requestId });
const buyers = (count: number, first = 1) => Array.from({ length: count }, (_, i) => from(first + i));

function pick<T>(all: readonly T[], i: number): T {
  const one = all[i % all.length];
  if (one === undefined) throw new Error('nothing to pick from');
  return one;
}

/** How many of each kind; a rejection is its own text. */
function kinds(outcomes: readonly unknown[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const each of outcomes) {
    const kind = typeof each === 'string' ? each : String(Object(each).kind);
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** A new sale: nobody has ordered, and Redis knows nothing. */
async function putOnSale(stock: number): Promise<void> {
  await loseRedis();
  await servers.db.query('DELETE FROM sale_orders');
  await servers.db.query('REPLACE INTO sale_items (id, stock) VALUES (?, ?)', [ITEM, stock]);
}

/** FLUSHALL, a restart without persistence, or a failover to an empty replica. */
async function loseRedis(): Promise<void> {
  const keys = await keysOfTheSale();
  if (keys.length > 0) await servers.redis.del(keys);
}

/** What the course itself keeps there has a name of its own. */
const keysOfTheSale = async () =>
  (await servers.redis.keys('*')).filter((key) => !key.startsWith('caching-deep-dive:'));

async function keysWithoutTtl(): Promise<string[]> {
  const keys = await keysOfTheSale();
  const ttls = await Promise.all(keys.map((key) => servers.redis.pttl(key)));
  return keys.filter((_, i) => ttls[i] === -1);
}

/** `orders`: the buyers of those that have not expired. */
async function rows() {
  const [orders] = await servers.db.query<RowDataPacket[]>(
    `SELECT buyer_id FROM sale_orders WHERE status <> 'expired' ORDER BY buyer_id, id`,
  );
  return { stock: await readStock(servers.db, ITEM), orders: orders.map((row) => row.buyer_id as number) };
}

/** The units of the gate; undefined when there is no gate. */
async function gate(): Promise<number | undefined> {
  const units = await servers.redis.get(GATE);
  return units === null ? undefined : Number(units);
}

/** After an outage. A pause before Redis is asked again is right too. */
const expectGateIsUsed = (sale: ReturnType<typeof openSale>) => {
  let buyer = 100;
  return expect
    .poll(() => outcome(sale.reserve(from(buyer++))).then(gate), {
      timeout: 3_000,
      interval: 10,
      message: 'units of the gate: Redis works again, and buyers come, so it must be filled again',
    })
    .toBeDefined();
};

/** Two orders are due, and their units must come back to the row. */
async function expectExpiredWithoutGate(
  sale: ReturnType<typeof openSale>,
  errors: readonly unknown[],
  fault: string,
): Promise<void> {
  expect(
    await outcome(sale.expire()),
    `orders that expire has ended while Redis ${fault}: two were due, and their units must come back to the row`,
  ).toBe(2);
  await until(() => errors.length > 0);
  expect(errors.length, `errors given to onGateError by expire while Redis ${fault}`).toBeGreaterThan(0);
}

/** A gate that was deleted is right too: the next buyer fills it from the row. */
async function expectGate(units: number | undefined, message: string): Promise<void> {
  const isRight = async () => [units, undefined].includes(await gate());
  await until(isRight);
  if (!(await isRight())) expect(await gate(), message).toBe(units);
}

/** The time to pay has ended for all orders of these buyers. */
const letPass = (...buyerIds: number[]) =>
  servers.db.query('UPDATE sale_orders SET pay_before = NOW(3) - INTERVAL 1 SECOND WHERE buyer_id IN (?)', [
    buyerIds,
  ]);

/** Orders of buyer 1 and those after it, as text. */
const insertMany = (itemId: number, count: number, requestId = 'other') =>
  `INSERT INTO sale_orders (item_id, buyer_id, request_id, pay_before) VALUES ${Array.from(
    { length: count },
    (_, i) => `(${itemId}, ${i + 1}, '${requestId}', NOW(3))`,
  ).join()}`;

async function behindMysqlProxy() {
  const proxy = await openProxy(servers.mysqlUrl);
  const db = servers.connectDb({}, proxy.url);
  await db.query('SELECT 1');
  return { proxy, db };
}

/** MySQL commits, and the connection ends before its answer comes. */
async function losingTheAnswerOfCommit(): Promise<Pool> {
  const { proxy, db } = await behindMysqlProxy();
  proxy.schedule(async (request) => {
    if (!/^commit/i.test(request)) return;
    // COMMIT is on its way then.
    setImmediate(() => {
      proxy.blackHole();
      void until(async () => (await rows()).orders.length > 0).then(proxy.cut);
    });
  });
  return db;
}

async function deadMysql() {
  const opened = await behindMysqlProxy();
  await opened.proxy.refuse();
  return opened;
}

/** Each account may ask for it. */
async function someoneWaitsForALock(): Promise<boolean> {
  const [found] = await servers.db.query<RowDataPacket[]>(
    "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'",
  );
  return Number(found[0]?.Value) > 0;
}

/** Runs `act` again and again: a process that dies before its first request, its second, and so on. */
async function dieAtEachRequest(act: (db: Pool, redis: Redis, when: () => string) => Promise<void>) {
  for (let nth = 1, sent = 1; sent >= nth - 1; nth++) {
    sent = 0;
    const proxies = await Promise.all([openProxy(servers.redisUrl), openProxy(servers.mysqlUrl)]);
    const redis = servers.connectRedis({ maxRetriesPerRequest: 0, commandTimeout: 500 }, proxies[0].url);
    const db = servers.connectDb({}, proxies[1].url);
    await Promise.all([redis.ping(), db.query('SELECT 1')]);
    let last = '';
    for (const proxy of proxies) {
      proxy.schedule(async (request) => {
        if (++sent !== nth) return;
        last = request.replace(/\s+/g, ' ').trim().slice(0, 50);
        await Promise.all(proxies.map((each) => each.refuse()));
      });
    }
    await act(db, redis, () => (last ? `just before its request ${nth}, ${last}` : 'after its last request'));
    redis.disconnect();
    await Promise.all(proxies.map((proxy) => proxy.close()));
  }
}
