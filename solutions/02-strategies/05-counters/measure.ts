import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { type Claim, defineMeasure, forkScript, type MeasureServers, median, type Plot } from '#claims';
import { seeded } from '#kit/random';
import { createViewCounter, type ViewCounter } from './counters';
import { CREATE_VIEW_BATCHES, DRAINING_KEY, PENDING_KEY } from './given';

const IN_FLIGHT = 32;
const HOT = 1;
/** Of one round in quick mode. */
const CALLS: Readonly<Record<string, number>> = { update: 150, buffered: 600, lock: 30 };
const UPDATE_ONE = 'UPDATE products SET view_count = view_count + 1 WHERE id = ?';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers: open }) {
    const servers = open();
    await servers.loadShop();
    await servers.db.query(CREATE_VIEW_BATCHES);
    const counter = createViewCounter({ ...servers, timeoutMs: 10_000, maxIds: 20_000 });
    const counting = await increments(servers, counter, quick);
    const drains = await drainCost(servers, counter, quick);
    const kills = await killed(servers, counter, quick ? 2 : 25);
    // The next measure finds the shop as it was loaded.
    await servers.db.query('UPDATE products SET view_count = 0 WHERE view_count > 0');
    return { claims: [...counting, ...drains.claims, ...kills], plots: [drains.plot] };
  },
});

/** Many at once against one hot product, and against many: buffered, and as one UPDATE each. */
async function increments({ db }: MeasureServers, counter: ViewCounter, quick: boolean): Promise<Claim[]> {
  const spread = (n: number) => 1 + (n % 1000);
  const contenders = {
    updateHot: () => db.query(UPDATE_ONE, [HOT]),
    updateSpread: (n: number) => db.query(UPDATE_ONE, [spread(n)]),
    bufferedHot: () => counter.increment(HOT),
    bufferedSpread: (n: number) => counter.increment(spread(n)),
    lockHot: () => countInTransaction(db, HOT),
    lockSpread: (n: number) => countInTransaction(db, spread(n)),
  };
  const rates: Record<string, number[]> = {};
  for (let round = 0; round < (quick ? 3 : 5); round++) {
    for (const [name, call] of Object.entries(contenders)) {
      const calls = (quick ? 1 : 3) * (CALLS[name.replace(/[A-Z].*/, '')] ?? 0);
      const rate = calls / (await seconds(() => many(calls, call)));
      rates[name] = [...(rates[name] ?? []), rate];
    }
  }
  await counter.drain();
  type Contender = keyof typeof contenders;
  const rate = (name: Contender) => median(rates[name] ?? []);
  /** The contenders take turns: what slows one round down slows both. */
  const ratio = (one: Contender, other: Contender) =>
    median((rates[one] ?? []).map((each, round) => each / (rates[other]?.[round] ?? Number.NaN)));
  return [
    {
      name: 'buffered-rate',
      says: `increments of one product in Redis, ${IN_FLIGHT} at once`,
      value: rate('bufferedHot'),
      unit: 'ops/s',
    },
    {
      name: 'update-rate',
      says: `increments of one product as one UPDATE each, ${IN_FLIGHT} at once over a pool of 10 connections`,
      value: rate('updateHot'),
      unit: 'ops/s',
    },
    {
      name: 'buffered-vs-update',
      says: 'increments of one product a second: in Redis against one UPDATE each',
      value: ratio('bufferedHot', 'updateHot'),
      unit: '×',
      atLeast: 1.5,
    },
    {
      name: 'hot-update',
      says: 'UPDATEs a second: all of one row against spread over 1,000 rows',
      value: ratio('updateHot', 'updateSpread'),
      unit: '×',
    },
    {
      name: 'hot-transaction',
      says: 'UPDATEs a second, each in a transaction that lasts 2 ms longer: all of one row against spread over 1,000 rows',
      value: ratio('lockHot', 'lockSpread'),
      unit: '×',
      atMost: 0.7,
    },
    {
      name: 'hot-buffered',
      says: 'increments in Redis a second: all of one product against spread over 1,000 products',
      value: ratio('bufferedHot', 'bufferedSpread'),
      unit: '×',
      atLeast: 0.3,
    },
  ];
}

