import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { explore } from '#kit/explore';
import { ownRedis } from '#kit/own-redis';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, soon, until } from '#kit/waiting';
import {
  CREATE_OUTBOX,
  categoryKey,
  createCatalogue,
  createListener,
  createRelay,
  DeadlineError,
  entityOf,
  productKey,
  STREAM,
} from './events';

const servers = useServers('products');

beforeAll(() => servers.db.query(CREATE_OUTBOX));
beforeEach(() => servers.db.query('DELETE FROM outbox'));

const [KITCHEN, LIGHTING, MUGS] = [1, 2, 3];

test('an update and its events are committed together, or not at all', async () => {
  const catalogue = openCatalogue();
  await catalogue.product(1);
  await catalogue.category(KITCHEN);
  expect(
    await servers.redis.exists(productKey(1), categoryKey(KITCHEN)),
    'product and category are cached, each under its own key',
  ).toBe(2);
  await servers.db.query("UPDATE products SET updated_at = '2020-01-01'");
  expect(await catalogue.update(1, { categoryId: LIGHTING, price: '13.50' }), 'there is such a product').toBe(
    true,
  );
  expect(
    await row(1),
    'resolve after the COMMIT: another connection must see the new row by then',
  ).toMatchObject({ price: '13.50', categoryId: LIGHTING });
  expect((await row(1))?.year, 'an update writes updated_at, too').toBeGreaterThan(2020);
  expect(
    await waiting(),
    'the product was moved: its page, the list that it has left and the list that it has entered are old',
  ).toEqual([productKey(1), categoryKey(KITCHEN), categoryKey(LIGHTING)].sort());
  const [entities] = await servers.db.query<RowDataPacket[]>('SELECT DISTINCT entity FROM outbox');
  expect(
    entities.map(({ entity }) => entity),
    'the entity of all events is the product',
  ).toEqual([entityOf(1)]);

  await servers.db.query('DELETE FROM outbox');
  await catalogue.update(2, { price: '35.00' });
  expect(
    await waiting(),
    'not moved: its page, and the list in which its price is shown, are old all the same',
  ).toEqual([categoryKey(KITCHEN), productKey(2)].sort());

  const proxy = await openProxy(servers.redisUrl);
  const away = servers.connectRedis({ maxRetriesPerRequest: 0, commandTimeout: 100 }, proxy.url);
  await away.ping();
  await proxy.refuse();
  expect(
    await outcome(createCatalogue({ db: servers.db, redis: away }).update(2, { categoryId: MUGS })),
    'Redis is away: an update needs MySQL only',
  ).toBe(true);
  expect(await row(2), 'what is left out of the changes stays as it is').toMatchObject({
    price: '35.00',
    categoryId: MUGS,
  });

  await servers.db.query('DELETE FROM outbox');
  expect(await catalogue.update(99, { price: '1.00' }), 'there is no such product').toBe(false);
  const refused = catalogue.update(2, { price: '999999999.00' }).catch((error: Error) => error);
  expect(await refused, 'MySQL refuses this price: reject with what it says').toBeInstanceOf(Error);
  expect(await waiting(), 'nothing was committed: no event').toEqual([]);
  const holder = await servers.db.getConnection();
  try {
    await holder.beginTransaction();
    await holder.query('SELECT id FROM products WHERE id = 1 FOR UPDATE');
    const late = createCatalogue({ db: servers.db, redis: servers.redis, deadlineMs: 40 }).update(1, {});
    expect(
      await soon(late.catch(errorOf)),
      'another transaction holds the row: the update must end with its deadline',
    ).toBeInstanceOf(DeadlineError);
  } finally {
    holder.destroy();
  }

  // The process dies at each of its requests in turn, until there is none left to die at.
  await dieAtEachRequest(async (db, redis, when) => {
    await servers.db.query('DELETE FROM outbox');
    await servers.db.query('UPDATE products SET category_id = ? WHERE id = 3', [LIGHTING]);
    await createCatalogue({ db, redis, deadlineMs: 1000 })
      .update(3, { categoryId: MUGS })
      .catch(() => {});
    const moved = (await row(3))?.categoryId === MUGS;
    expect(
      await waiting(),
      `the writer died ${when()}, and the product was ${moved ? '' : 'not '}moved: the outbox must say the same. Insert the events in the transaction that writes the row`,
    ).toEqual(moved ? [productKey(3), categoryKey(LIGHTING), categoryKey(MUGS)].sort() : []);
  });
});

