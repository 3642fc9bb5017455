import type { Redis } from 'ioredis';
import type { Pool, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure, median } from '#claims';
import { transaction } from '#kit/given';
import { openPool } from '#kit/pool';
import { createSale } from './flash-sale';
import { CREATE_ITEMS, CREATE_ORDERS, gateKey, insertOrder, type Request, readStock } from './given';

const ITEM = 1;
const UNITS = 10;
const GATE_MS = 600_000;

/** One way to sell a unit. True: an order was written. */
type Sell = (request: Request) => Promise<boolean>;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, mysqlUrl } = servers();
    const db = openPool(mysqlUrl, { connectionLimit: 10 });
    const it = { redis, db };
    try {
      await db.query(CREATE_ITEMS);
      await db.query(CREATE_ORDERS);
      // All connections are open before it begins.
      await Promise.all(Array.from({ length: 10 }, () => db.query('SELECT SLEEP(0.01)')));
      const sold = await unitsSold(it);
      const many = quick ? 300 : 1_000;
      const refused = await refusedBuyers(it, quick ? 50 : 500);
      const times = await timesOf(it, many, quick ? 3 : 5);
      const promised = await promisedTooMuch(it, many);
      const sale = `orders of ${UNITS} units, a hundred buyers, and a failover of Redis to a replica that lags:`;
      const claims: Claim[] = [
        {
          name: 'sold-read',
          says: `${sale} SELECT, check, UPDATE`,
          value: sold.read,
          unit: 'orders',
          atLeast: UNITS + 1,
        },
        {
          name: 'sold-counter',
          says: `${sale} DECR is the truth`,
          value: sold.counter,
          unit: 'orders',
          atLeast: UNITS + 1,
        },
        {
          name: 'sold-gate',
          says: `${sale} gate and row`,
          value: sold.gate,
          unit: 'orders',
          atLeast: UNITS,
          atMost: UNITS,
        },
        {
          name: 'refused-gate',
          says: 'SQL statements for each refused buyer, BEGIN and COMMIT included: with the gate',
          value: refused.gate,
          unit: 'statements',
          atMost: 0,
        },
        {
          name: 'faster',
          says: 'time until all buyers are answered, many buyers of ten units: without the gate against with it',
          value: times.row / times.gate,
          unit: '×',
          atLeast: 1.3,
        },
        {
          name: 'refused-row',
          says: 'SQL statements for each refused buyer, BEGIN and COMMIT included: without the gate',
          value: refused.row,
          unit: 'statements',
          atLeast: 2,
        },
        {
          name: 'sold-row',
          says: `${sale} conditional UPDATE, no gate`,
          value: sold.row,
          unit: 'orders',
          atLeast: UNITS,
          atMost: UNITS,
        },
        {
          name: 'sold-lock',
          says: `${sale} SELECT … FOR UPDATE, no gate`,
          value: sold.lock,
          unit: 'orders',
          atLeast: UNITS,
          atMost: UNITS,
        },
        {
          name: 'wrong-gate',
          says: 'buyers who cost SQL although nothing was left, when the gate promised a thousand units too many: share of all',
          value: promised,
          unit: '%',
          atMost: 25,
        },
        ...(quick
          ? []
          : [
              {
                name: 'time-gate',
                says: '1,000 buyers of 10 units, until all are answered: with the gate',
                value: times.gate,
                unit: 'ms',
              },
              {
                name: 'time-row',
                says: '1,000 buyers of 10 units, until all are answered: conditional UPDATE, no gate',
                value: times.row,
                unit: 'ms',
              },
            ]),
      ];
      return { claims, plots: quick ? [] : [soldBars(sold), await byBuyers(it)] };
    } finally {
      await redis.del(gateKey(ITEM));
      await db.query('DROP TABLE IF EXISTS sale_items, sale_orders');
      await db.end();
    }
  },
});

interface Servers {
  readonly redis: Redis;
  readonly db: Pool;
}

const from = (buyerId: number): Request => ({ itemId: ITEM, buyerId, requestId: `measure ${buyerId}` });
const buyers = (count: number) => Array.from({ length: count }, (_, i) => from(i + 1));

async function putOnSale({ redis, db }: Servers, units: number): Promise<void> {
  const keys = await redis.keys('sale:*');
  if (keys.length > 0) await redis.del(keys);
  await db.query('DELETE FROM sale_orders');
  await db.query('REPLACE INTO sale_items (id, stock) VALUES (?, ?)', [ITEM, units]);
}

async function orders(db: Pool): Promise<number> {
  const [rows] = await db.query<RowDataPacket[]>('SELECT COUNT(*) AS n FROM sale_orders');
  return Number(rows[0]?.n);
}

const gated = ({ redis, db }: Servers): Sell => {
  // A busy machine is not an outage of Redis.
  const sale = createSale({ redis, db, gateMs: GATE_MS, redisMs: 10_000, mysqlMs: 30_000 });
  return async (request) => (await sale.reserve(request)).kind === 'reserved';
};

const readCheckWrite =
  ({ db }: Servers): Sell =>
  (request) =>
    transaction(db, async (connection) => {
      const stock = await readStock(connection, ITEM);
      if (stock < 1) return false;
      await connection.query('UPDATE sale_items SET stock = ? WHERE id = ?', [stock - 1, ITEM]);
      await insertOrder(connection, request);
      return true;
    });

