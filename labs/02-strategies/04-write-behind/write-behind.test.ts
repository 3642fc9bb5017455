import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { Pool, PoolOptions, RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { toRecord } from '#kit/given';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, soon, until } from '#kit/waiting';
import {
  BacklogFullError,
  type Changes,
  CREATE_APPLIED_WRITES,
  DEAD_LETTERS,
  GROUP,
  InvalidWriteError,
  PAUSE_MS,
  STREAM,
} from './given';
import { createWorker, createWriter, type WorkerOptions, type WriterOptions } from './write-behind';

const servers = useServers('products');

beforeAll(() => servers.db.query(CREATE_APPLIED_WRITES));
beforeEach(async () => {
  await servers.db.query('DELETE FROM applied_writes');
  await openGroup();
});

/** The command that puts a write into the stream. */
const ADDS = /^(XADD|EVAL|EVALSHA|FCALL|MULTI)\b/i;
/** The command that takes finished writes off the stream, or moves them to the dead letters. */
const ENDS = /^(XACK|XDEL|XACKDEL|XADD|EVAL|EVALSHA|FCALL|MULTI)\b/i;
/** The command that asks for new writes. */
const LOOKS = /^(XREADGROUP|EVAL|EVALSHA|FCALL)\b/i;
const REJECTION = expect.stringMatching(/^rejected/);
const LATE = expect.stringMatching(/^rejected: DeadlineError/);
/** No product of the shop. */
const NOBODY = 999;
/** Beyond an INT: MySQL refuses it, and only MySQL knows. */
const OUT_OF_RANGE = 3_000_000_000;
/** Not a multiple of anything. */
const SHORT_MS = 97;
/** More than what code that gives up would try. */
const FAILED_STEPS = 6;
/** A call that takes longer hangs. */
const HANGS_MS = 1500;

