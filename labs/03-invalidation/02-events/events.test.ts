import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis, RedisOptions } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { connected, redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import { signal } from '#kit/gate';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, soon, until } from '#kit/waiting';
import { createCatalogue, createRelay } from './events';
import { CREATE_OUTBOX, categoryKey, pauseFor, productKey } from './given';

const servers = useServers('products');

beforeAll(() => servers.db.query(CREATE_OUTBOX));
beforeEach(() => servers.db.query('DELETE FROM outbox'));

const [KITCHEN, LIGHTING, MUGS] = [1, 2, 3];
/** Products 1 and 2 are in KITCHEN, 3 is in LIGHTING. */
const NOBODY = 99;
const REJECTION = expect.stringMatching(/^rejected/);
const sorted = (...keys: string[]) => keys.sort();

describe('Core', () => {
  test('an update changes the row, and writes one event for each key that is old now', async () => {
    const catalogue = openCatalogue();
    expect(await catalogue.update(1, { price: '13.50' }), 'the product exists: update must return true').toBe(
      true,
    );
    expect(await row(1), 'the row in MySQL when update has resolved').toEqual({
      price: '13.50',
      categoryId: KITCHEN,
    });
    expect(
      await outbox(),
      'keys in the outbox: the price stands in the entry of the product, and in the list of its category',
    ).toEqual(sorted(productKey(1), categoryKey(KITCHEN)));
    expect(
      await catalogue.update(NOBODY, { price: '1.00' }),
      'there is no such product: update must return false',
    ).toBe(false);
  });

  test('a moved product makes two lists old: the one it leaves and the one it enters', async () => {
    await openCatalogue().update(1, { categoryId: LIGHTING });
    expect(await row(1), 'the row in MySQL: the price was left out, so it must stay').toEqual({
      price: '12.90',
      categoryId: LIGHTING,
    });
    expect(await outbox(), `keys in the outbox: the product went from ${KITCHEN} to ${LIGHTING}`).toEqual(
      sorted(productKey(1), categoryKey(KITCHEN), categoryKey(LIGHTING)),
    );
  });

  test('an update and its events are committed together, or not at all', async () => {
    expect(
      await outcome(openCatalogue().update(2, { price: '999999999.00' })),
      'MySQL refuses this price: update must reject with its error',
    ).toEqual(REJECTION);
    expect(await outbox(), 'keys in the outbox: the update was rolled back, so nothing is old').toEqual([]);
    await withoutOutbox(async () => {
      expect(
        await outcome(openCatalogue().update(2, { price: '36.00' })),
        'MySQL refuses the events: update must reject with its error',
      ).toEqual(REJECTION);
    });
    expect((await row(2))?.price, 'the price in MySQL, which has refused the events of a new one').toBe(
      '34.00',
    );
    const away = servers.connectRedis();
    away.disconnect();
    expect(
      await outcome(createCatalogue({ db: servers.db, redis: away }).update(2, { price: '35.00' })),
      'Redis is away, and MySQL has committed the change and its events: update must return true',
    ).toBe(true);
    await dieAtEachRequest(async (db, redis, when) => {
      await servers.db.query('DELETE FROM outbox');
      await servers.db.query('UPDATE products SET category_id = ? WHERE id = 3', [LIGHTING]);
      await outcome(createCatalogue({ db, redis }).update(3, { categoryId: MUGS }));
      const moved = (await row(3))?.categoryId === MUGS;
      expect(
        await outbox(),
        `keys in the outbox. The writer died ${when()}; MySQL has ${moved ? '' : 'not '}committed the change`,
      ).toEqual(moved ? sorted(productKey(3), categoryKey(LIGHTING), categoryKey(MUGS)) : []);
    });
  });

  test('a pass deletes the keys of the oldest events, and of the events those that it has read', async () => {
    const { redis, proxy } = await behindRedisProxy();
    await emit([8, 'a1'], [9, 'not cached'], [10, 'c1']);
    await fill('a1', 'c1', 'unrelated');
    const relay = openRelay({ redis, batchSize: 2 });
    const held = proxy.hold(/./);
    const passing = outcome(relay.pass());
    await Promise.race([held.arrived, passing]);
    // Where the pass makes this INSERT wait, it is in the outbox only later.
    const again = emit([11, 'a1']);
    await soon(again, 50);
    held.release();
    expect(
      await passing,
      'events that the pass has deleted: batchSize is 2, and a key that Redis does not hold needs no second pass',
    ).toBe(2);
    await again;
    expect(await cached('a1', 'c1', 'unrelated'), 'keys in Redis: only a1 is among the two oldest').toEqual([
      'c1',
      'unrelated',
    ]);
    expect(
      await outbox(),
      'keys in the outbox: a1 was written again while the pass waited for Redis, so that event must stay',
    ).toEqual(['a1', 'c1']);
    expect(await relay.pass(), 'events that the next pass has deleted').toBe(2);
    expect(await cached('a1', 'c1'), 'keys in Redis after the next pass').toEqual([]);
    expect(await relay.pass(), 'the outbox is empty: the pass must return 0').toBe(0);
  });

  test('an event stays until Redis has deleted its key, even if the relay dies', async () => {
    await dieAtEachRequest(async (db, redis, when) => {
      await servers.db.query('DELETE FROM outbox');
      await fill('a1', 'b1');
      await emit([1, 'a1'], [2, 'b1']);
      await outcome(createRelay({ db, redis }).pass());
      await passUntilEmpty();
      expect(
        await cached('a1', 'b1'),
        `keys in Redis. A relay died ${when()}, and the outbox was emptied by another one`,
      ).toEqual([]);
      expect(await outbox(), 'keys in the outbox after the pass of another relay').toEqual([]);
    });
    const { redis, permit } = await refusingRedis(servers);
    await emit([3, 'a1'], [4, 'b1']);
    for (const deleted of ['nothing', 'a1', 'b1']) {
      await permit(deleted);
      expect(
        await outcome(openRelay({ redis }).pass()),
        `Redis refuses to delete keys other than ${deleted}: the pass must reject`,
      ).toEqual(REJECTION);
      expect(
        await outbox(),
        `keys in the outbox. Redis refused to delete keys other than ${deleted}, so all events must stay`,
      ).toEqual(['a1', 'b1']);
    }
  });

  test('no reader brings back the old value, also one that reads before the COMMIT', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const commit = proxy.hold(/^COMMIT/i);
    const readers = openCatalogue();
    await readers.product(2);
    const { stop, running } = startRun({ pauseMs: 2 });
    const writer = createCatalogue({ db: servers.connectDb({}, proxy.url), redis: servers.redis });
    const updating = outcome(writer.update(2, { price: '35.00' }));
    await Promise.race([commit.arrived, updating]);
    await sleep(20);
    expect((await readers.product(2))?.price, 'price for readers: the update has not committed').toBe(
      '34.00',
    );
    commit.release();
    expect(await updating, 'the product exists: update must return true').toBe(true);
    await until(async () => (await readers.product(2))?.price === '35.00');
    expect(
      (await readers.product(2))?.price,
      'price for readers, while the relay runs: a reader had stored the old row just before the COMMIT',
    ).toBe('35.00');
    stop();
    expect(await outcome(running), 'the signal was aborted: run must resolve').toBeUndefined();
  });
});

