import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { explore } from '#kit/explore';
import { type Inside, startProcesses } from '#kit/processes';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import {
  APPLIED_WRITES,
  BacklogFullError,
  createWorker,
  createWriter,
  DEAD_LETTERS,
  GROUP,
  InvalidWriteError,
  STREAM,
  VIEW_TTL_MS,
  viewKey,
  type Worker,
} from './write-behind';
import subjectFile from './write-behind?file';

type Subject = typeof import('./write-behind');

const servers = useServers('products');

beforeAll(() => servers.db.query(APPLIED_WRITES));
beforeEach(() => servers.db.query('DELETE FROM applied_writes'));

test('a killed worker loses nothing and doubles nothing', async () => {
  const writer = writerOf();
  const redisProxy = await openProxy(servers.redisUrl);
  const mysqlProxy = await openProxy(servers.mysqlUrl);
  const beforeCommit = mysqlProxy.hold(/^COMMIT/i);
  const [first] = await startProcesses(
    1,
    subjectFile,
    { redis: servers.redisUrl, mysql: mysqlProxy.url },
    writesAndWorks,
  );
  await Promise.race([beforeCommit.arrived, first?.result]);
  expect(await unlike(), TOGETHER).toEqual([]);
  await first?.kill();

  const commit = mysqlProxy.hold(/^COMMIT/i);
  const redis = servers.connectRedis({}, redisProxy.url);
  const second = createWorker({
    redis,
    db: servers.connectDb({}, mysqlProxy.url),
    name: 'second',
    claimIdleMs: 0,
    transactionMs: 2000,
  });
  const step = second.step().catch(() => {});
  await Promise.race([commit.arrived, step]);
  const afterCommit = [redisProxy.hold(/./), mysqlProxy.hold(/./)];
  commit.release();
  await Promise.race([...afterCommit.map(({ arrived }) => arrived), step]);
  // To the servers, that is its death: no request of it arrives any more.
  await Promise.all([redisProxy.refuse(), mysqlProxy.refuse()]);
  redis.disconnect();
  await settled(step);
  expect(await unlike(), TOGETHER).toEqual([]);

  await writer.write(1, { price: '99.00' });
  await drain(workerOf('third'));
  expect(
    await rows(),
    'one worker was killed before its COMMIT, one was cut off after it: each acknowledged write must reach MySQL all the same. It waits in Redis, not in a process, and leaves the stream after the COMMIT only',
  ).toMatchObject([
    { price: '99.00', stock: 20 },
    { price: '34.00', stock: 20 },
    { price: '119.95', stock: 20 },
  ]);
  expect(
    (await rows()).map(({ version }) => version),
    'version must rise by one for each write, and not again when a batch comes again: keep which write has reached a row in the transaction that writes the row',
  ).toEqual([22, 21, 21]);
});

test('a late write undoes no newer one, and what it alone changes is not lost', async () => {
  const writer = writerOf();
  await beginStream();
  await writer.write(1, { price: '10.00', stock: 5 });
  await takeAndStall();
  await writer.write(1, { price: '20.00' });
  await drain(workerOf('busy', { claimIdleMs: 60_000 }));
  await drain(workerOf('heir'));
  const [row] = await rows();
  expect(
    row,
    'the newer price must stay when the older write comes later: compare stream ids, in the order of the stream, where 5-10 comes after 5-9',
  ).toMatchObject({ price: '20.00' });
  expect(
    row,
    'the stock of the older write must arrive: no newer write has one, so the id is kept for each column',
  ).toMatchObject({ stock: 5 });
  expect(await left(), 'what was finished leaves the stream').toEqual({ waiting: 0, taken: 0 });

  for (const held of ['older', 'newer'] as const) {
    const mysqlProxy = await openProxy(servers.mysqlUrl);
    const one = workerOf('one', {
      claimIdleMs: 60_000,
      batchSize: 1,
      db: servers.connectDb({}, mysqlProxy.url),
    });
    const other = workerOf('other', { claimIdleMs: held === 'older' ? 60_000 : 0, batchSize: 1 });
    const write = mysqlProxy.hold(/^(INSERT|UPDATE|REPLACE)/i);
    await writer.write(2, { price: '30.00' });
    if (held === 'newer') {
      await takeAndStall();
      await writer.write(2, { price: '40.00' });
    }
    const first = one.step().catch(() => {});
    await Promise.race([write.arrived, first]);
    if (held === 'older') await writer.write(2, { price: '40.00' });
    const second = other.step().catch(() => {});
    await Promise.race([second, someoneWaitsForALock()]);
    write.release();
    await Promise.all([first, second]);
    await drain(workerOf('last'));
    expect(
      (await rows())[1],
      `two workers had a write of one product in hand at the same time, and the ${held === 'older' ? 'newer' : 'older'} one went on while the other waited: the newer price must stay. Lock the row (FOR UPDATE), and read its marks when you have the lock`,
    ).toMatchObject({ price: '40.00' });
  }
});

