import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { Redis } from 'ioredis';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { connected, leave, redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import { signal } from '#kit/gate';
import { lateness } from '#kit/lateness';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, unhandledRejections, until } from '#kit/waiting';
import { createProductLoader } from './batching';
import { ABSENT_TTL_MS, DEADLINE_MS, encode, MAX_BATCH, PRODUCT_TTL_MS, productKey } from './given';

const servers = useServers('products');

/** Looks again and again, so the red screen leaves it out. */
let watcher: Redis;
beforeAll(() => {
  watcher = servers.connectRedis();
  nameRequests(watcher, '');
});

const MUG = 'Enamel mug, 350 ml';
const BOARD = 'Beech cutting board';
const NOBODY = 9_999;
const STORES = /^(SET|SETEX|PSETEX|P?EXPIRE|EVAL(?!.*MGET)|EVALSHA|MULTI|MSET)\b/i;
const SELECTS = /FROM products/i;

describe('Core', () => {
  test('the loads of one tick are one MGET and one SELECT, after an await too', async () => {
    await addProducts(50);
    const loader = openLoader();
    const work = await servers.work(async () => {
      const loads = idsTo(50).map(async (id) => {
        // As where a resolver has awaited something that was there already.
        for (let awaits = id % 5; awaits > 0; awaits--) await null;
        return loader.load(id);
      });
      expect(await idsOf(loads), 'ids of the products that 50 loads gave').toEqual(idsTo(50));
    });
    expect(work.redis('get', 'mget'), 'GETs and MGETs of 50 loads in one tick').toBe(1);
    expect(work.sql('select'), 'SELECTs of 50 loads in one tick').toBe(1);

    const { redis, sent } = await counted();
    const alone = openLoader(redis).load(1);
    await sleep(20);
    expect(sent(), 'commands for Redis 20 ms after a load: its tick has ended').toBeGreaterThan(0);
    await alone;
  });

  test('each caller gets its own product, or null where there is none', async () => {
    await cache(3, 'from Redis');
    const loader = openLoader();
    const loads = [2, NOBODY, 3, 1, NOBODY + 1].map((id) => loader.load(id));
    expect(
      await namesOf(loads),
      `names of 2, ${NOBODY}, 3, 1, ${NOBODY + 1}, in the order of the calls`,
    ).toEqual([BOARD, null, 'from Redis', MUG, null]);
    expect(await loader.load(1), 'a product that MySQL gave').toMatchObject({
      id: 1,
      price: '12.90',
      updatedAt: expect.any(Date),
    });
    await stored(1);
    await stored(NOBODY);
    const warm = openLoader();
    const hits = [NOBODY, 2, 1].map((id) => warm.load(id));
    expect(await namesOf(hits), `names of ${NOBODY}, 2, 1, all from Redis`).toEqual([null, BOARD, MUG]);
    expect(await warm.load(1), 'a product that Redis gave: as MySQL gave it').toEqual(await loader.load(1));
  });

  test('an id is asked for once, however often its request loads it', async () => {
    const { redis, db, asked } = await recorded();
    const loader = openLoader(redis, db);
    const loads = [1, 2, 1, NOBODY, 1, 2].map((id) => loader.load(id));
    expect(await namesOf(loads), `names of 1, 2, 1, ${NOBODY}, 1, 2`).toEqual([
      MUG,
      BOARD,
      MUG,
      null,
      MUG,
      BOARD,
    ]);
    await stored(NOBODY);
    const again = [NOBODY, 1].map((id) => loader.load(id));
    expect(await namesOf(again), `names of ${NOBODY} and 1, loaded again by the same request`).toEqual([
      null,
      MUG,
    ]);
    expect(asked('redis').flat().sort(), 'ids that Redis was asked for').toEqual(['1', '2', String(NOBODY)]);
    expect(asked('mysql').flat().sort(), 'ids that MySQL was asked for').toEqual(['1', '2', String(NOBODY)]);
  });

  test('MySQL is asked for what Redis does not have, and for nothing if it has all', async () => {
    await Promise.all([
      cache(1, 'from Redis'),
      cache(2, 'from Redis'),
      servers.redis.set(productKey(4), 'null'),
    ]);
    const { redis, db, asked } = await recorded();
    const partial = openLoader(redis, db);
    const loads = [1, 2, 3, 4].map((id) => partial.load(id));
    expect(
      await namesOf(loads),
      'names of 1 and 2 (in Redis), 3 (not in Redis), 4 (absent by Redis)',
    ).toEqual(['from Redis', 'from Redis', 'Reading lamp, brass', null]);
    expect(asked('mysql'), 'ids of each SELECT: Redis had 1, 2 and 4').toEqual([['3']]);

    const full = openLoader(redis, db);
    const hits = [1, 2, 4].map((id) => full.load(id));
    expect(await namesOf(hits), 'names of 1, 2 and 4, which Redis has').toEqual([
      'from Redis',
      'from Redis',
      null,
    ]);
    await sleep(1);
    // Behind a SELECT that nobody has waited for.
    await db.query('SELECT 1');
    expect(asked('mysql').length, 'SELECTs of both loaders: Redis had all ids of the second one').toBe(1);
  });

  test('rows and absences are stored with their TTLs, and a hit is not stored again', async () => {
    await cache(2, 'from Redis');
    const loader = openLoader();
    await namesOf([1, 2, NOBODY].map((id) => loader.load(id)));
    await stored(1);
    await stored(NOBODY);
    await expectTtl(servers.redis, productKey(1), PRODUCT_TTL_MS, 'ms to live of a product: PRODUCT_TTL_MS');
    await expectTtl(
      servers.redis,
      productKey(NOBODY),
      ABSENT_TTL_MS,
      'ms to live of an absence: ABSENT_TTL_MS',
    );
    await expectTtl(
      servers.redis,
      productKey(2),
      60_000,
      'ms to live of an entry that had 60,000 when it was read: a hit must not extend it',
    );
  });

  test('a new request sees the new row', async () => {
    const before = openLoader();
    expect(await nameOf(before.load(1)), 'name that the first request sees').toBe(MUG);
    await stored(1);
    await change(1, 'new');
    expect(
      await nameOf(openLoader().load(1)),
      'name that a new loader gives: the row was changed and its entry deleted after the first request',
    ).toBe('new');
  });
});