describe('Core', () => {
  test('a write resolves when it is in the stream', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const redis = servers.connectRedis({}, proxy.url);
    await redis.ping();
    const adding = proxy.hold(ADDS);
    const writing = outcome(openWriter({ redis }).write(1, { price: '9.50', stock: 0 }));
    await Promise.race([adding.arrived, writing]);
    const early = await soon(writing, 50);
    adding.release();
    expect(
      [early, await writing],
      'the write, before Redis had the command and after: it must wait for the answer, and then resolve',
    ).toEqual(['still waiting', undefined]);
    expect(await entries(STREAM), 'entries in STREAM, each with the fields that toFields makes').toEqual([
      { product: '1', price: '9.50', stock: '0' },
    ]);
    expect(await rows(), 'rows in MySQL, before any worker has run').toEqual(UNCHANGED);

    await servers.redis.del(STREAM);
    await servers.redis.set(STREAM, 'not a stream');
    expect(
      await outcome(openWriter().write(1, { stock: 5 })),
      'Redis refuses the command, so the write is not in the stream: it must reject',
    ).toEqual(REJECTION);
  });

  test('a step commits a batch, and then takes it off the stream', async () => {
    const worker = openWorker({ batchSize: 2 });
    expect(await worker.step(), 'nothing waits: step must return 0').toBe(0);
    await write(1, { price: '9.50', stock: 0 });
    await write(2, { stock: 13 });
    await write(3, { price: '99.00' });
    expect(await worker.step(), 'three writes wait and a batch is 2: step must return 2').toBe(2);
    expect(await worker.step(), 'one write is left: step must return 1').toBe(1);
    expect(await rows(), 'rows in MySQL: each write changes what it names').toEqual([
      { price: '9.50', stock: 0 },
      { price: '34.00', stock: 13 },
      { price: '99.00', stock: 0 },
    ]);
    expect(await left(), 'entries in STREAM, and those that a worker has taken and not acknowledged').toEqual(
      NOTHING,
    );
  });

  test('many writes of a product are one row written', async () => {
    for (let stock = 1; stock <= 40; stock++) {
      await Promise.all([1, 2, 3].map((id) => write(id, { stock })));
    }
    const worker = openWorker({ batchSize: 200 });
    let finished = 0;
    const work = await servers.work(async () => {
      finished = await worker.step();
    });
    expect(finished, 'what step returned: 120 writes wait and a batch is 200').toBe(120);
    expect(
      (await rows()).map(({ stock }) => stock),
      'stock of the three products: the last write of each is 40',
    ).toEqual([40, 40, 40]);
    expect(
      work.sql('insert', 'update', 'replace'),
      'INSERTs and UPDATEs for 120 writes of three products in one batch',
    ).toBeLessThanOrEqual(9);
  });

  test('a batch that MySQL cannot commit now comes again', async () => {
    const { mysqlProxy, db, worker } = await behindProxies({ poolOptions: { connectionLimit: 1 } });
    await write(1, { price: '9.50' });
    await write(2, { stock: 13 });
    const unlock = await lockProducts(db);
    const faults: Record<string, () => unknown> = {
      'the wait for locked rows has timed out': () => undefined,
      'it takes reads only': async () => {
        await unlock();
        await db.query('SET SESSION TRANSACTION READ ONLY');
      },
      'it is down': () => mysqlProxy.refuse(),
    };
    for (const [fault, strike] of Object.entries(faults)) {
      await strike();
      expect(await outcome(worker.step(), 5000), `MySQL cannot commit (${fault}): step must reject`).toEqual(
        REJECTION,
      );
      expect(
        [(await left()).waiting, (await entries(DEAD_LETTERS)).length],
        `entries in STREAM and in DEAD_LETTERS, of two writes: MySQL cannot commit now (${fault}), which says nothing about them`,
      ).toEqual([2, 0]);
    }
    await drain();
    expect(await rows(), 'rows in MySQL after the next steps').toMatchObject([
      { price: '9.50' },
      { stock: 13 },
      {},
    ]);
  });

  test('a worker that is killed before its commit loses nothing', async () => {
    for (let nth = 1; nth <= 50; nth++) {
      const death = await dieBeforeRequest(nth);
      if (death.hasCommitted) break;
      const scene = `a worker was killed when it was about to send "${death.request}", and another one has worked since`;
      expect(death.stored, `stock of two products, both 77 as acknowledged: ${scene}`).toEqual([77, 77]);
      expect(death.left, `entries in STREAM, and those taken: ${scene}`).toEqual(NOTHING);
    }
    await write(1, { stock: 5 });
    await write(3, { stock: 5 });
    await takeAndStall();
    await write(2, { stock: 6 });
    expect(
      [await openWorker({ batchSize: 1 }).step(), (await stocks())[0]],
      'what a step with a batchSize of 1 returned, and the stock of product 1: two writes were left unfinished, and a new one waits too. On a busy stream new ones always wait',
    ).toEqual([1, 5]);
    await openWorker({ claimIdleMs: 60_000 }).step();
    expect(
      await stocks(),
      'stocks of the products 1 and 2, after a step with a claimIdleMs of 60,000: the unfinished write is younger than that, so its worker may be at it',
    ).toEqual([5, 6]);
  });

  test('a write that comes again, or late, undoes no newer one', async () => {
    const { requests } = await dieBeforeRequest(Number.POSITIVE_INFINITY);
    for (let nth = requests; nth > 0; nth--) {
      const death = await dieBeforeRequest(nth, 78);
      if (!death.hasCommitted) break;
      const scene = `a worker committed 77 and was killed when it was about to send "${death.request}". Another one committed 78, and then got the batch of 77 again`;
      expect(death.stored, `stock of two products: ${scene}`).toEqual([78, 78]);
      expect(death.left, `entries in STREAM, and those taken: ${scene}`).toEqual(NOTHING);
    }

    await idsBeforeTen();
    await write(1, { price: '10.00' });
    await takeAndStall();
    await write(1, { price: '20.00' });
    await openWorker({ claimIdleMs: 60_000 }).step();
    await drain();
    expect(
      (await rows())[0],
      'price: 10.00 was written before 20.00, and came to a worker after it. The ids in the stream end in -9 and -10',
    ).toMatchObject({ price: '20.00' });

    for (const goesFirst of ['older', 'newer'] as const) {
      expect(
        await priceAfterRace(goesFirst),
        `price: 30.00 was written before 40.00, two workers had one of them each in hand, and the ${goesFirst} one was locked first`,
      ).toBe('40.00');
    }
  });
});