test('only what MySQL refuses goes to the dead letters, and its neighbours commit', async () => {
  const writer = writerOf();
  const mysqlProxy = await openProxy(servers.mysqlUrl);
  const worker = workerOf('worker', { db: servers.connectDb({}, mysqlProxy.url) });
  await writer.write(1, { price: '13.00' });
  await writer.write(2, { stock: OUT_OF_RANGE });
  await writer.write(2, { price: '35.00' });
  await writer.write(4, { stock: 1 });
  await writer.write(3, { stock: 7 });

  await mysqlProxy.refuse();
  const outcome = await settled(worker.step(), 3000);
  expect(
    [await servers.redis.xlen(DEAD_LETTERS), await servers.redis.xlen(STREAM)],
    'MySQL cannot be reached, which says nothing about the writes: none may become a dead letter or leave the stream',
  ).toEqual([0, 5]);
  expect(outcome, 'a step that could not commit must reject, so that run tells onError').toBe('rejected');

  await mysqlProxy.heal();
  const running = worker.run();
  expect(
    await settled(Promise.all([worker.stop(), running]), 3000),
    'stop must resolve when nothing is left to take',
  ).toBe('resolved');
  expect(
    await rows(),
    'one bad row must not take its batch with it: when MySQL refuses a batch, try its writes in smaller parts',
  ).toMatchObject([
    { price: '13.00', stock: 140 },
    { price: '35.00', stock: 12 },
    { price: '119.95', stock: 7 },
  ]);
  const letters = await servers.redis.xrange(DEAD_LETTERS, '-', '+');
  expect(
    letters.map(([, fields]) => fields.join(' ')).sort(),
    'the value that is out of range, and the write of a product that MySQL does not have, must be kept as dead letters, with what was to be written',
  ).toEqual([
    expect.stringMatching(/product 2 .*stock 3000000000/),
    expect.stringMatching(/product 4 .*stock 1$/),
  ]);
  expect(await left(), 'a dead letter leaves the stream: else it comes again for ever').toEqual({
    waiting: 0,
    taken: 0,
  });
});