test('each of two updates at once knows the category that the other has left', async () => {
  const proxy = await openProxy(servers.mysqlUrl);
  const gate = proxy.hold(/^UPDATE/i);
  const slow = createCatalogue({ db: servers.connectDb({}, proxy.url), redis: servers.redis });
  const first = slow.update(1, { categoryId: LIGHTING });
  first.catch(() => {});
  await Promise.race([gate.arrived, first]);
  const second = openCatalogue().update(1, { categoryId: MUGS });
  second.catch(() => {});
  await Promise.race([second, someoneWaitsForALock()]);
  gate.release();
  expect(
    [await outcome(first), await outcome(second)],
    'two updates of one product at once: both must be committed. Take the lock of the row at once (FOR UPDATE); who has read it under a shared lock cannot get it any more',
  ).toEqual([true, true]);

  const last = (await row(1))?.categoryId;
  const between = last === MUGS ? LIGHTING : MUGS;
  const [events] = await servers.db.query<RowDataPacket[]>('SELECT cache_key FROM outbox ORDER BY id');
  const lists = events.map(({ cache_key }) => String(cache_key)).filter((key) => /^category/.test(key));
  expect(
    lists.filter((key) => key === categoryKey(between)),
    `the product went from category ${KITCHEN} through ${between} to ${last}: the update that took it away from ${between} must say so too. Lock the row (FOR UPDATE) when you read its category`,
  ).toHaveLength(2);
  expect(
    lists.slice(0, 2).sort(),
    'the events of the update that was committed first must have the lower ids: insert them when you hold the lock of the row, not before',
  ).toEqual([categoryKey(KITCHEN), categoryKey(between)].sort());
});

test('a relay that dies at any request loses nothing, and tells nobody too early', async () => {
  await dieAtEachRequest(async (db, redis, when) => {
    await fill(productKey(1), categoryKey(KITCHEN));
    await servers.redis.del(STREAM);
    await emit([1, 'a', productKey(1)], [2, 'b', categoryKey(KITCHEN)]);
    await createRelay({ db, redis, deadlineMs: 1000 })
      .pass()
      .catch(() => {});
    const early = await announcedAndCached();
    expect(
      early,
      `the relay died ${when()}, and a key was in the stream and still in the cache: its listeners fill themselves with the old value. DEL first, then XADD`,
    ).toEqual([]);
    await soon(drain());
    expect(
      await cachedKeys(),
      `the relay died ${when()}; another one has passed since, and these keys were never deleted: the rows may leave the outbox when Redis has confirmed everything, not before`,
    ).toEqual([]);
    expect(
      [...new Set(await announced())].sort(),
      `the relay died ${when()}: the stream must have both events in the end`,
    ).toEqual([productKey(1), categoryKey(KITCHEN)].sort());
    expect(await waiting(), 'what was relayed leaves the outbox').toEqual([]);
  });

  const proxy = await openProxy(servers.mysqlUrl);
  const db = servers.connectDb({}, proxy.url);
  await db.query('SELECT 1');
  proxy.blackHole();
  const silent = await soon(createRelay({ db, redis: servers.redis, deadlineMs: 50 }).pass().catch(errorOf));
  expect(silent, 'MySQL does not answer: the pass must end with its deadline').toBeInstanceOf(DeadlineError);
});