/** A view counted in the course of a longer transaction: the row is locked until its end. */
async function countInTransaction(db: Pool, id: number): Promise<void> {
  const connection = await db.getConnection();
  await connection.beginTransaction();
  await connection.query(UPDATE_ONE, [id]);
  await connection.query('DO SLEEP(0.002)');
  await connection.commit();
  connection.release();
}

/** A batch of n ids, drained as the lab does it and as one UPDATE each inside one transaction. */
async function drainCost({ redis, db }: MeasureServers, counter: ViewCounter, quick: boolean) {
  const sizes = quick ? [10, 1000] : [1, 3, 10, 30, 100, 300, 1000, 10_000];
  const rounds = 3;
  const perId: Record<'batch' | 'single', (readonly [number, number])[]> = { batch: [], single: [] };
  for (const size of sizes) {
    const took: { batch: number[]; single: number[] } = { batch: [], single: [] };
    for (let round = 0; round < rounds; round++) {
      await many(size, (n) => counter.increment(n + 1));
      took.batch.push(await seconds(() => counter.drain()));
      // Ten thousand of these take seconds, and each is like the next one.
      if (size <= 1000) took.single.push(await seconds(() => updateEach(db, size)));
    }
    perId.batch.push([size, (1e6 * median(took.batch)) / size]);
    if (size <= 1000) perId.single.push([size, (1e6 * median(took.single)) / size]);
  }
  await redis.del(PENDING_KEY, DRAINING_KEY);
  const at = (series: readonly (readonly [number, number])[], size: number) =>
    series.find(([each]) => each === size)?.[1] ?? Number.NaN;
  const claims: Claim[] = [
    {
      name: 'drain-per-id',
      says: 'time of a drain of 1,000 ids, for each id',
      value: at(perId.batch, 1000),
      unit: 'µs',
    },
    {
      name: 'drain-small-per-id',
      says: 'time for each id: a drain of 10 ids against a drain of 1,000 ids',
      value: at(perId.batch, 10) / at(perId.batch, 1000),
      unit: '×',
      atLeast: 3,
    },
    {
      name: 'single-vs-batch',
      says: 'time to add 1,000 ids: one UPDATE each in one transaction against a drain',
      value: at(perId.single, 1000) / at(perId.batch, 1000),
      unit: '×',
      atLeast: 2,
    },
  ];
  const plot: Plot = {
    name: 'drain',
    title: 'Time to drain a batch, per id, by the number of ids in it.',
    x: { label: 'ids in the batch', scale: 'log' },
    y: { label: 'µs per id', scale: 'log' },
    series: [
      { name: 'one UPDATE each, in one transaction', points: perId.single },
      { name: 'the drain', points: perId.batch },
    ],
  };
  return { claims, plot };
}

async function updateEach(db: Pool, ids: number): Promise<void> {
  const connection = await db.getConnection();
  await connection.beginTransaction();
  for (let id = 1; id <= ids; id++) await connection.query(UPDATE_ONE, [id]);
  await connection.commit();
  connection.release();
}

/** A process takes far longer to start than to kill. */
const AHEAD = 3;
const PRODUCTS = 40;
const PLAIN = { key: '{plain}:pending', table: 'plain_products' };

/**
 * Processes that drain all the time are killed at random moments, while views are counted. After each kill the rest
 * is drained and each product compared with the views that were acknowledged.
 */