test('a refused write is read no longer, a pending one still is', async () => {
  const writer = writerOf();
  await writer.read(2);
  await writer.write(2, { stock: OUT_OF_RANGE });
  await writer.write(2, { price: '35.00' });
  await attempt(workerOf('worker', { batchSize: 1 }), 1);
  const seen = await writer.read(2);
  expect(
    seen?.stock,
    'MySQL refused this stock: the view must go back to what the row holds, or readers see a value that will never be',
  ).toBe(12);
  expect(
    seen?.price,
    'the price is acknowledged and still waits in the stream: whoever drops the view must lay over it what is pending',
  ).toBe('35.00');
  expect(await servers.redis.pttl(viewKey(2)), 'and while it waits, its view must not expire').toBe(-1);
  await drain(workerOf('worker'));

  // No view, then one with a price that will be refused: that is what these two have seen, and both have the old row.
  const early = await readsOldRow(3);
  await writer.write(3, { price: '20.00' });
  await writer.write(3, { price: TOO_DEAR });
  const late = await readsOldRow(3);
  await attempt(workerOf('worker', { batchSize: 1 }), 3);
  await early.goesOn();
  await late.goesOn();
  expect(
    await writer.read(3),
    'readers took the old row with them before the newer price was committed, and fill the view after a refusal has emptied it: the fill must do nothing when the view has changed since, by a refusal too',
  ).toMatchObject({ price: '20.00' });

  await beginStream();
  await writer.write(1, { price: '10.00', stock: 5 });
  await takeAndStall();
  const busy = workerOf('busy', { claimIdleMs: 60_000 });
  await writer.write(1, { price: '20.00' });
  await drain(busy);
  await writer.write(1, { price: TOO_DEAR });
  await drain(busy);
  expect(
    await writer.read(1),
    'a price was refused, the one before it is committed, and an older one is pending with a stalled worker: the older price must not come back, and its stock must stay. Keep in the view, for each column, the id of the newest committed write, and lay over only what is newer',
  ).toMatchObject({ price: '20.00', stock: 5 });
  await drain(workerOf('heir'));
  expect(await writer.read(1), 'nor may it when the stalled write is finished').toMatchObject({
    price: '20.00',
    stock: 5,
  });
});

test('many writes of a product are one row written', async () => {
  const writer = writerOf();
  for (let stock = 1; stock <= 40; stock++) {
    await Promise.all([1, 2, 3].map((id) => writer.write(id, { stock })));
  }
  const work = await servers.work(() => drain(workerOf('worker', { batchSize: 200 })));
  expect(
    (await rows()).map(({ stock, version }) => ({ stock, version })),
    'the last write of a product is the one that stays',
  ).toEqual([1, 2, 3].map(() => ({ stock: 40, version: 41 })));
  expect(
    work.sql('insert', 'update', 'replace'),
    '120 writes of three products in one batch need a few statements: coalesce by product before you write',
  ).toBeLessThanOrEqual(9);
});

test('a full backlog refuses, and stores nothing', async () => {
  const writer = writerOf({ backlogAtMost: 5 });
  const shapeless = [writer.write(1, {}), writer.write(0, { stock: 1 }), writer.write(1, { price: '1.5' })];
  expect(
    (await Promise.allSettled(shapeless)).map((answer) => answer.status === 'rejected' && answer.reason),
    'a write without changes, of product 0 or with the price 1.5 must be refused (requireWrite) before anything is sent',
  ).toEqual(shapeless.map(() => expect.any(InvalidWriteError)));
  const writes = Array.from({ length: 20 }, (_, stock) => writer.write(1, { stock: 1000 + stock }));
  const answers = await Promise.allSettled(writes);
  const refused = answers.filter((answer) => answer.status === 'rejected');
  expect(
    refused.map(({ reason }) => reason),
    'fifteen of twenty writes at once must be refused: a check in one command and an XADD in the next lets all of them in',
  ).toEqual(Array.from({ length: 15 }, () => expect.any(BacklogFullError)));
  expect(
    await servers.redis.xlen(STREAM),
    'the five that were acknowledged wait: none is trimmed to make room',
  ).toBe(5);
  expect((await writer.read(1))?.stock, 'a write that was refused must not be seen by readers').toBe(1004);

  await drain(workerOf('worker'));
  const again = await settled(writer.write(1, { stock: 1 }));
  expect(
    again,
    'what is committed must leave the stream (XACK alone keeps it), or the backlog stays full',
  ).toBe('resolved');
});