test('an event that is committed late is relayed late', async () => {
  const relay = openRelay();
  const late = await servers.db.getConnection();
  await fill('late', 'early');
  try {
    await late.beginTransaction();
    await late.query("INSERT INTO outbox (entity, cache_key) VALUES ('product:1', 'late')");
    await emit([0, 'product:2', 'early']);
    expect(
      await soon(relay.pass()),
      'a transaction is open and holds a row of the outbox: pass over that row, do not wait for its COMMIT (SKIP LOCKED)',
    ).toBe(1);
    expect(
      await cachedKeys(),
      'the event of an open transaction was relayed: until its COMMIT the old row is the true one, and readers put it back',
    ).toEqual(['late']);
    await late.commit();
  } finally {
    late.destroy();
  }
  await soon(drain(relay));
  expect(
    await cachedKeys(),
    'an event was committed after one with a greater id had been relayed: look at what is in the table, not at what is behind the last id',
  ).toEqual([]);

  // Two ids that are one Number.
  await fill('even', 'odd');
  onTestFinished(async () => {
    await servers.db.query('DELETE FROM outbox');
    await servers.db.query('ALTER TABLE outbox AUTO_INCREMENT = 1');
  });
  await emit(['9007199254740992', 'product:1', 'even'], ['9007199254740993', 'product:2', 'odd']);
  await drain(openRelay({ batchSize: 1 }));
  expect(
    [await waiting(), await cachedKeys()],
    'past 2^53 the ids must stay exact: read them as text (CAST AS CHAR) or BigInt, and delete just these rows',
  ).toEqual([[], []]);
});

test('two relays share the work, and neither overtakes the other on one product', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({}, proxy.url);
  // The gate is for the relay's first command, not for those with which a client begins.
  await redis.ping();
  const busy = openRelay({ redis });
  const other = openRelay();
  // As text, 10 comes before 8.
  await emit([8, 'a', 'a1']);
  const gate = proxy.hold(/./);
  const first = busy.pass();
  first.catch(() => {});
  await Promise.race([gate.arrived, first]);

  const more = emit([9, 'b', 'b1'], [10, 'a', 'a2'], [11, 'c', 'c1'], [12, 'd', 'd1'], [13, 'e', 'e1']);
  expect(
    await soon(more),
    'an INSERT into the outbox waited for a relay that waits for Redis: claim under READ COMMITTED, which locks rows and not the end of the table',
  ).not.toBe('still waiting');
  const shared = await soon(other.pass().catch(errorOf));
  expect(
    shared,
    'one relay has an event in hand and waits for Redis: the other must not wait for it, but take what is free. Claim with SKIP LOCKED, and let the DELETE go by the primary key: with IN alone, it may scan the table and wait at a row of the other',
  ).toBeTypeOf('number');
  expect(
    await announced(),
    'the first relay has a1 in hand: all others are free, oldest first by number, but a2, which comes behind a1, and a1 is still in the table',
  ).toEqual(['b1', 'c1', 'd1', 'e1']);
  expect(shared, 'pass says how many events have left the outbox').toBe(4);
  expect(await soon(other.pass()), 'only a2 was free, and it was passed over: none has left the outbox').toBe(
    0,
  );
  const [[, fields]] = (await servers.redis.xrange(STREAM, '-', '+')) as [[string, string[]]];
  expect(
    Object.fromEntries(fields.flatMap((field, at) => (at % 2 === 0 ? [[field, fields[at + 1]]] : []))),
    'the fields of an entry are those that STREAM documents',
  ).toEqual({ outbox: '9', entity: 'b', key: 'b1' });

  await emit([14, 'a', 'a1']);
  gate.release();
  expect(await soon(first), 'the first relay goes on where it was').toBe(1);
  expect(
    await waiting(),
    'an update committed the same key again while a relay had the first event in hand: delete the row that was relayed, by its id',
  ).toEqual(['a1', 'a2']);
  await drain(other);
  expect(
    (await announced()).filter((key) => key.startsWith('a')),
    'each event of a product once, in their order',
  ).toEqual(['a1', 'a2', 'a1']);
  expect(await waiting(), 'all are relayed').toEqual([]);

  await emit([20, 'f', 'f1'], [21, 'g', 'g1'], [22, 'h', 'h1']);
  expect(
    [await openRelay({ batchSize: 2 }).pass(), await waiting()],
    'a pass takes batchSize events at most',
  ).toEqual([2, ['h1']]);
});