describe('In production', () => {
  test('no MGET and no SELECT has more than MAX_BATCH ids', async () => {
    await addProducts(250);
    const { redis, db, asked } = await recorded();
    const loader = openLoader(redis, db);
    const loads = idsTo(250).map((id) => loader.load(id));
    expect(await idsOf(loads), 'ids of the products that 250 loads gave').toEqual(idsTo(250));
    for (const server of ['redis', 'mysql'] as const) {
      const sizes = asked(server).map((ids) => ids.length);
      expect(
        Math.max(...sizes),
        `ids in the largest request to ${server}, of 250 in one tick`,
      ).toBeLessThanOrEqual(MAX_BATCH);
      expect(sizes.length, `requests to ${server} for 250 ids in one tick`).toBeLessThanOrEqual(5);
    }
  });

  test('a slow SELECT delays the loads that are in it, and no others', async () => {
    await addProducts(200);
    const proxy = await openProxy(servers.mysqlUrl);
    const loader = openLoader(servers.redis, servers.connectDb({}, proxy.url));
    const slow = proxy.hold(SELECTS);
    let answered = 0;
    const loads = idsTo(MAX_BATCH + 50).map((id) => loader.load(id).then(() => answered++));
    const all = outcome(Promise.all(loads), 3000);
    await Promise.race([slow.arrived, all]);
    await until(() => answered >= 50);
    expect(
      answered,
      `loads that were answered, of ${MAX_BATCH + 50} in one tick, while one SELECT of at most ${MAX_BATCH} ids was slow`,
    ).toBeGreaterThanOrEqual(50);
    expect(
      await nameOf(loader.load(199)),
      'name of a product that was loaded later, while the SELECT of an earlier tick was slow',
    ).toBe('product 199');
    slow.release();
    await all;
  });

  test('an entry that cannot be decoded costs one row, and no other load', async () => {
    const entries: Readonly<Record<string, string | Buffer>> = {
      'an error page': '<html>502 Bad Gateway</html>',
      'another shape': '{"id":2,"title":"old release"}',
      'no UTF-8': Buffer.from(encode({ ...row(2), name: '\xff' }), 'latin1'),
    };
    for (const [kind, bytes] of Object.entries(entries)) {
      await Promise.all([
        cache(1, 'from Redis'),
        servers.redis.set(productKey(2), bytes),
        cache(3, 'from Redis'),
      ]);
      const { redis, db, asked } = await recorded();
      const errors: unknown[] = [];
      const loader = openLoader(redis, db, errors);
      const loads = [1, 2, 3].map((id) => loader.load(id));
      expect(
        await namesOf(loads),
        `names of three loads; the entry of the second is damaged (${kind})`,
      ).toEqual(['from Redis', BOARD, 'from Redis']);
      expect(asked('mysql'), `ids of each SELECT; only the entry of 2 is damaged (${kind})`).toEqual([['2']]);
      expect(errors.length, `calls of onCacheError for a damaged entry (${kind})`).toBe(1);
      await until(async () => (await watcher.get(productKey(2)))?.includes(BOARD) === true);
      expect(
        await servers.redis.get(productKey(2)),
        `the entry in Redis: a damaged one (${kind}) must be replaced, or each request asks MySQL`,
      ).toContain(BOARD);
    }
  });

  test('an invalid id is rejected alone, and never sent', async () => {
    const { redis, db, asked } = await recorded();
    const loader = openLoader(redis, db);
    const fromOutside: unknown[] = ['1', '01', true, null, undefined, 0, -1, 1.5, 2 ** 53, Number.NaN];
    const invalid: string[] = [];
    const loads = [2, ...fromOutside, 3].map((id) => {
      try {
        return outcome(loader.load(id as number));
      } catch (error) {
        return `thrown: ${error}`;
      }
    });
    for (const load of loads.slice(1, -1)) invalid.push(String(await load));
    expect(
      await namesOf([Promise.resolve(loads[0]), Promise.resolve(loads.at(-1))]),
      'names of 2 and 3, loaded in one tick with ten invalid ids',
    ).toEqual([BOARD, 'Reading lamp, brass']);
    expect(invalid, 'what the loads of ten invalid ids came to: a rejection each, never a throw').toEqual(
      fromOutside.map(() => expect.stringMatching(/^rejected: InvalidIdError/)),
    );
    for (const server of ['redis', 'mysql'] as const) {
      expect(asked(server), `ids of each request to ${server}`).toEqual([['2', '3']]);
    }
  });

  test('a failed query fails its own loads, and is not remembered', async () => {
    await cache(1, 'from Redis');
    const proxy = await openProxy(servers.mysqlUrl);
    const loader = openLoader(servers.redis, servers.connectDb({}, proxy.url));
    await proxy.refuse();
    const loads = [1, 2, NOBODY].map((id) => loader.load(id));
    expect(
      await Promise.all(loads.map(nameOf)),
      `answers to 1 (in Redis), 2 and ${NOBODY}, while MySQL refused connections`,
    ).toEqual([
      'from Redis',
      expect.stringMatching(/^rejected: .*ECONNREFUSED/),
      expect.stringMatching(/^rejected: /),
    ]);
    await proxy.heal();
    expect(await nameOf(loader.load(2)), 'what a later load of 2 came to: MySQL is back').toBe(BOARD);
    expect(
      await servers.redis.get(productKey(NOBODY)),
      `the entry of ${NOBODY}: its query failed, so nothing is known about it`,
    ).toBeNull();
  });

  test('a row that was read before clear is not given after it, and not stored', async () => {
    const { db, answered, release } = lateAnswer();
    const loader = openLoader(servers.redis, db);
    const before = outcome(Promise.all([1, 3].map((id) => loader.load(id))), 3000);
    await Promise.race([answered, before]);
    for (const id of [1, 3]) {
      await change(id, 'new');
      loader.clear(id);
    }
    expect(
      await nameOf(loader.load(1)),
      'name that a load after clear gives: the SELECT of an earlier load had read the old row',
    ).toBe('new');
    await stored(1);
    release();
    await before;
    await sleep(20);
    expect(
      (await servers.redis.get(productKey(1))) ?? '',
      'the entry in Redis: the old row came after clear, and its entry had been deleted',
    ).not.toContain(MUG);
    expect(
      await servers.redis.get(productKey(3)),
      'the entry of a product that was cleared, and not loaded again: the old row came after clear',
    ).toBeNull();

    const early = loader.load(2);
    loader.clear(2);
    expect(
      await namesOf([early, loader.load(2)]),
      'names that two loads of one tick gave: one before clear, one after it',
    ).toEqual([BOARD, BOARD]);
  });

  test('Redis that does not answer costs a request one deadline, and fails no load', async () => {
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      'is a black hole': (proxy) => proxy.blackHole(),
    };
    const unreachable = async (strike: (proxy: FaultyProxy) => unknown) => {
      const { proxy, redis } = await redisBehindProxy(servers);
      await strike(proxy);
      return { redis, loader: openLoader(redis) };
    };
    await Promise.all(
      Object.entries(faults).map(async ([fault, strike]) => {
        const { result, lateMs } = await lateness({
          open: () => unreachable(strike),
          call: async ({ loader }) => {
            const first = await namesOf([1, NOBODY].map((id) => loader.load(id)));
            return [...first, await nameOf(loader.load(2)), await nameOf(loader.load(3))];
          },
          reference: async () => {
            await sleep(DEADLINE_MS);
            for (let queries = 0; queries < 3; queries++) await servers.db.query('SELECT 1');
          },
          toleratedMs: TOLERATED_MS,
        });
        expect(result, `names of 1 and ${NOBODY} in one tick, then 2, then 3, while Redis ${fault}`).toEqual([
          MUG,
          null,
          BOARD,
          'Reading lamp, brass',
        ]);
        expect(
          lateMs,
          `ms beyond one deadline and three queries that three ticks of one request took while Redis ${fault}`,
        ).toBeLessThan(TOLERATED_MS);
      }),
    );
    const refusing = await refusingRedis(servers);
    await refusing.refuseReads();
    const errors: unknown[] = [];
    const loader = openLoader(refusing.redis, servers.db, errors);
    const work = await servers.work(async () => {
      expect(
        await namesOf(idsTo(3).map((id) => loader.load(id))),
        'names of 1, 2 and 3 while Redis refuses to read',
      ).toEqual([MUG, BOARD, 'Reading lamp, brass']);
    });
    expect(work.sql('select'), 'SELECTs of three loads in one tick while Redis refuses to read').toBe(1);
    expect(errors.map(String), 'errors that onCacheError got while Redis refused to read').toContainEqual(
      expect.stringContaining('NOPERM'),
    );
  });

  test('a row that was read while Redis was down is not stored after it', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    const loader = openLoader(redis);
    await proxy.refuse();
    expect(await nameOf(loader.load(1)), 'name that a load gave while Redis refused connections').toBe(MUG);
    expect(await nameOf(loader.load(2)), 'name that a load of the next tick gave').toBe(BOARD);
    for (const id of [1, 2]) await change(id, 'new');
    await proxy.heal();
    await connected(redis);
    // Behind everything that the client has kept for later.
    await redis.ping();
    expect(
      await servers.redis.mget(productKey(1), productKey(2)),
      'the entries in Redis: the old rows were read in an outage, and changed before Redis was back',
    ).toEqual([null, null]);
    await cache(3, 'from Redis');
    expect(await nameOf(openLoader(redis).load(3)), 'name that the next request gets: Redis is back').toBe(
      'from Redis',
    );
  });

  test('storing delays no load and fails none, and a refusal is reported', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    const store = proxy.hold(STORES);
    expect(
      await nameOf(openLoader(redis).load(1)),
      'name that a load gave while the command that stores hung',
    ).toBe(MUG);
    store.release();
    await stored(1);
    await redis.ping();

    const unhandled = unhandledRejections();
    const refusing = await refusingRedis(servers);
    const errors: unknown[] = [];
    expect(
      await nameOf(openLoader(refusing.redis, servers.db, errors).load(2)),
      'name that a load gave while Redis refused to store',
    ).toBe(BOARD);
    await until(() => errors.length > 0);
    expect(errors.map(String), 'what onCacheError got: Redis has refused to store').toContainEqual(
      expect.stringMatching(/NOPERM|EXECABORT/),
    );
    expect(unhandled(), 'rejections that nobody has caught: they end the process').toEqual([]);
  });

  test('a caller that changes its product changes it for nobody else', async () => {
    await cache(2, 'from Redis');
    const loader = openLoader();
    const change = (product: unknown) => Reflect.set(Object(product), 'name', 'changed');
    const changing = [1, 2].map((id) => outcome(loader.load(id).then(change)));
    const beside = [1, 2].map((id) => loader.load(id));
    await Promise.all(changing);
    const names = [MUG, 'from Redis'];
    expect(await namesOf(beside), 'names of 1 and 2 for callers beside one that changed them').toEqual(names);
    expect(
      await namesOf([1, 2].map((id) => loader.load(id))),
      'names of 1 and 2 for a load after another caller has changed them',
    ).toEqual(names);
    await stored(1);
    expect(await servers.redis.get(productKey(1)), 'the entry in Redis: what MySQL gave').toContain(MUG);
  });
});