describe('In production', () => {
  test('a full backlog refuses, and stores nothing', async () => {
    const writers = [servers.redis, servers.connectRedis()].map((redis) =>
      openWriter({ redis, maxBacklog: 5 }),
    );
    const writes = Array.from({ length: 20 }, (_, n) => writers[n % 2]?.write(1, { stock: n }));
    const answers = await Promise.allSettled(writes);
    const accepted = answers.flatMap(({ status }, n) => (status === 'fulfilled' ? [`${n}`] : []));
    expect(
      (await entries(STREAM)).map(({ stock }) => stock).sort(),
      'writes in STREAM: those that were acknowledged, of 20 at once with room for 5',
    ).toEqual(accepted.sort());
    expect(accepted.length, 'writes that were acknowledged, of 20 at once with room for 5').toBe(5);
    expect(
      answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason] : [])),
      'errors of the other 15 writes',
    ).toEqual(Array.from({ length: 15 }, () => expect.any(BacklogFullError)));
    await drain();
    expect(
      await outcome(openWriter({ maxBacklog: 5 }).write(1, { stock: 1 })),
      'a write after all others were committed: there is room again',
    ).toBeUndefined();
  });

  test('a write that Redis does not answer rejects in time', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const redis = servers.connectRedis({ maxRetriesPerRequest: null }, proxy.url);
    await redis.ping();
    const writer = openWriter({ redis, deadlineMs: SHORT_MS });
    expect(
      await outcomeInTime(() => writer.write(1, { stock: 5 }), proxy.hold(ADDS)),
      `Redis does not answer, and deadlineMs is ${SHORT_MS}: write must reject with DeadlineError by then`,
    ).toEqual(LATE);
  });

  test('a write of the wrong shape is refused before it is acknowledged', async () => {
    const writer = openWriter();
    const wrong: [unknown, unknown][] = [
      ...['1', 0, -1, 1.5, Number.NaN, 2 ** 53, undefined].map((id): [unknown, unknown] => [
        id,
        { stock: 1 },
      ]),
      ...[
        {},
        { price: '9.5' },
        { price: '9.505' },
        { price: 9.5 },
        { stock: 1.5 },
        { stock: Number.NaN },
      ].map((changes): [unknown, unknown] => [1, changes]),
    ];
    for (const [id, changes] of wrong as [number, Changes][]) {
      const rejected = await outcome(writer.write(id, changes).catch((error: unknown) => error));
      expect(
        rejected,
        `write(${inspect(id)}, ${inspect(changes)}) must reject with InvalidWriteError: MySQL would round it, or refuse it when nobody waits any more`,
      ).toBeInstanceOf(InvalidWriteError);
    }
    expect(await entries(STREAM), 'entries in STREAM after these writes').toEqual([]);
  });

  test('a late write keeps what it alone changes', async () => {
    await write(1, { price: '10.00', stock: 5 });
    await takeAndStall();
    await write(1, { price: '20.00' });
    await openWorker({ claimIdleMs: 60_000 }).step();
    await drain();
    const [row] = await rows();
    expect(
      row,
      'the row: price 10.00 and stock 5 were written first, and came to a worker after the newer price of 20.00',
    ).toEqual({ price: '20.00', stock: 5 });

    await write(2, { price: '30.00' });
    await write(2, { price: '40.00' });
    await write(3, { stock: 7 });
    await takeAndStall();
    const [first, , third] = (await servers.redis.xrange(STREAM, '-', '+')).map(([id]) => id);
    await servers.redis.call('XCLAIM', STREAM, GROUP, 'stalled', 0, `${first}`, `${third}`, 'IDLE', 90_000);
    await openWorker({ claimIdleMs: 60_000 }).step();
    await drain();
    expect(
      (await rows())[1],
      'the row: 40.00 was written after 30.00, and came to a worker after a batch of 30.00 and a still newer write of another product',
    ).toMatchObject({ price: '40.00' });
  });

  test('a write that MySQL can never store becomes a dead letter, and its neighbours commit', async () => {
    await write(1, { price: '13.00' });
    await write(2, { stock: OUT_OF_RANGE });
    await write(2, { price: '35.00' });
    await write(NOBODY, { stock: 1 });
    await write(3, { stock: 7 });
    const bad = (await servers.redis.xrange(STREAM, '-', '+')).map(([id]) => id);
    const worker = openWorker();
    for (let steps = 0; steps < 8; steps++) await outcome(worker.step());
    expect(
      await rows(),
      'rows in MySQL: two writes of five cannot be stored, and the other three can',
    ).toEqual([
      { price: '13.00', stock: 140 },
      { price: '35.00', stock: 12 },
      { price: '119.95', stock: 7 },
    ]);
    const letters = await entries(DEAD_LETTERS);
    expect(
      letters.sort((a, b) => Number(a.product) - Number(b.product)),
      'entries in DEAD_LETTERS: a stock that is out of range, with what MySQL says about it, and a write of a product that does not exist',
    ).toEqual([
      {
        entry: bad[1],
        error: expect.stringMatching(/out of range/i),
        product: '2',
        stock: `${OUT_OF_RANGE}`,
      },
      { entry: bad[3], error: expect.stringMatching(/./), product: `${NOBODY}`, stock: '1' },
    ]);
    expect(await left(), 'entries in STREAM, and those taken: a dead letter must not come again').toEqual(
      NOTHING,
    );

    const { mysqlProxy, worker: cut } = await behindProxies();
    await write(2, { stock: OUT_OF_RANGE });
    await write(3, { stock: 8 });
    const refused = mysqlProxy.hold(/^ROLLBACK/i);
    const step = outcome(cut.step());
    await Promise.race([refused.arrived, step]);
    await mysqlProxy.refuse();
    refused.release();
    await step;
    expect(
      (await entries(DEAD_LETTERS)).filter(({ product }) => product === '3'),
      'the good write among the DEAD_LETTERS: MySQL refused its batch, and was down when it was tried again',
    ).toEqual([]);
  });

  test('a dead letter is kept once, whenever a worker is killed', async () => {
    for (let nth = 1, sent = nth; sent >= nth; nth++) {
      await servers.redis.del(DEAD_LETTERS);
      await write(1, { stock: OUT_OF_RANGE });
      const killed = await killBeforeRequest(nth);
      sent = killed.requests;
      const worker = openWorker();
      for (let steps = 0; steps < 3; steps++) await outcome(worker.step());
      expect(
        [(await entries(DEAD_LETTERS)).length, (await left()).waiting],
        `entries in DEAD_LETTERS and in STREAM, for one write that cannot be stored: a worker was killed when it was about to send "${killed.request}", and another one has worked since`,
      ).toEqual([1, 0]);
    }
    await write(1, { stock: OUT_OF_RANGE });
    const [one, other] = [await behindProxies(), await behindProxies()];
    const endings = [one, other].map(({ redisProxy }) => redisProxy.hold(ENDS));
    const steps = [];
    for (const [at, { worker }] of [one, other].entries()) {
      const step = outcome(worker.step());
      await Promise.race([endings[at]?.arrived, step]);
      steps.push(step);
    }
    for (const ending of endings) ending.release();
    await Promise.all(steps);
    expect(
      (await entries(DEAD_LETTERS)).length,
      'entries in DEAD_LETTERS: one from before, and a second write that two workers had in hand at once',
    ).toBe(2);
  });

  test('a server that does not answer costs a step its deadline', async () => {
    const silent: Record<string, (opened: Opened) => Held> = {
      'Redis, when the step begins': ({ redisProxy }) => redisProxy.hold(/./),
      'Redis, for new writes': ({ redisProxy }) => redisProxy.hold(/^XREADGROUP/i),
      'MySQL, in the transaction': ({ mysqlProxy }) => mysqlProxy.hold(/^(SELECT|INSERT|UPDATE)/i),
      'Redis, after the commit': ({ redisProxy }) => redisProxy.hold(ENDS),
    };
    const expectLate = async (scene: string, changes: Changes) => {
      const opened = await behindProxies({
        deadlineMs: SHORT_MS,
        transactionMs: SHORT_MS,
        poolOptions: { connectionLimit: 1 },
      });
      await write(1, changes);
      expect(
        await outcomeInTime(() => opened.worker.step(), silent[scene]?.(opened)),
        `no answer of ${scene}, for a write of ${inspect(changes)}: deadlineMs and transactionMs are ${SHORT_MS}, so step must reject with DeadlineError by then`,
      ).toEqual(LATE);
      if (scene.startsWith('MySQL')) {
        expect(
          await withoutDeadlines(() => opened.worker.step()),
          'the next step, on a pool of one connection: the late transaction must not keep it',
        ).toBe(1);
      }
      await servers.redis.del(STREAM);
      await openGroup();
    };
    for (const scene of Object.keys(silent)) await expectLate(scene, { stock: 5 });
    await expectLate('Redis, after the commit', { stock: OUT_OF_RANGE });
  });

  test('a run goes on after a failed step, with a pause', async () => {
    const failures: number[] = [];
    const { redisProxy, mysqlProxy, worker } = await behindProxies({
      onError: () => failures.push(performance.now()),
    });
    const looks: number[] = [];
    redisProxy.schedule(async (request) => {
      if (LOOKS.test(request)) looks.push(performance.now());
    });
    const { running } = start(worker);
    await until(() => looks.length >= 3);
    expect(
      twoPauses(looks),
      'ms between the first look for new writes and the third: nothing waits, so run pauses for PAUSE_MS',
    ).toBeGreaterThan(1.5 * PAUSE_MS);
    await mysqlProxy.refuse();
    await write(1, { stock: 5 });
    for (let seconds = 0; seconds < 5; seconds++) await until(() => failures.length >= FAILED_STEPS);
    expect(
      failures.length,
      'errors that onError was called with: MySQL is down for so many steps, and run must not give up',
    ).toBeGreaterThanOrEqual(FAILED_STEPS);
    expect(
      twoPauses(failures),
      'ms between the first failed step and the third: run pauses for PAUSE_MS after each',
    ).toBeGreaterThan(1.5 * PAUSE_MS);
    await mysqlProxy.heal();
    await until(async () => (await left()).waiting === 0);
    expect((await rows())[0], 'the row: MySQL is back, and run goes on').toMatchObject({ stock: 5 });
    expect(await soon(running, 1), 'run, which nobody has stopped').toBe('still waiting');
  });

  test('a worker whose group is gone creates it again', async () => {
    const worker = openWorker();
    await write(1, { stock: 5 });
    await worker.step();
    // Redis came back empty, and a writer was the first one to use it.
    await servers.redis.flushdb();
    await write(2, { stock: 6 });
    for (let steps = 0; steps < 3; steps++) await outcome(worker.step());
    expect(
      (await rows())[1],
      'the row: its write was the first one after Redis had lost its data',
    ).toMatchObject({
      stock: 6,
    });
  });

  test('a stopped run drains the backlog, and ends', async () => {
    for (let stock = 1; stock <= 4; stock++) await write(1, { stock });
    const draining = await behindProxies({ batchSize: 1 });
    const commit = draining.mysqlProxy.hold(/^COMMIT/i);
    const { stop, running } = start(draining.worker);
    await Promise.race([commit.arrived, running]);
    stop();
    commit.release();
    expect(
      await outcome(running, HANGS_MS),
      'run was stopped with one write in hand and three behind it: it must drain, and resolve',
    ).toBeUndefined();
    expect(await left(), 'entries in STREAM, and those taken, when run has ended').toEqual(NOTHING);
    expect((await rows())[0], 'the row: four writes, and the last one is 4').toMatchObject({ stock: 4 });

    const errors: unknown[] = [];
    const failing = await behindProxies({ onError: (error) => errors.push(error) });
    await failing.mysqlProxy.refuse();
    const look = failing.redisProxy.hold(LOOKS);
    const failed = start(failing.worker);
    await Promise.race([look.arrived, failed.running]);
    look.release();
    // Into the pause that follows: the next step is that of the drain.
    await sleep(10);
    await write(1, { stock: 10 });
    failed.stop();
    expect(
      await outcome(failed.running, HANGS_MS),
      'run was stopped while MySQL is down: it must end at the first failure, and resolve',
    ).toBeUndefined();
    expect((await left()).waiting, 'entries in STREAM: that write could not be committed').toBe(1);
    expect(errors.length, 'calls of onError: the last step has failed').toBeGreaterThan(0);
  });
});