test('Redis that is away delays an invalidation, and loses none', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis(
    { commandTimeout: 150, enableOfflineQueue: false, retryStrategy: () => 5 },
    proxy.url,
  );
  await redis.ping().catch(() => {});
  const db = servers.connectDb();
  const relay = createRelay({ db, redis });

  await fill('a1', 'b1');
  await emit([1, 'a', 'a1'], [2, 'b', 'b1']);
  await servers.redis.set(STREAM, 'not a stream');
  const answer = await soon(relay.pass().catch(errorOf));
  expect(
    answer,
    'Redis answered the XADD with an error: pass must reject. A pipeline or MULTI does not reject for it, look into its results',
  ).toBeInstanceOf(Error);
  expect(await waiting(), 'Redis has not taken the events: they stay in the outbox').toEqual(['a1', 'b1']);
  await servers.redis.del(STREAM);

  // It may do anything to the stream, and nothing to the cache.
  const guarded = servers.connectRedis({}, (await ownRedis()).url);
  await guarded.acl('SETUSER', 'default', 'resetkeys', `~${STREAM}`);
  expect(
    await soon(createRelay({ db, redis: guarded }).pass().catch(errorOf)),
    'Redis answered the DEL with an error: pass must reject',
  ).toBeInstanceOf(Error);
  expect(await guarded.xlen(STREAM), 'the keys are still in the cache: announce nothing').toBe(0);

  await fill('a1', 'b1');
  await proxy.refuse();
  const refused = await soon(relay.pass().catch(errorOf));
  expect(refused, 'Redis is away: pass must reject').toBeInstanceOf(Error);
  expect(await waiting(), 'Redis is away: the events stay in the outbox').toEqual(['a1', 'b1']);

  const failures: unknown[] = [];
  const hear = (error: unknown) => failures.push(error);
  const patient = aborter();
  const waits = createRelay({ db, redis, pauseMs: 3000, onError: hear }).run(patient.signal);
  // One relay at a time: what the one has in hand is not there for the other.
  await until(() => failures.length > 0);
  const slower = aborter();
  const often: unknown[] = [];
  const slows = createRelay({ db, redis, pauseMs: 20, onError: (error) => often.push(error) }).run(
    slower.signal,
  );
  await sleep(250);
  expect(failures.length, 'run tried again without a pause: a Redis that comes back is met by a storm').toBe(
    1,
  );
  expect(
    often.length,
    'run must wait longer after each failure: 20 + 40 + 80 + 160 ms leave room for five in a quarter of a second',
  ).toBeLessThanOrEqual(6);
  expect(often.length, 'run must tell onError of each failure, and try again').toBeGreaterThanOrEqual(2);
  patient.abort();
  slower.abort();
  await soon(slows);
  expect(await soon(waits), 'the signal was aborted in a pause: run must resolve at once').toBeUndefined();

  const stop = aborter();
  const running = createRelay({ db, redis, pauseMs: 20, onError: hear }).run(stop.signal);
  await proxy.heal();
  await until(async () => (await waiting()).length === 0);
  expect(
    [await waiting(), await cachedKeys(), [...new Set(await announced())]],
    'Redis is back: run must catch up by itself',
  ).toEqual([[], [], ['a1', 'b1']]);
  stop.abort();
  expect(await soon(running), 'the signal was aborted: run must resolve').toBeUndefined();

  await emit([31, 'a', 'a1'], [32, 'b', 'b1'], [33, 'c', 'c1']);
  const idle = aborter();
  const mysql = await openProxy(servers.mysqlUrl);
  let requests = 0;
  mysql.schedule(async () => void requests++);
  const db1 = servers.connectDb({}, mysql.url);
  const resting = createRelay({ db: db1, redis: servers.redis, batchSize: 1, pauseMs: 60_000 }).run(
    idle.signal,
  );
  await until(async () => (await waiting()).length === 0);
  expect(await waiting(), 'after a pass that had work, the next follows at once').toEqual([]);
  await sleep(20);
  requests = 0;
  await sleep(30);
  expect(
    requests,
    'after a pass that had no work, run must pause: MySQL is asked again and again',
  ).toBeLessThan(12);
  idle.abort();
  expect(await soon(resting), 'the signal was aborted in a pause of a minute: end the pause').toBeUndefined();

  const patiently = servers.connectRedis({ maxRetriesPerRequest: 0 }, proxy.url);
  for (const how of ['well', 'badly'] as const) {
    await patiently.ping();
    await emit([0, 'a', 'a1']);
    const last = aborter();
    const gate = proxy.hold(/./);
    let state = 'running';
    const ended = createRelay({ db, redis: patiently, pauseMs: 60_000 })
      .run(last.signal)
      .finally(() => {
        state = 'ended';
      });
    ended.catch(() => {});
    await Promise.race([gate.arrived, ended]);
    last.abort();
    await sleep(10);
    expect(state, 'the signal was aborted in the middle of a pass: run must end with it, not before').toBe(
      'running',
    );
    if (how === 'badly') proxy.cut();
    gate.release();
    expect(
      await outcome(ended),
      `the signal was aborted, and the last pass ends ${how}: run must resolve`,
    ).toBeUndefined();
  }
});