describe('In production', () => {
  test('two updates of one product at once miss no list', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const update = proxy.hold(/^UPDATE/i);
    const slow = createCatalogue({ db: servers.connectDb({}, proxy.url), redis: servers.redis });
    const first = outcome(slow.update(1, { categoryId: LIGHTING }), 5000);
    await Promise.race([update.arrived, first]);
    const second = outcome(openCatalogue().update(1, { categoryId: MUGS }), 5000);
    await Promise.race([second, someoneWaitsForALock()]);
    update.release();
    expect(
      [await first, await second],
      'two updates of one product at once: both must commit, the second when the first has',
    ).toEqual([true, true]);
    const last = (await row(1))?.categoryId;
    const between = last === MUGS ? LIGHTING : MUGS;
    expect(
      (await outbox()).filter((key) => key === categoryKey(between)),
      `events for category ${between}: the product went from ${KITCHEN} through ${between} to ${last}, so its list got old twice`,
    ).toHaveLength(2);
  });

  test('an update does not wait for a relay', async () => {
    await emit([1, productKey(1)], [2, categoryKey(KITCHEN)]);
    const busy = await relayThatWaitsForRedis({ batchSize: 10 });
    const updates = [
      openCatalogue().update(1, { price: '1.00' }),
      openCatalogue().update(2, { price: '2.00' }),
    ];
    expect(
      await outcome(Promise.all(updates)),
      'a relay has read the outbox and waits for Redis: both updates must be committed meanwhile',
    ).toEqual([true, true]);
    busy.release();
    await Promise.allSettled([busy.passing, ...updates]);
  });

  test('an event that is committed late is neither skipped nor waited for', async () => {
    const relay = openRelay();
    await fill('late', 'early');
    const writer = await servers.db.getConnection();
    let passing: Promise<unknown> | undefined;
    try {
      await writer.beginTransaction();
      await writer.query("INSERT INTO outbox (cache_key) VALUES ('late')");
      await emit([0, 'early']);
      passing = outcome(relay.pass(), 3000);
      await until(async () => (await cached('early')).length === 0);
      expect(
        await cached('late', 'early'),
        'keys in Redis: the event for "early" is committed, and the transaction that wrote the event for "late" is still open',
      ).toEqual(['late']);
      await writer.commit();
    } finally {
      writer.destroy();
    }
    await passing;
    await outcome(relay.pass());
    expect(
      await cached('late', 'early'),
      'keys in Redis: the event for "late" was committed after an event with a greater id was relayed',
    ).toEqual([]);
  });

  test('two relays share the work, and neither waits for the other', async () => {
    await fill('a1', 'b1', 'c1', 'd1', 'e1');
    await emit([1, 'a1'], [2, 'b1'], [3, 'c1'], [4, 'd1'], [5, 'e1']);
    const busy = await relayThatWaitsForRedis();
    const passing = openRelay().pass();
    const deleted = await outcome(passing);
    const left = await cached('a1', 'b1', 'c1', 'd1', 'e1');
    const waits = left.length > 1 ? 'reads the events' : 'deletes the events from the outbox';
    expect(
      deleted,
      deleted === 'still waiting'
        ? `another relay holds one event of five, and this pass does not end: it waits where it ${waits}`
        : 'events deleted by this pass: another relay holds one of five',
    ).toBe(4);
    expect(left, 'keys in Redis: another relay holds the event of a1, and waits for Redis').toEqual(['a1']);
    busy.release();
    await Promise.allSettled([busy.passing, passing]);
    expect(await outbox(), 'keys in the outbox when both passes have ended').toEqual([]);
  });

  test('a pass that gets no answer ends by its deadline, and frees its events', async () => {
    await fill('a1');
    await emit([1, 'a1']);
    const busy = await relayThatWaitsForRedis({ deadlineMs: 60 });
    expect(
      await outcome(busy.passing),
      'Redis does not answer, and deadlineMs is 60: the pass must reject',
    ).toEqual(REJECTION);
    await passUntilEmpty();
    expect(
      await outbox(),
      'keys in the outbox: the pass has ended, so another relay must get its event',
    ).toEqual([]);
    busy.release();

    const mysql = await openProxy(servers.mysqlUrl);
    const db = servers.connectDb({}, mysql.url);
    await db.query('SELECT 1');
    mysql.blackHole();
    expect(
      await outcome(openRelay({ db, deadlineMs: 60 }).pass()),
      'MySQL does not answer, and deadlineMs is 60: the pass must reject',
    ).toEqual(REJECTION);
  });

  test('run reports each failure, and goes on until Redis is back', async () => {
    const { redis, proxy } = await behindRedisProxy();
    await fill('a1');
    await emit([1, 'a1']);
    await proxy.refuse();
    const errors: unknown[] = [];
    const { stop, running, ended } = startRun({
      redis,
      pauseMs: 3,
      longestPauseMs: 20,
      onError: (error) => errors.push(error),
    });
    await until(() => errors.length >= 2 || ended());
    expect(ended(), 'whether run has ended: Redis refuses connections, and run must go on').toBe(false);
    expect(errors.length, 'calls of onError while Redis refuses connections').toBeGreaterThanOrEqual(2);
    expect(errors[0], 'onError must get the error itself').toBeInstanceOf(Error);
    await proxy.heal();
    await until(async () => (await outbox()).length === 0);
    expect(
      [await outbox(), await cached('a1')],
      'keys in the outbox and in Redis: Redis is back, so run must catch up by itself',
    ).toEqual([[], []]);
    stop();
    await outcome(running);
  });

  test('run pauses when a pass fails or finds nothing, longer after each failure up to longestPauseMs', async () => {
    const { redis, proxy } = await behindRedisProxy();
    await emit([1, 'a1'], [2, 'b1'], [3, 'c1']);
    await proxy.refuse();
    const FAILURES = 14;
    const meter = pauseMeter(FAILURES);
    const { pauses } = meter;
    let failures = 0;
    let left: readonly string[] = [];
    let listening = 0;
    const { stop, running, listeners } = startRun({
      redis,
      batchSize: 2,
      pauseMs: 30,
      longestPauseMs: 1700,
      onError() {
        if (++failures > 50) stop();
      },
      async pause(ms) {
        await meter.begin(ms);
        if (pauses.length === FAILURES) {
          await proxy.heal();
          await connected(redis);
        }
        if (pauses.length === FAILURES + 1) {
          left = await outbox();
          listening = listeners();
          await emit([4, 'd1']);
          await proxy.refuse();
        }
        if (pauses.length > FAILURES + 1) stop();
        meter.end();
      },
    });
    await outcome(running, 5000);
    const seen = `ms of all pauses, with pauseMs 30 and longestPauseMs 1700: ${pauses.map(Math.round).join(', ') || 'none'}`;
    expect(failures, `failures: pause must follow each. ${seen}`).toBeLessThanOrEqual(pauses.length);
    expect(pauses.length, `pauses until run was stopped. ${seen}`).toBe(FAILURES + 2);
    expect(
      listening,
      `listeners of the signal after ${FAILURES} pauses: a pause that has ended must leave none, or a relay that runs for days grows`,
    ).toBeLessThan(5);
    expect(
      left,
      'keys in the outbox at the first pause after Redis was back: run must not pause after work',
    ).toEqual([]);
    expect(meter.mostAtOnce, 'pauses at the same time: a pass must wait for the end of a pause').toBe(1);
    const grown = pauses.slice(0, FAILURES);
    expect(grown[0], `the first pause. ${seen}`).toBeLessThanOrEqual(60);
    expect(Math.min(...pauses), `the shortest pause. ${seen}`).toBeGreaterThanOrEqual(15);
    expect(grown.at(-1), `the pause after failure ${FAILURES}. ${seen}`).toBeGreaterThanOrEqual(850);
    expect(Math.max(...grown), `the longest pause. ${seen}`).toBeLessThanOrEqual(1700);
    expect(pauses.at(-1), `the pause after a success and one failure. ${seen}`).toBeLessThanOrEqual(60);
  });

  test('an abort ends a pause at once, and lets a pass finish', async () => {
    const paused = signal();
    const idle = startRun({
      pauseMs: 60_000,
      pause(ms, signal) {
        paused.fire();
        return pauseFor(ms, signal);
      },
    });
    await Promise.race([paused.promise, outcome(idle.running, 200)]);
    idle.stop();
    expect(await outcome(idle.running), 'aborted in a pause of a minute: run must resolve').toBeUndefined();

    for (const end of ['well', 'with an error'] as const) {
      const { redis, proxy } = await behindRedisProxy({ maxRetriesPerRequest: 0 });
      await emit([0, 'a1']);
      const held = proxy.hold(/./);
      const { stop, running, ended } = startRun({ redis, pauseMs: 60_000 });
      await Promise.race([held.arrived, outcome(running)]);
      stop();
      await sleep(10);
      expect(
        ended(),
        'whether run has ended: aborted during a pass, it must wait for the end of that pass',
      ).toBe(false);
      if (end === 'with an error') proxy.cut();
      held.release();
      expect(
        await outcome(running),
        `aborted during a pass, which ended ${end}: run must resolve`,
      ).toBeUndefined();
    }
  });
});