const UNCHANGED = [
  { price: '12.90', stock: 140 },
  { price: '34.00', stock: 12 },
  { price: '119.95', stock: 0 },
];
const NOTHING = { waiting: 0, taken: 0 };

type Opened = Awaited<ReturnType<typeof behindProxies>>;
type Held = { readonly arrived: Promise<unknown> };

/** What a call comes to when `held` gets no answer, and half as much again as SHORT_MS has passed. */
async function outcomeInTime(call: () => Promise<unknown>, held: Held | undefined) {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const ending = outcome(call(), HANGS_MS);
    await Promise.race([held?.arrived, ending]);
    vi.advanceTimersByTime(1.5 * SHORT_MS);
    return await ending;
  } finally {
    vi.useRealTimers();
  }
}

/** What a call comes to when no deadline passes. */
async function withoutDeadlines(call: () => Promise<unknown>) {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    return await outcome(call(), HANGS_MS);
  } finally {
    vi.useRealTimers();
  }
}

/** Deadlines that a busy machine keeps: where they are the point, the test says so. */
const openWriter = (options: Partial<WriterOptions> = {}) =>
  createWriter({ redis: servers.redis, deadlineMs: 20_000, ...options });

const openGroup = () => servers.redis.xgroup('CREATE', STREAM, GROUP, '0', 'MKSTREAM');