test('in every interleaving, nothing older than the commit is cached after the next pass', async () => {
  const proxy = await openProxy(servers.mysqlUrl);
  const gate = proxy.hold(/^COMMIT/i);
  const readers = openCatalogue();
  await readers.product(2);
  const updating = createCatalogue({ db: servers.connectDb({}, proxy.url), redis: servers.redis }).update(2, {
    price: '35.00',
  });
  updating.catch(() => {});
  await Promise.race([gate.arrived, updating]);
  await soon(drain());
  expect((await readers.product(2))?.price, 'not committed yet: readers see the old price').toBe('34.00');
  gate.release();
  await updating;
  await soon(drain());
  expect(
    (await readers.product(2))?.price,
    'a reader came between a DEL and the COMMIT, and put the old row back: a DEL must follow the COMMIT, so no one but the relay may send it',
  ).toBe('35.00');

  const victims: { writer?: Redis; relay?: number } = {};
  await explore(servers, {
    runs: 20,
    prepare: async () => {
      await servers.db.query('DELETE FROM outbox');
      await servers.db.query("UPDATE products SET category_id = 1, price = '12.90' WHERE id = 1");
      await servers.redis.del(STREAM, productKey(1));
      await servers.redis.set(productKey(1), '12.90');
    },
    actors: {
      writer: async ({ db, redis }) => {
        if (redis.status !== 'ready') await redis.connect();
        victims.writer = redis;
        await createCatalogue({ db, redis }).update(1, { price: '13.50' });
      },
      // Its fill has a lease (3.6), so that a late one is no matter of this test: the DEL takes the lease, too.
      reader: async ({ db, redis }) => {
        if (!(await redis.set(productKey(1), 'lease', 'NX'))) return;
        const [[found]] = await db.query<RowDataPacket[]>('SELECT price FROM products WHERE id = 1');
        const fill = "if redis.call('GET', KEYS[1]) == 'lease' then redis.call('SET', KEYS[1], ARGV[1]) end";
        await redis.eval(fill, 1, productKey(1), found?.price);
      },
      relay: async ({ db, redis }) => {
        const [[connection]] = await db.query<RowDataPacket[]>('SELECT CONNECTION_ID() AS id');
        victims.relay = connection?.id;
        await createRelay({ db, redis }).pass();
      },
      death: async ({ db }) => {
        await db.query(
          victims.relay
            ? `/* the relay dies, and the writer is cut off from Redis */ KILL ${victims.relay}`
            : '/* the writer is cut off from Redis */ DO 0',
        );
        victims.writer?.disconnect();
        victims.relay = undefined;
      },
    },
    mayReject: (reason) => !/not implemented/.test(String(reason)),
    verdict: async () => {
      await soon(drain());
      const left = await servers.redis.get(productKey(1));
      const price = (await row(1))?.price;
      return left === null || left === 'lease' || left === price
        ? undefined
        : `MySQL holds ${price} and the cache ${left}, after a pass that began when all had ended: an event of each commit must outlive the writer and the relay, and its DEL must follow the COMMIT`;
    },
  });
});