/** A second deadline takes twice as long. */
const TOLERATED_MS = 0.6 * DEADLINE_MS;

function openLoader(redis: Redis = servers.redis, db = servers.db, errors: unknown[] = []) {
  return createProductLoader({ redis, db, onCacheError: (error: unknown) => errors.push(error) });
}

/** A connection that counts the commands that it is given. */
async function counted() {
  const redis = servers.connectRedis();
  onTestFinished(() => leave(redis));
  await connected(redis);
  // The wrapper below is in this file, and would pass for the sender.
  nameRequests(redis, 'your code');
  let sent = 0;
  const { sendCommand } = redis;
  redis.sendCommand = (...args) => {
    sent++;
    return Reflect.apply(sendCommand, redis, args);
  };
  return { redis, sent: () => sent };
}

/** One connection each, whose requests are kept. `asked` gives the ids of each request that reads. */
async function recorded() {
  const proxies = { redis: await openProxy(servers.redisUrl), mysql: await openProxy(servers.mysqlUrl) };
  const requests = { redis: [] as string[][], mysql: [] as string[][] };
  const redis = servers.connectRedis({}, proxies.redis.url);
  const db = servers.connectDb({ connectionLimit: 1 }, proxies.mysql.url);
  await Promise.all([connected(redis), db.query('SELECT 1')]);
  onTestFinished(async () => {
    // What is being stored in the background arrives before the proxy closes.
    proxies.redis.schedule();
    await outcome(redis.ping());
    leave(redis);
  });
  proxies.redis.schedule(async (request) => {
    const ids = [...request.matchAll(/product:([^ ]*)/g)].map(([, id]) => String(id));
    if (ids.length > 0 && !STORES.test(request)) requests.redis.push(ids);
  });
  proxies.mysql.schedule(async (request) => {
    if (SELECTS.test(request))
      requests.mysql.push(/IN\s*\(([^)]*)\)/i.exec(request)?.[1]?.split(/\s*,\s*/) ?? [request]);
  });
  return { redis, db, asked: (server: 'redis' | 'mysql') => requests[server] };
}