test('a read is the whole product, with all that is pending', async () => {
  const writer = writerOf();
  await writer.write(2, { stock: 7 });
  const board = { id: 2, name: 'Beech cutting board', price: '34.00', stock: 7 };
  expect(
    await writer.read(2),
    'nobody had read this product before its stock was written: the rest must come from the row, and the stock from the write',
  ).toEqual(board);
  const hit = await servers.work(() => writer.read(2));
  expect(hit.sql('select'), 'the second read must be a hit').toBe(0);
  expect(await writer.read(2), 'and it must be whole, too').toEqual(board);

  const slow = await readsOldRow(1);
  await writer.write(1, { price: '20.00' });
  await drain(workerOf('worker'));
  await slow.goesOn();
  expect(
    await writer.read(1),
    'a reader that took the old row with it before the write must not store its price over the new one',
  ).toMatchObject({ price: '20.00' });

  await writer.write(99, { stock: 7 });
  expect(
    await writer.read(99).catch((error: unknown) => error),
    'MySQL has no product 99: its read must be null, whatever was written to it',
  ).toBe(null);

  const ttl = () => servers.redis.pttl(viewKey(3));
  await writer.read(3);
  await writer.write(3, { stock: 7 });
  expect(
    await ttl(),
    'this view had a TTL from the read before: with a pending write in it, it must not expire',
  ).toBe(-1);
  await takeAndStall();
  await writer.write(3, { price: '20.00' });
  await drain(workerOf('busy', { claimIdleMs: 60_000 }));
  expect(
    await ttl(),
    'the newer write is committed and the older one is still pending, with a stalled worker: the view must not expire before both are committed',
  ).toBe(-1);
  await drain(workerOf('heir'));
  const last = await ttl();
  expect(
    last > 0 && last <= VIEW_TTL_MS,
    `with all of it committed, the view must live for VIEW_TTL_MS (PTTL says ${last})`,
  ).toBe(true);
});

test('two writers of one product keep both columns', async () => {
  const writer = writerOf();
  await explore(servers, {
    prepare: async () => {
      await servers.redis.del(viewKey(1), STREAM);
      await writer.read(1);
    },
    actors: {
      price: ({ redis, db }) => writerOf({ redis, db }).write(1, { price: '20.00' }),
      stock: ({ redis, db }) => writerOf({ redis, db }).write(1, { stock: 5 }),
      reader: ({ redis, db }) => writerOf({ redis, db }).read(1),
    },
    verdict: async () => {
      const seen = await writer.read(1);
      return seen?.price === '20.00' && seen.stock === 5
        ? undefined
        : `both writes were acknowledged, yet a reader sees ${JSON.stringify(seen)}: change the view in the server, column by column, in the script that adds to the stream`;
    },
    runs: 30,
  });
});

test('without Redis nothing is acknowledged and nothing old is read', async () => {
  const redisProxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({ maxRetriesPerRequest: null }, redisProxy.url);
  const writer = createWriter({
    redis,
    db: servers.db,
    deadlineMs: 150,
  });
  await redis.ping();
  await writer.write(1, { stock: 5 });
  redisProxy.blackHole();
  const [written, read] = await Promise.all([
    settled(writer.write(1, { stock: 6 })),
    settled(writer.read(1)),
  ]);
  expect(
    written,
    'Redis did not answer: write must reject within its deadline, for the write may be stored nowhere',
  ).toBe('rejected');
  expect(
    read,
    'the row in MySQL is older than what was acknowledged: without Redis, read must reject within its deadline',
  ).toBe('rejected');
});

/** Beyond an INT: MySQL refuses it, and only MySQL knows. */
const OUT_OF_RANGE = 3_000_000_000;
/** Beyond a DECIMAL(10,2). */
const TOO_DEAR = '123456789012.00';

const TOGETHER =
  'marks and rows must commit together: write applied_writes on the connection of the transaction that writes the rows, so that both are there or neither';

/** The products that have a mark without a written row, or the other way round. */
async function unlike() {
  const [found] = await servers.db.query<RowDataPacket[]>(
    `SELECT id, version > 1 AS written, COALESCE(stock_id, '') <> '' AS marked
     FROM products LEFT JOIN applied_writes ON product_id = id`,
  );
  return found.filter(({ written, marked }) => written !== marked);
}

/** The next ids of the stream end in -9, -10 and -11: as text, they are out of order. */
async function beginStream() {
  await servers.redis.xgroup('CREATE', STREAM, GROUP, '0', 'MKSTREAM').catch(() => {});
  await servers.redis.call('XSETID', STREAM, '9000000000000-8');
}