test('a listener that was away misses nothing', async () => {
  const relay = openRelay();
  const l1 = openL1();
  await emit([1, 'a', 'a1']);
  await drain(relay);
  await l1.listener.poll();
  expect(
    l1.seen,
    'these are the first entries that it reads: nobody knows what came before them, so clear all',
  ).toContain('clear');
  l1.seen.length = 0;

  await emit([2, 'a', 'a2'], [3, 'b', 'b1']);
  await drain(relay);
  await emit([4, 'a', 'a3']);
  await drain(relay);
  let read = 0;
  for (let more = 1; more > 0; read += more) more = await l1.listener.poll();
  expect(read, 'three entries came while the listener was away: poll returns how many it has read').toBe(3);
  expect(
    l1.seen,
    'nobody listened when these were announced: they wait in the stream, read on behind the last entry that you have seen',
  ).toEqual(['a2', 'b1', 'a3']);
  await l1.listener.poll();
  expect(l1.seen, 'nothing new: apply nothing twice').toEqual(['a2', 'b1', 'a3']);

  const proxy = await openProxy(servers.redisUrl);
  const far = openL1(servers.connectRedis({ maxRetriesPerRequest: 0, retryStrategy: () => 5 }, proxy.url));
  await far.listener.poll();
  expect(far.seen, 'each listener has a place of its own, and this one has not read anything yet').toContain(
    'clear',
  );
  const next = eventsFrom(relay);
  // Its connection breaks before each request of a poll in turn.
  for (let nth = 1, sent = nth; sent >= nth; nth++) {
    far.seen.length = 0;
    const key = await next();
    sent = 0;
    proxy.schedule(async () => {
      if (++sent === nth) proxy.cut();
    });
    const broken = await soon(far.listener.poll().catch(errorOf));
    proxy.schedule();
    if (sent >= nth)
      expect(broken, `the connection broke before request ${nth} of a poll: it must reject`).toBeInstanceOf(
        Error,
      );
    await until(async () => (await far.listener.poll().catch(() => 1)) === 0);
    expect(
      far.seen,
      `the connection broke before request ${nth} of a poll: the next begins at the same place`,
    ).toContain(key);
  }

  far.seen.length = 0;
  const stop = aborter();
  const running = far.listener.run(stop.signal);
  let requests = 0;
  proxy.schedule(async () => void requests++);
  await sleep(60);
  proxy.schedule();
  expect(requests, 'nothing comes: run must wait in Redis (BLOCK), not ask again and again').toBeLessThan(12);
  const gate = proxy.hold(/./);
  await emit([5, 'a', 'a4']);
  await drain(relay);
  await gate.arrived.catch(() => {});
  proxy.cut();
  gate.release();
  await emit([6, 'b', 'b2']);
  await drain(relay);
  await until(() => far.seen.length >= 2);
  expect(far.seen, 'the connection broke: run must go on behind the last entry that it has seen').toEqual([
    'a4',
    'b2',
  ]);
  expect(far.errors.length, 'run must tell onError when a poll fails').toBeGreaterThan(0);
  stop.abort();
  expect(await soon(running, 850), 'the signal was aborted: run must resolve within WAIT_MS').toBeUndefined();
});