const write = (id: number, changes: Changes) => openWriter().write(id, changes);

let workers = 0;

const workerOptions = (): WorkerOptions => ({
  redis: servers.redis,
  db: servers.db,
  name: `worker ${++workers}`,
  claimIdleMs: 0,
  deadlineMs: 20_000,
  transactionMs: 20_000,
});

const openWorker = (options: Partial<WorkerOptions> = {}) => createWorker({ ...workerOptions(), ...options });

/** A worker whose servers can be held or taken away. The connections are up. */
async function behindProxies(
  { poolOptions = {}, ...options }: Partial<WorkerOptions> & { poolOptions?: PoolOptions } = {},
  create = createWorker,
) {
  const [redisProxy, mysqlProxy] = await Promise.all([
    openProxy(servers.redisUrl),
    openProxy(servers.mysqlUrl),
  ]);
  const redis = servers.connectRedis({}, redisProxy.url);
  const db = servers.connectDb(poolOptions, mysqlProxy.url);
  onTestFinished(() => redis.disconnect());
  await Promise.all([redis.ping(), db.query('SELECT 1')]);
  return { redisProxy, mysqlProxy, redis, db, worker: create({ ...workerOptions(), redis, db, ...options }) };
}

const twoPauses = ([first = 0, , third = Number.POSITIVE_INFINITY]: readonly number[]) => third - first;