type Options = Parameters<typeof createRelay>[0];

const openCatalogue = () => createCatalogue({ db: servers.db, redis: servers.redis });

const openRelay = (options: Partial<Options> = {}) =>
  createRelay({ db: servers.db, redis: servers.redis, ...options });

/** A relay that runs until `stop`, or until the test ends. */
function startRun(options: Partial<Options>) {
  const controller = new AbortController();
  onTestFinished(() => controller.abort());
  let ended = false;
  const running = openRelay({ db: servers.connectDb(), ...options })
    .run(controller.signal)
    .finally(() => {
      ended = true;
    });
  running.catch(() => {});
  return {
    running,
    stop: () => controller.abort(),
    ended: () => ended,
    listeners: () => getEventListeners(controller.signal, 'abort').length,
  };
}

/** A client that fails at once while it is not connected. */
const behindRedisProxy = (options: RedisOptions = {}) =>
  redisBehindProxy(servers, { enableOfflineQueue: false, retryStrategy: () => 5, ...options });

/** A relay that has read the oldest event, and whose first command to Redis is held. */
async function relayThatWaitsForRedis(options: Partial<Options> = {}) {
  const { redis, proxy } = await behindRedisProxy();
  const held = proxy.hold(/./);
  onTestFinished(() => held.release());
  const passing = openRelay({ db: servers.connectDb(), redis, batchSize: 1, ...options }).pass();
  await Promise.race([held.arrived, outcome(passing)]);
  return { passing, release: () => held.release() };
}