test('a listener whose place was trimmed clears everything', async () => {
  const relay = openRelay({ batchSize: 500, streamMaxLen: 50 });
  const l1 = openL1();
  await emit([1, 'a', 'a1']);
  await drain(relay);
  await l1.listener.poll();
  l1.seen.length = 0;

  await emit(...Array.from({ length: 400 }, (_, n) => [n + 2, 'a', `key${n}`] as const));
  await drain(openRelay({ batchSize: 500 }));
  expect(
    await servers.redis.xlen(STREAM),
    '401 entries were added, and streamMaxLen is 10,000 if not given: keep them all',
  ).toBe(401);
  await emit([500, 'a', 'a2']);
  await drain(relay);
  expect(
    await servers.redis.xlen(STREAM),
    '402 entries were added and about 50 are to be kept: give XADD its MAXLEN, or the stream grows until Redis is full',
  ).toBeLessThan(250);
  expect(await l1.listener.poll(), 'poll returns how many entries it has read').toBeGreaterThan(0);
  expect(
    l1.seen,
    'the entry that the listener saw last was trimmed, and others behind it: nobody knows which keys are old, so clear all',
  ).toContain('clear');
  while ((await l1.listener.poll()) > 0);
  l1.seen.length = 0;
  await emit([1000, 'b', 'b1']);
  await drain(relay);
  await l1.listener.poll();
  expect(l1.seen, 'it has a place again: apply what comes, and clear no more').toEqual(['b1']);

  // The trim comes before each request of a poll in turn.
  const proxy = await openProxy(servers.redisUrl);
  const near = openL1(servers.connectRedis({}, proxy.url));
  const next = eventsFrom(openRelay());
  for (let nth = 1, sent = nth; sent >= nth; nth++) {
    while ((await near.listener.poll()) > 0);
    near.seen.length = 0;
    sent = 0;
    const lost: string[] = [];
    proxy.schedule(async () => {
      if (++sent !== nth) return;
      lost.push(await next(), await next());
      await servers.redis.xtrim(STREAM, 'MAXLEN', 1);
    });
    while ((await near.listener.poll()) > 0);
    proxy.schedule();
    expect(
      near.seen.includes('clear') || lost.every((key) => near.seen.includes(key)),
      `the stream was trimmed just before request ${nth} of a poll, and an entry that it has not read is gone: look for the last entry after the read, and clear all if it is gone`,
    ).toBe(true);
  }

  l1.seen.length = 0;
  await servers.redis.del(STREAM);
  await l1.listener.poll();
  expect(l1.seen, 'Redis came back empty: what was announced in between is gone, so clear all').toContain(
    'clear',
  );
});

const openCatalogue = () => createCatalogue({ db: servers.db, redis: servers.redis });

type RelayOptions = Parameters<typeof createRelay>[0];

const openRelay = (options: Partial<RelayOptions> = {}) =>
  createRelay({ db: servers.db, redis: servers.redis, deadlineMs: 1500, ...options });

function openL1(redis = servers.connectRedis()) {
  const seen: string[] = [];
  const errors: unknown[] = [];
  const listener = createListener({
    redis,
    apply: (key) => seen.push(key),
    clear: () => seen.push('clear'),
    onError: (error) => errors.push(error),
  });
  return { listener, seen, errors };
}

/** Passes until nothing is left, for half a second at most: a server may need a moment to roll back what a dead relay has locked. */
async function drain(relay = openRelay()) {
  for (const end = performance.now() + 500; performance.now() < end; ) {
    if ((await relay.pass()) > 0) continue;
    if ((await waiting()).length === 0) return;
    await sleep(1);
  }
}