/** A run, and what stops it: at the end of the test at the latest. */
function start(worker: ReturnType<typeof createWorker>) {
  const controller = new AbortController();
  const running = worker.run(controller.signal);
  running.catch(() => {});
  const stop = () => controller.abort();
  onTestFinished(stop);
  return { running, stop };
}

/** A worker that shares nothing with other workers: its module is its own, as in another process. */
async function openWorkerElsewhere(options: Partial<WorkerOptions>) {
  vi.resetModules();
  const { createWorker: create } = await import('./write-behind');
  return create({ ...workerOptions(), ...options });
}

/** Another transaction holds all products until the returned call; a wait on `db` times out soon. */
async function lockProducts(db: Pool) {
  // MySQL knows no shorter wait than a second, MariaDB does.
  const waitFor = (seconds: number) => db.query('SET SESSION innodb_lock_wait_timeout = ?', [seconds]);
  await waitFor(0).catch(() => waitFor(1));
  const connection = await servers.db.getConnection();
  await connection.beginTransaction();
  await connection.query('SELECT id FROM products FOR UPDATE');
  let isLocked = true;
  const unlock = async () => {
    if (isLocked) await connection.rollback();
    if (isLocked) connection.release();
    isLocked = false;
  };
  onTestFinished(unlock);
  return unlock;
}

/** Other workers finish all that was written. */
async function drain(): Promise<void> {
  const worker = openWorker();
  for (let steps = 0; steps < 20 && (await worker.step()) > 0; steps++);
}