/** A worker takes what there is, and stalls before it does anything. */
const takeAndStall = () =>
  servers.redis.xreadgroup('GROUP', GROUP, 'stalled', 'COUNT', 10, 'STREAMS', STREAM, '>');

/** A reader that has looked at the view and at the row, and stands before its next request to Redis. */
async function readsOldRow(id: number) {
  const redisProxy = await openProxy(servers.redisUrl);
  const mysqlProxy = await openProxy(servers.mysqlUrl);
  const reader = writerOf({
    redis: servers.connectRedis({}, redisProxy.url),
    db: servers.connectDb({}, mysqlProxy.url),
  });
  const select = mysqlProxy.hold(/^SELECT/i);
  const reading = reader.read(id);
  await Promise.race([select.arrived, reading]);
  const next = redisProxy.hold(/./);
  select.release();
  await Promise.race([next.arrived, reading]);
  return {
    goesOn: async () => {
      next.release();
      await reading;
    },
  };
}

/** Until InnoDB says so: at most a second, for those who need no lock that it knows of. */
async function someoneWaitsForALock() {
  for (const end = Date.now() + 1000; Date.now() < end; await after(5, undefined)) {
    const [found] = await servers.db.query<RowDataPacket[]>('SHOW ENGINE INNODB STATUS');
    const status = String(found[0]?.Status);
    if (/^LOCK WAIT/m.test(status.slice(status.lastIndexOf('\nTRANSACTIONS\n')))) return;
  }
}

/** Three products, twenty writes each, all acknowledged; then this same process works. */
async function writesAndWorks({
  subject,
  args,
  Redis,
  mysql,
}: Inside<Subject, { redis: string; mysql: string }>) {
  const db = mysql.createPool({ uri: args.mysql });
  const writer = subject.createWriter({ redis: new Redis(args.redis), db, deadlineMs: 3000 });
  for (let stock = 1; stock <= 20; stock++) {
    await Promise.all([1, 2, 3].map((id) => writer.write(id, { stock })));
  }
  const worker = subject.createWorker({
    redis: new Redis(args.redis),
    db,
    name: 'first',
    transactionMs: 2000,
  });
  await worker.step().catch(() => {});
}

/** Deadlines that a busy machine keeps: where they are the point, the test says so. */
const writerOf = (options: { redis?: Redis; db?: Pool; backlogAtMost?: number } = {}) =>
  createWriter({ redis: servers.redis, db: servers.db, deadlineMs: 3000, ...options });

const workerOf = (name: string, options: { db?: Pool; claimIdleMs?: number; batchSize?: number } = {}) =>
  createWorker({ redis: servers.connectRedis(), db: servers.db, name, claimIdleMs: 0, ...options });

async function drain(worker: Worker): Promise<void> {
  for (let steps = 0; steps < 20 && (await worker.step()) > 0; steps++);
}

/** A step that fails leaves its batch pending: the next one takes it again. */
async function attempt(worker: Worker, steps = 5): Promise<void> {
  for (let i = 0; i < steps; i++) await worker.step().catch(() => {});
}

async function rows() {
  const [found] = await servers.db.query<RowDataPacket[]>(
    'SELECT price, stock, version FROM products ORDER BY id',
  );
  return found.map(({ price, stock, version }) => ({ price, stock, version }));
}

/** What is in the stream, and how much of it somebody has taken. */
async function left() {
  const [taken] = (await servers.redis.xpending(STREAM, GROUP)) as [number];
  return { waiting: await servers.redis.xlen(STREAM), taken };
}

const after = <T>(ms: number, value: T) =>
  new Promise<T>((resolve) => {
    setTimeout(resolve, ms, value).unref();
  });

const settled = (promise: Promise<unknown>, withinMs = 1000) =>
  Promise.race([
    promise.then(
      () => 'resolved',
      () => 'rejected',
    ),
    after(withinMs, `still waiting after ${withinMs} ms`),
  ]);