const idsTo = (last: number) => Array.from({ length: last }, (_, at) => at + 1);

/** The servers hold three products; from now on there are `last`. */
const addProducts = (last: number) =>
  servers.db.query('INSERT INTO products (id, name, price, stock, category_id, updated_at) VALUES ?', [
    idsTo(last)
      .slice(3)
      .map((id) => [id, `product ${id}`, '5.00', 1, 1, new Date(0)]),
  ]);

/** A pool that keeps back the answer to its first SELECT, which MySQL has executed. */
function lateAnswer() {
  const db = servers.connectDb();
  nameRequests(db, 'your code');
  const [answered, released] = [signal(), signal()];
  const { query } = db;
  Object.assign(db, {
    query: async (...request: [unknown]) => {
      const answer: unknown = await Reflect.apply(query, db, request);
      if (SELECTS.test(inspect(request[0])) && !answered.fired) {
        answered.fire();
        await released.promise;
      }
      return answer;
    },
  });
  return { db, answered: answered.promise, release: () => released.fire() };
}

/** Another request changes a product: the row, then the entry. */
async function change(id: number, name: string) {
  await servers.db.query('UPDATE products SET name = ? WHERE id = ?', [name, id]);
  await servers.redis.del(productKey(id));
}

const row = (id: number) => ({ id, name: MUG, price: '9.50', stock: 3, updatedAt: new Date(0) });

/** Stores an entry, as another request would. */
const cache = (id: number, name: string) =>
  servers.redis.set(productKey(id), encode({ ...row(id), name }), 'PX', 60_000);

/** Waits for the entry that a load stores, for which its caller need not wait. */
const stored = (id: number) => until(async () => (await watcher.exists(productKey(id))) === 1);

/** The name of the product that comes; else null, or what came. */
async function nameOf(loading: Promise<unknown>): Promise<unknown> {
  const product = await outcome(loading);
  return typeof product === 'object' && product && 'name' in product ? product.name : product;
}

const namesOf = (loads: readonly Promise<unknown>[]) => Promise.all(loads.map(nameOf));

const idsOf = async (loads: readonly Promise<unknown>[]) =>
  (await Promise.all(loads.map((load) => outcome(load)))).map((product) =>
    typeof product === 'object' && product && 'id' in product ? product.id : product,
  );