/** A worker takes all there is, and does nothing with it. */
const takeAndStall = () =>
  servers.redis.xreadgroup('GROUP', GROUP, 'stalled', 'COUNT', 10, 'STREAMS', STREAM, '>');

/** The next ids of the stream end in -9, -10 and -11: as text, they are out of order. */
const idsBeforeTen = () => servers.redis.call('XSETID', STREAM, '9000000000000-8');

/**
 * A worker that ends before its request number `nth`. Its proxies end with it and its module is its own, so that nothing
 * is left of it but what has reached the servers.
 */
async function killBeforeRequest(nth: number) {
  vi.resetModules();
  const { createWorker: create } = await import('./write-behind');
  const { redisProxy, mysqlProxy, redis, worker } = await behindProxies({}, create);
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
  const request = await Promise.race([ending, outcome(worker.step()).then(() => 'nothing more')]);
  redis.disconnect();
  await Promise.all(proxies.map((proxy) => proxy.close()));
  return { request: request.trim().split(/\s+/, 2).join(' '), requests };
}

/**
 * A worker is killed with two writes of stock 77 in its batch. If there is a newer stock, another worker, which does not
 * take over, commits it. Then the batch is taken over.
 */
async function dieBeforeRequest(nth: number, newer?: number) {
  await servers.db.query('UPDATE products SET stock = 1 WHERE id IN (1, 2)');
  for (const id of [1, 2]) await write(id, { stock: 77 });
  const killed = await killBeforeRequest(nth);
  const hasCommitted = (await stocks()).every((stock) => stock === 77);
  for (const id of newer === undefined ? [] : [1, 2]) await write(id, { stock: newer });
  await (await openWorkerElsewhere({ claimIdleMs: 60_000 })).step();
  await drain();
  return { ...killed, hasCommitted, stored: await stocks(), left: await left() };
}

/** Two workers with one write each of product 2: the first one has locked the row when the second one begins. */
async function priceAfterRace(goesFirst: 'older' | 'newer'): Promise<string> {
  const first = await behindProxies({ claimIdleMs: 60_000 });
  const saving = first.mysqlProxy.hold(/^(INSERT|UPDATE|REPLACE)/i);
  await write(2, { price: '30.00' });
  if (goesFirst === 'newer') {
    await takeAndStall();
    await write(2, { price: '40.00' });
  }
  const one = outcome(first.worker.step(), 5000);
  await Promise.race([saving.arrived, one]);
  if (goesFirst === 'older') await write(2, { price: '40.00' });
  const second = openWorker({ claimIdleMs: goesFirst === 'older' ? 60_000 : 0, batchSize: 1 });
  const other = outcome(second.step(), 5000);
  await Promise.race([other, until(someoneWaitsForALock)]);
  const commit = first.mysqlProxy.hold(/^COMMIT/i);
  saving.release();
  await Promise.race([commit.arrived, one]);
  // Marks that come after the COMMIT come too late.
  const afterCommit = first.mysqlProxy.hold(/./);
  commit.release();
  await Promise.race([afterCommit.arrived, one]);
  await Promise.race([other, sleep(500)]);
  afterCommit.release();
  await Promise.all([one, other]);
  await drain();
  return String((await rows())[1]?.price);
}

/** Each account may ask for it, unlike INNODB STATUS. */
async function someoneWaitsForALock(): Promise<boolean> {
  const [found] = await servers.db.query<RowDataPacket[]>(
    "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'",
  );
  return Number(found[0]?.Value) > 0;
}

async function rows() {
  const [found] = await servers.db.query<RowDataPacket[]>('SELECT price, stock FROM products ORDER BY id');
  return found.map(({ price, stock }) => ({ price, stock }));
}

const stocks = async () => (await rows()).slice(0, 2).map(({ stock }) => stock);

/** The fields of what a stream holds. */
const entries = async (stream: string) =>
  (await servers.redis.xrange(stream, '-', '+')).map(([, fields]) => toRecord(fields));

/** What is in the stream, and how much of it was taken and not acknowledged. */
async function left() {
  const [taken] = (await servers.redis.xpending(STREAM, GROUP)) as [number];
  return { waiting: await servers.redis.xlen(STREAM), taken };
}