/** A server may need a moment to roll back what a dead relay has locked. */
async function passUntilEmpty(relay = openRelay()) {
  for (const end = performance.now() + 1000; performance.now() < end; await sleep(1)) {
    await outcome(relay.pass());
    if ((await outbox()).length === 0) return;
  }
}

/** Events as an update writes them, with ids of the test's own (0: the next one). */
async function emit(...events: (readonly [id: number, key: string])[]) {
  await servers.db.query('INSERT INTO outbox (id, cache_key) VALUES ?', [events]);
}

async function fill(...keys: string[]) {
  for (const key of keys) await servers.redis.set(key, 'old');
}

/** The pauses (ms), and how many there were at once. The last ones take longer than a pass. */
function pauseMeter(quick: number) {
  const pauses: number[] = [];
  let running = 0;
  return {
    pauses,
    mostAtOnce: 0,
    async begin(ms: number) {
      pauses.push(ms);
      this.mostAtOnce = Math.max(this.mostAtOnce, ++running);
      for (let queries = pauses.length > quick ? 0 : 8; queries < 8; queries++)
        await servers.db.query('SELECT 1');
    },
    end: () => void running--,
  };
}

/** MySQL knows no outbox meanwhile. */
async function withoutOutbox(act: () => Promise<void>) {
  await servers.db.query('RENAME TABLE outbox TO outbox_elsewhere');
  try {
    await act();
  } finally {
    await servers.db.query('RENAME TABLE outbox_elsewhere TO outbox');
  }
}