async function killed(servers: MeasureServers, counter: ViewCounter, kills: number): Promise<Claim[]> {
  const { redis, db } = servers;
  await db.query('DROP TABLE IF EXISTS ??', [PLAIN.table]);
  await db.query('CREATE TABLE ?? (id BIGINT UNSIGNED PRIMARY KEY, view_count BIGINT NOT NULL)', [
    PLAIN.table,
  ]);
  await db.query('INSERT INTO ?? SELECT id, 0 FROM products WHERE id <= ?', [PLAIN.table, PRODUCTS]);
  await db.query('UPDATE products SET view_count = 0 WHERE id <= ?', [PRODUCTS]);
  const plainly = (id: number) => redis.hincrby(PLAIN.key, `${id}`, 1);

  const random = seeded(2026);
  const counted = new Array<number>(PRODUCTS + 1).fill(0);
  const ours = { lost: 0, doubled: 0 };
  const plain = { lost: 0, doubled: 0 };
  let left = 0;
  const starting: Promise<ChildProcess>[] = [];
  for (let kill = 0; kill < kills; kill++) {
    while (starting.length < Math.min(AHEAD, kills - kill)) starting.push(startDrainer(servers));
    const drainer = await starting.shift();
    if (!drainer) break;
    drainer.send('go');
    const until = performance.now() + 2 + 25 * random();
    while (performance.now() < until) {
      const ids = Array.from({ length: 8 }, () => 1 + Math.floor(PRODUCTS * random()));
      await Promise.all(ids.flatMap((id) => [counter.increment(id), plainly(id)]));
      for (const id of ids) counted[id] = (counted[id] ?? 0) + 1;
    }
    const gone = once(drainer, 'exit');
    drainer.kill('SIGKILL');
    await gone;
    left += await redis.exists(DRAINING_KEY);
    await counter.drain();
    await counter.drain();
    for (const [id, views] of Object.entries(await redis.hgetall(PLAIN.key))) {
      await db.query('UPDATE ?? SET view_count = view_count + ? WHERE id = ?', [
        PLAIN.table,
        Number(views),
        id,
      ]);
    }
    await redis.del(PLAIN.key);
    await settle(db, 'products', counted, ours);
    await settle(db, PLAIN.table, counted, plain);
  }
  await db.query('DROP TABLE ??', [PLAIN.table]);
  return [
    {
      name: 'kills',
      says: 'processes that were killed with SIGKILL while they drained, at random moments',
      value: kills,
      unit: 'kills',
    },
    {
      name: 'left-behind',
      says: 'share of the kills that left a batch on its way',
      value: (100 * left) / kills,
      unit: '%',
    },
    {
      name: 'lost',
      says: 'views that the drain of the lab has lost by these kills',
      value: ours.lost,
      unit: 'views',
      atMost: 0,
    },
    {
      name: 'doubled',
      says: 'views that the drain of the lab has counted twice by these kills',
      value: ours.doubled,
      unit: 'views',
      atMost: 0,
    },
    {
      name: 'plain-lost',
      says: 'views that a drain which takes them out of Redis before its commit has lost by the same kills',
      value: plain.lost,
      unit: 'views',
    },
  ];
}

/** Compares each product with what was acknowledged, and puts it right: the next kill is judged by itself. */
async function settle(
  db: Pool,
  table: string,
  counted: readonly number[],
  sums: { lost: number; doubled: number },
) {
  const [rows] = await db.query<RowDataPacket[]>('SELECT id, view_count FROM ?? WHERE id <= ?', [
    table,
    PRODUCTS,
  ]);
  for (const { id, view_count } of rows) {
    const missing = (counted[id] ?? 0) - view_count;
    if (missing === 0) continue;
    sums.lost += Math.max(0, missing);
    sums.doubled += Math.max(0, -missing);
    await db.query('UPDATE ?? SET view_count = ? WHERE id = ?', [table, counted[id], id]);
  }
}

async function startDrainer({ redisUrl, mysqlUrl }: MeasureServers): Promise<ChildProcess> {
  const drainer = forkScript(join(import.meta.dirname, 'drainer.ts'), [
    redisUrl,
    mysqlUrl,
    PLAIN.key,
    PLAIN.table,
  ]);
  const ended = once(drainer, 'exit').then(() => {
    throw new Error('the draining process ended by itself');
  });
  ended.catch(() => {});
  await Promise.race([once(drainer, 'message'), ended]);
  return drainer;
}

async function many(calls: number, call: (n: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  const worker = async () => {
    while (next < calls) await call(next++);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

async function seconds(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return (performance.now() - start) / 1000;
}