/** Each call relays one more event, with a key of its own. */
function eventsFrom(relay: ReturnType<typeof openRelay>) {
  let count = 0;
  return async () => {
    const key = `next${count++}`;
    await emit([0, 'next', key]);
    await drain(relay);
    return key;
  };
}

/** Rows as an update inserts them, with ids of the test's own (0: the next one). */
async function emit(...events: (readonly [id: number | string, entity: string, key: string])[]) {
  await servers.db.query('INSERT INTO outbox (id, entity, cache_key) VALUES ?', [events]);
}

/** Puts something under these keys of the cache, and under no others. */
async function fill(...keys: string[]) {
  for (const key of keys) await servers.redis.set(key, 'old');
}

async function cachedKeys(): Promise<string[]> {
  const keys = ['late', 'early', 'even', 'odd', 'a1', 'b1', productKey(1), categoryKey(KITCHEN)];
  const values = await servers.redis.mget(keys);
  return keys.filter((_, at) => values[at] !== null);
}

/** The keys of the outbox, sorted. */
async function waiting(): Promise<string[]> {
  const [rows] = await servers.db.query<RowDataPacket[]>('SELECT cache_key AS cacheKey FROM outbox');
  return rows.map(({ cacheKey }) => String(cacheKey)).sort();
}

/** The keys in the stream, in its order. */
async function announced(): Promise<string[]> {
  const entries = await servers.redis.xrange(STREAM, '-', '+');
  return entries.map(([, fields]) => String(fields[fields.indexOf('key') + 1]));
}

async function announcedAndCached(): Promise<string[]> {
  const cached = await cachedKeys();
  return (await announced()).filter((key) => cached.includes(key));
}

async function row(id: number) {
  const [[found]] = await servers.db.query<RowDataPacket[]>(
    'SELECT price, category_id AS categoryId, YEAR(updated_at) AS year FROM products WHERE id = ?',
    [id],
  );
  return found;
}

/**
 * Runs `act` behind proxies that are cut for good just before its n-th request to any server, for n = 1, 2, … until it makes no
 * more than n - 1: to the servers, that is a process that dies there.
 */
async function dieAtEachRequest(act: (db: Pool, redis: Redis, when: () => string) => Promise<void>) {
  for (let nth = 1, sent = 1; sent >= nth - 1; nth++) {
    sent = 0;
    const proxies = await Promise.all([openProxy(servers.redisUrl), openProxy(servers.mysqlUrl)]);
    const redis = servers.connectRedis({ maxRetriesPerRequest: 0, commandTimeout: 500 }, proxies[0].url);
    const db = servers.connectDb({}, proxies[1].url);
    await Promise.all([redis.ping(), db.query('SELECT 1')]);
    const all = async (change: (proxy: FaultyProxy) => unknown) => Promise.all(proxies.map(change));
    const before: string[] = [];
    await all((proxy) =>
      proxy.schedule(async (request) => {
        before.push(request.replace(/\s+/g, ' ').slice(0, 50));
        if (++sent === nth) await all((each) => each.refuse());
      }),
    );
    await act(db, redis, () =>
      before[nth - 1] ? `just before its request ${nth}, ${before[nth - 1]}` : 'after its last request',
    );
    redis.disconnect();
    await all((proxy) => proxy.close());
  }
}

const errorOf = (error: unknown) => error;

/** Aborted when the test ends, at the latest. */
function aborter() {
  const controller = new AbortController();
  onTestFinished(() => controller.abort());
  return controller;
}

async function someoneWaitsForALock() {
  for (const end = Date.now() + 1000; Date.now() < end; await sleep(5)) {
    const [found] = await servers.db.query<RowDataPacket[]>('SHOW ENGINE INNODB STATUS');
    const status = String(found[0]?.Status);
    if (/^LOCK WAIT/m.test(status.slice(status.lastIndexOf('\nTRANSACTIONS\n')))) return;
  }
}