/** Those of the keys that Redis holds. */
async function cached(...keys: string[]): Promise<string[]> {
  const values = await servers.redis.mget(keys);
  return keys.filter((_, at) => values[at] !== null);
}

/** The keys of the outbox, sorted. */
async function outbox(): Promise<string[]> {
  const [rows] = await servers.db.query<RowDataPacket[]>('SELECT cache_key AS cacheKey FROM outbox');
  return rows.map(({ cacheKey }) => String(cacheKey)).sort();
}

async function row(id: number) {
  const [[found]] = await servers.db.query<RowDataPacket[]>(
    'SELECT price, category_id AS categoryId FROM products WHERE id = ?',
    [id],
  );
  return found;
}

/**
 * Runs `act` behind proxies that are cut forever just before its first request, then before its second, until it sends no
 * more: to the servers, that is a process that dies there.
 */
async function dieAtEachRequest(act: (db: Pool, redis: Redis, when: () => string) => Promise<void>) {
  for (let nth = 1, sent = 1; sent >= nth - 1; nth++) {
    sent = 0;
    const proxies = await Promise.all([openProxy(servers.redisUrl), openProxy(servers.mysqlUrl)]);
    const redis = servers.connectRedis({ maxRetriesPerRequest: 0, commandTimeout: 500 }, proxies[0].url);
    const db = servers.connectDb({}, proxies[1].url);
    await Promise.all([connected(redis), db.query('SELECT 1')]);
    let last = '';
    const die = async (request: string) => {
      if (++sent !== nth) return;
      last = request.replace(/\s+/g, ' ').slice(0, 50);
      await Promise.all(proxies.map((proxy) => proxy.refuse()));
    };
    for (const proxy of proxies) proxy.schedule(die);
    await act(db, redis, () => (last ? `just before its request ${nth}, ${last}` : 'after its last request'));
    redis.disconnect();
    await Promise.all(proxies.map((proxy) => proxy.close()));
  }
}

async function someoneWaitsForALock() {
  for (const end = Date.now() + 1000; Date.now() < end; await sleep(5)) {
    const [found] = await servers.db.query<RowDataPacket[]>('SHOW ENGINE INNODB STATUS');
    const status = String(found[0]?.Status);
    if (/^LOCK WAIT/m.test(status.slice(status.lastIndexOf('\nTRANSACTIONS\n')))) return;
  }
}