const conditionalUpdate =
  ({ db }: Servers): Sell =>
  (request) =>
    transaction(db, async (connection) => {
      const [{ affectedRows }] = await connection.query<ResultSetHeader>(
        'UPDATE sale_items SET stock = stock - 1 WHERE id = ? AND stock >= 1',
        [ITEM],
      );
      if (affectedRows === 0) return false;
      await insertOrder(connection, request);
      return true;
    });

const lockFirst =
  ({ db }: Servers): Sell =>
  (request) =>
    transaction(db, async (connection) => {
      const [rows] = await connection.query<RowDataPacket[]>(
        'SELECT stock FROM sale_items WHERE id = ? FOR UPDATE',
        [ITEM],
      );
      if (Number(rows[0]?.stock) < 1) return false;
      await connection.query('UPDATE sale_items SET stock = stock - 1 WHERE id = ?', [ITEM]);
      await insertOrder(connection, request);
      return true;
    });

const counterOnly =
  ({ redis, db }: Servers): Sell =>
  async (request) => {
    if ((await redis.decr(gateKey(ITEM))) < 0) return false;
    await insertOrder(db, request);
    return true;
  };

/** A hundred buyers in each way. After fifty of them Redis fails over, to a replica that has seen five sales. */
async function unitsSold(it: Servers) {
  const sell = async (way: Sell) => {
    await putOnSale(it, UNITS);
    await it.redis.set(gateKey(ITEM), UNITS, 'PX', GATE_MS);
    const all = buyers(100);
    await Promise.all(all.slice(0, 50).map(way));
    await it.redis.set(gateKey(ITEM), UNITS - 5, 'PX', GATE_MS);
    await Promise.all(all.slice(50).map(way));
    return orders(it.db);
  };
  return {
    read: await sell(readCheckWrite(it)),
    counter: await sell(counterOnly(it)),
    row: await sell(conditionalUpdate(it)),
    lock: await sell(lockFirst(it)),
    gate: await sell(gated(it)),
  };
}

/** What a buyer costs who comes when nothing is left. */
async function refusedBuyers(it: Servers, count: number) {
  const statements = async (way: Sell) => {
    await putOnSale(it, 0);
    await way(from(1));
    const before = await sent(it.db);
    await Promise.all(
      buyers(count)
        .map(({ buyerId }) => from(buyerId + 1))
        .map(way),
    );
    return ((await sent(it.db)) - before) / count;
  };
  return { gate: await statements(gated(it)), row: await statements(conditionalUpdate(it)) };
}

async function sent(db: Pool): Promise<number> {
  const [rows] = await db.query<RowDataPacket[]>(
    "SHOW GLOBAL STATUS WHERE Variable_name IN ('Com_begin', 'Com_commit', 'Com_rollback', 'Com_select', 'Com_update', 'Com_insert')",
  );
  return rows.reduce((sum, row) => sum + Number(row.Value), 0);
}

async function timeOf(it: Servers, way: Sell, count: number): Promise<number> {
  await putOnSale(it, UNITS);
  const began = performance.now();
  await Promise.all(buyers(count).map(way));
  return performance.now() - began;
}

/** The two ways in turn. */
async function timesOf(it: Servers, count: number, rounds: number) {
  const gate: number[] = [];
  const row: number[] = [];
  for (let round = 0; round < rounds; round++) {
    gate.push(await timeOf(it, gated(it), count));
    row.push(await timeOf(it, conditionalUpdate(it), count));
  }
  return { gate: median(gate), row: median(row) };
}

/** How many buyers the row refuses before the gate is right: ten at a time, as many as the pool has connections. */
async function promisedTooMuch(it: Servers, count: number): Promise<number> {
  await putOnSale(it, UNITS);
  await it.redis.set(gateKey(ITEM), UNITS + 1_000, 'PX', GATE_MS);
  let refused = 0;
  const all = buyers(count);
  const before = await updates(it.db);
  for (let first = 0; first < count; first += 10)
    await Promise.all(all.slice(first, first + 10).map(gated(it)));
  refused = (await updates(it.db)) - before - UNITS;
  return (100 * refused) / count;
}

async function updates(db: Pool): Promise<number> {
  const [rows] = await db.query<RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Com_update'");
  return Number(rows[0]?.Value);
}

const soldBars = (sold: Awaited<ReturnType<typeof unitsSold>>) => ({
  name: 'sold',
  title: `Orders of ${UNITS} units, by a hundred buyers, with a failover of Redis to a replica that lags`,
  label: 'orders',
  bars: [
    ['SELECT, check, UPDATE', sold.read],
    ['DECR is the truth', sold.counter],
    ['SELECT … FOR UPDATE', sold.lock],
    ['conditional UPDATE', sold.row],
    ['gate and row', sold.gate],
  ] as const,
});

async function byBuyers(it: Servers) {
  const counts = [30, 100, 300, 1_000, 2_000];
  const points: { count: number; gate: number; row: number }[] = [];
  for (const count of counts) points.push({ count, ...(await timesOf(it, count, 3)) });
  return {
    name: 'time',
    title: `Time until all buyers are answered, by their number; ${UNITS} units, 10 connections to MySQL`,
    x: { label: 'buyers at once', scale: 'log' as const },
    y: { label: 'ms', scale: 'log' as const },
    series: [
      { name: 'no gate', points: points.map(({ count, row }) => [count, row] as const) },
      { name: 'with the gate', points: points.map(({ count, gate }) => [count, gate] as const) },
    ],
  };
}
