import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { Redis, RedisOptions } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { explore } from '#kit/explore';
import { connected, redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import { signal } from '#kit/gate';
import { lateness, timed } from '#kit/lateness';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, until } from '#kit/waiting';
import { cacheClientOptions, createProducts } from './cache-aside';
import {
  ABSENT_TTL_MS,
  DEADLINE_MS,
  decode,
  encode,
  InvalidIdError,
  PRODUCT_TTL_MS,
  productKey,
  RETRY_MS,
} from './given';

const servers = useServers('products');

/** Looks again and again, so the red screen leaves it out. */
let watcher: Redis;
beforeAll(() => {
  watcher = servers.connectRedis();
  nameRequests(watcher, '');
});

const MUG = 'Enamel mug, 350 ml';
const NOBODY = 999;
const KEY = productKey(1);
const PRODUCT_1 = /product:1\b/;
const SETS = /^(SET|SETEX|PSETEX|EVAL|EVALSHA|MULTI)\b/i;
/** What every request to a Redis or MySQL that is down ends with. */
const NOBODY_LISTENS = { code: 'ECONNREFUSED' };
const REJECTION = expect.stringMatching(/^rejected/);
/** More than one batch of a careless retry. */
const MANY = [1, 2, 3, 4, 5, 6, 7, 8];
const changes = (name: string) => ({ name, price: '9.50', stock: 3 });

describe('Core', () => {
  test('a product is read from MySQL once, and from Redis after that', async () => {
    const products = openProducts();
    const miss = await products.find(1);
    expect(miss, 'a miss must return the row of MySQL').toMatchObject({
      id: 1,
      name: MUG,
      price: '12.90',
      updatedAt: expect.any(Date),
    });
    await stored(1);
    const work = await servers.work(async () => {
      expect(await products.find(1), 'a hit must return what the miss returned').toEqual(miss);
    });
    expect(work.sql('select'), 'SELECTs of the second find: a hit must not ask MySQL').toBe(0);
  });

  test('an entry gets its TTL once, from the command that stores it', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const products = openProducts(await connect(proxy.url));
    let previous = '';
    let sentBare: string | undefined;
    proxy.schedule(async (request) => {
      if (PRODUCT_1.test(previous) && (await servers.redis.pttl(KEY)) === -1) sentBare ??= request;
      previous = request;
    });
    await products.find(1);
    await stored(1);
    expect(
      sentBare,
      'the entry had no TTL when this command was sent: if the process dies before it, the entry stays forever',
    ).toBeUndefined();
    await expectTtl(
      servers.redis,
      KEY,
      PRODUCT_TTL_MS,
      'ms to live: the entry of a product must live for PRODUCT_TTL_MS',
    );
    await servers.redis.pexpire(KEY, 60_000);
    await products.find(1);
    await expectTtl(
      servers.redis,
      KEY,
      60_000,
      'ms to live after a hit, of 60,000 before it: a hit must not change the TTL',
    );
  });

  test('an absence is cached for a shorter time, and a failed query is not cached', async () => {
    const products = openProducts();
    expect(await products.find(NOBODY), 'there is no such product: find must return null').toBeNull();
    await stored(NOBODY);
    const work = await servers.work(async () => {
      expect(await products.find(NOBODY), 'a cached absence must be null too').toBeNull();
    });
    expect(work.sql('select'), 'SELECTs of the second find: a cached absence must not ask MySQL').toBe(0);
    await expectTtl(
      servers.redis,
      productKey(NOBODY),
      ABSENT_TTL_MS,
      'ms to live: the entry of an absence must live for ABSENT_TTL_MS',
    );

    const failing = openProducts(servers.redis, await deadMySql());
    expect(
      await rejectionOf(() => failing.find(2)),
      'MySQL cannot be asked: find must reject with its error',
    ).toMatchObject(NOBODY_LISTENS);
    expect(
      await servers.redis.get(productKey(2)),
      'the query failed, so nothing is known about this product: nothing may be cached',
    ).toBeNull();
  });

  test('an update returns what MySQL did, after the entry is deleted', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const products = openProducts(await connect(proxy.url));
    await cache(1, MUG);
    const del = proxy.hold(PRODUCT_1);
    const updating = products.update(1, changes('new'));
    const resolved = await Promise.race([del.arrived.then(() => false), updating.then(() => true)]);
    expect(
      resolved && (await cachedName()) === MUG,
      'resolved with the old entry in Redis: an update must not resolve before Redis has deleted it',
    ).toBe(false);
    del.release();
    expect(await updating, 'the product exists: update must return true').toBe(true);
    expect(await nameInMySql(), 'name in MySQL after the update').toBe('new');
    expect(await cachedName(), 'name in Redis after the update: the old entry must be gone').not.toBe(MUG);

    const missing = products.update(NOBODY, changes('new'));
    expect(await missing, 'there is no such product: update must return false').toBe(false);
    const failing = openProducts(servers.redis, await deadMySql());
    expect(
      await rejectionOf(() => failing.update(1, changes('newer'))),
      'MySQL cannot be asked: update must reject with its error',
    ).toMatchObject(NOBODY_LISTENS);

    const { db, answered, release } = lateAnswer();
    const joining = openProducts(servers.redis, db);
    const early = joining.find(1);
    await Promise.race([answered, early]);
    await joining.update(1, changes('newest'));
    const late = nameOf(joining.find(1));
    await Promise.race([late, sleep(100)]);
    release();
    expect(
      await late,
      'name that find returns: it began after the update had resolved, while an older find still waited for its row',
    ).toBe('newest');
    await early;
  });

  test('a read that ends before an update does leaves no old entry behind', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const products = openProducts(servers.redis, servers.connectDb({}, proxy.url));
    const statements = [proxy.hold(/UPDATE products/i), proxy.hold(/^COMMIT/i)];
    const updating = products.update(1, changes('new'));
    for (const statement of statements) {
      const held = await Promise.race([statement.arrived.then(() => true), updating.then(() => false)]);
      if (!held) break;
      // MySQL still has the old row.
      await openProducts().find(1);
      await stored(1);
      statement.release();
    }
    await updating;
    expect(
      await cachedName(),
      'name in Redis: a reader had read the old row before MySQL committed, and the update has resolved',
    ).not.toBe(MUG);
  });

  test('two updates at once leave no old entry behind', async () => {
    await explore(servers, {
      runs: 30,
      prepare: async () => {
        await servers.db.query('UPDATE products SET name = ? WHERE id = 1', [MUG]);
        await cache(1, MUG);
      },
      actors: {
        one: ({ redis, db }) => openProducts(redis, db).update(1, changes('one')),
        other: ({ redis, db }) => openProducts(redis, db).update(1, changes('other')),
      },
      verdict: async () => {
        const [cached, row] = [await cachedName(), await nameInMySql()];
        return cached === undefined || cached === row
          ? undefined
          : `MySQL holds "${row}" and Redis "${cached}", after both updates have resolved`;
      },
    });
  });
});

describe('In production', () => {
  test('an unreachable Redis costs a call one deadline, and fails none', async () => {
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      'answers after 5 s': (proxy) => proxy.delay(5000),
      stalls: (proxy) => proxy.stall(),
      'is a black hole': (proxy) => proxy.blackHole(),
    };
    await Promise.all(
      Object.entries(faults).map(async ([fault, strike]) => {
        const unreachable = async () => {
          const { proxy, ...opened } = await behindProxy();
          await strike(proxy);
          return opened;
        };
        const withFailedDel = async () => {
          const opened = await unreachable();
          await outcome(opened.products.update(3, changes('new')));
          return opened;
        };
        const read = await fastest(unreachable, (products) => products.find(1));
        expect(read.result, `Redis ${fault}: find must return the row of MySQL`).toMatchObject({ id: 1 });
        expect(read.lateMs, `ms beyond one deadline that a find takes while Redis ${fault}`).toBeLessThan(
          TOLERATED_MS,
        );
        const write = await fastest(withFailedDel, (products) => products.update(2, changes('new')));
        expect(write.result, `Redis ${fault} and MySQL has committed: update must return true`).toBe(true);
        expect(write.lateMs, `ms beyond one deadline that an update takes while Redis ${fault}`).toBeLessThan(
          TOLERATED_MS,
        );
      }),
    );
  });

  test('a silent connection is replaced, and reconnecting never ends', async () => {
    const { proxy, products } = await behindProxy();
    // Never released: this connection gives no more answers, and new ones work.
    proxy.hold(PRODUCT_1);
    expect(
      await outcome(products.find(1)),
      'the connection is open and silent: find must return the row of MySQL',
    ).toMatchObject({ id: 1 });
    await cache(2, 'from Redis');
    await expect
      .poll(() => nameOf(products.find(2)), {
        timeout: 3000,
        interval: 20,
        message: 'name that find returns: the silent connection must be replaced, so that hits are possible',
      })
      .toBe('from Redis');
    const { retryStrategy = () => 2000 } = cacheClientOptions();
    for (const attempt of [10, 1000, 1_000_000]) {
      // Without a number the client gives up.
      const pause = retryStrategy?.(attempt) ?? Number.POSITIVE_INFINITY;
      const message = `ms that retryStrategy returns for attempt ${attempt}: it must be 10 to 5,000`;
      expect(pause, message).toBeGreaterThanOrEqual(10);
      expect(pause, message).toBeLessThanOrEqual(5000);
    }
  });

  test('a command that Redis refuses fails no call, and is reported', async () => {
    const { products, permit, refuseReads, errors } = await openRefused();
    await permit(productKey(2));
    await products.find(2);
    await products.update(2, changes('new'));
    expect(errors, 'errors reported: Redis has refused nothing so far').toEqual([]);

    const work = await servers.work(async () => {
      const reading = outcome(products.find(1));
      expect(await reading, 'only the SET is refused: find must return the row').toMatchObject({ id: 1 });
    });
    expect(work.sql('select'), 'SELECTs of this find: the row was loaded before the SET').toBe(1);
    await expectRefusal(errors, 'the SET');
    await refuseReads();
    expect(
      await outcome(products.find(1)),
      'the GET is refused: find must return the row of MySQL',
    ).toMatchObject({ id: 1 });
    await expectRefusal(errors, 'the GET');
    expect(
      await outcome(products.update(1, changes('new'))),
      'the DEL is refused and MySQL has committed: update must return true',
    ).toBe(true);
    await expectRefusal(errors, 'the DEL');
  });

  test('an entry that cannot be decoded is reported, and replaced from MySQL', async () => {
    const errors: unknown[] = [];
    const products = openProducts(servers.redis, servers.db, (error) => errors.push(error));
    const entries = {
      'an HTML page': '<html>502 Bad Gateway</html>',
      'another shape': '{"sku":"M-350"}',
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'a name that is not UTF-8': Buffer.from(encode({ ...row(1), name: '\xff' }), 'latin1'),
    };
    for (const [kind, bytes] of Object.entries(entries)) {
      await servers.redis.set(KEY, bytes);
      errors.length = 0;
      expect(
        await outcome(products.find(1)),
        `the entry is damaged (${kind}): find must return the row of MySQL`,
      ).toMatchObject({ id: 1, name: MUG });
      expect(errors.length, `calls of onCacheError for a damaged entry (${kind})`).toBe(1);
      await products.find(1);
      await until(async () => (await cachedName(1, watcher)) === MUG);
      expect(
        await cachedName(),
        `name in Redis: the damaged entry (${kind}) must be replaced, or each read asks MySQL`,
      ).toBe(MUG);
    }
    const marked = 'Mug \ufffd';
    await servers.db.query('UPDATE products SET name = ? WHERE id = 2', [marked]);
    await products.find(2);
    await stored(2);
    errors.length = 0;
    expect(
      [await nameOf(products.find(2)), errors],
      'name and errors of a hit: MySQL itself holds the mark of bytes that are not UTF-8, and encode keeps it',
    ).toEqual([marked, []]);
  });

  test('an id that is not a positive safe integer is refused before any request', async () => {
    const [redisProxy, mysqlProxy] = [await openProxy(servers.redisUrl), await openProxy(servers.mysqlUrl)];
    const redis = await connect(redisProxy.url);
    const db = servers.connectDb({}, mysqlProxy.url);
    await db.query('SELECT 1');
    const requests: string[] = [];
    for (const proxy of [redisProxy, mysqlProxy]) {
      proxy.schedule(async (request) => {
        requests.push(request);
      });
    }
    const products = openProducts(redis, db);
    const fromOutside: unknown[] = ['1', '01', [1], true, null, undefined, 0, -1, 1.5, 2 ** 53, 1n];
    for (const id of [...fromOutside, Number.NaN, Number.POSITIVE_INFINITY] as number[]) {
      for (const call of [() => products.find(id), () => products.update(id, changes('x'))]) {
        expect(
          await rejectionOf(call),
          `the id ${inspect(id)} must be refused with InvalidIdError: its text is another key, which no update deletes`,
        ).toBeInstanceOf(InvalidIdError);
      }
    }
    expect(requests, 'requests that were sent for these ids').toEqual([]);
  });

  test('a SET that an outage has stopped is not sent after it', async () => {
    const elsewhere = openProducts();
    const patient = { ...cacheClientOptions(), commandTimeout: 1000, retryStrategy: () => 250 };

    const unanswered = await behindProxy(patient);
    const set = unanswered.proxy.hold(SETS);
    const first = outcome(unanswered.products.find(1));
    await Promise.race([set.arrived, first]);
    await elsewhere.update(1, changes('new'));
    unanswered.proxy.cut();

    const mysqlProxy = await openProxy(servers.mysqlUrl);
    const unsent = await behindProxy(patient, servers.connectDb({}, mysqlProxy.url));
    const select = mysqlProxy.hold(/FROM products/i);
    const second = outcome(unsent.products.find(2));
    await Promise.race([select.arrived, second]);
    unsent.proxy.cut();
    await until(() => unsent.redis.status !== 'ready');
    select.release();
    await Promise.race([second, sleep(150)]);
    await elsewhere.update(2, changes('new'));

    await Promise.all([connected(unanswered.redis), connected(unsent.redis)]);
    expect(
      await cachedName(1),
      'name in Redis: the SET had no answer when its connection broke, and the row was updated meanwhile',
    ).not.toBe(MUG);
    expect(
      await cachedName(2),
      'name in Redis: the SET was issued while there was no connection, and the row was updated meanwhile',
    ).not.toBe('Beech cutting board');
  });

  test('an update whose answer was lost deletes the entry too', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const products = openProducts(servers.redis, servers.connectDb({}, proxy.url));
    // The connection is open, and the statement prepared if it is a prepared one.
    await products.update(1, changes('old'));
    await cache(1, 'old');
    const statement = proxy.hold(/UPDATE products/i);
    const updating = outcome(products.update(1, changes('new')));
    await statement.arrived;
    proxy.delay(5000);
    statement.release();
    await until(async () => (await nameInMySql()) === 'new');
    proxy.cut();
    expect(
      await updating,
      'the connection broke, so nobody knows whether MySQL has committed: update must reject',
    ).toEqual(REJECTION);
    expect(
      await cachedName(),
      'name in Redis: MySQL had committed "new", and only its answer was lost',
    ).not.toBe('old');
  });

  test('a failed DEL is tried again, after a pause, until Redis confirms it', async () => {
    await addProducts();
    await updateThroughOutage('refused connections', (proxy) => proxy.refuse());
    await updateThroughOutage('was a black hole', (proxy) => proxy.blackHole());

    const { products, permit, errors, admin, url } = await openRefused();
    await cache(1, 'old', admin);
    for (const name of ['new', 'newer', 'newest', 'next', 'last']) {
      expect(await outcome(products.update(1, changes(name))), 'MySQL has committed: true').toBe(true);
    }
    errors.length = 0;
    const { ms } = await timed(() => sleep(5 * RETRY_MS));
    expect(
      Math.round(ms / Math.max(1, errors.length)),
      'ms between two tries of a DEL that Redis refuses: RETRY_MS or more, however often the product was updated',
    ).toBeGreaterThan(RETRY_MS / 2);
    lapseTime();
    for (let lapse = 0; lapse < 300 && errors.length < 15; lapse++) {
      vi.advanceTimersByTime(RETRY_MS);
      await sleep(2);
    }
    await permit(KEY);
    await expectGone(1, 'old', 'Redis has refused the DEL many times, and accepts it now', url);
  });

  test('until its DEL is confirmed, a product is read from MySQL, and only that product', async () => {
    await addProducts();
    const mysqlProxy = await openProxy(servers.mysqlUrl);
    const { redis, products, permit, admin, url } = await openRefused(servers.connectDb({}, mysqlProxy.url));
    const refused = [1, 4, 5, 6, 7];
    const updated = [...refused, 2];
    await Promise.all([...updated.map((id) => cache(id, 'old', admin)), cache(3, 'from Redis', admin)]);
    await permit(productKey(3));
    lapseTime();
    for (const id of updated) {
      expect(await outcome(products.update(id, changes('new'))), 'MySQL has committed: true').toBe(true);
    }
    await permit(productKey(2), productKey(3));
    await expectGone(
      2,
      'old',
      `Redis refuses the DELs of the products ${refused.join(', ')}, and not that of product 2`,
      url,
    );

    // Nine minutes by the clock, half a minute of timers: the entry would live for ten.
    vi.setSystemTime(Date.now() + 9 * 60_000);
    vi.advanceTimersByTime(30_000);
    // A request that was under way has timed out, perhaps with its connection.
    await connected(redis);
    for (const read of ['first', 'second']) {
      expect(
        await nameOf(products.find(1)),
        `name that the ${read} find returns: this process updated the product nine minutes ago, and Redis still refuses the DEL`,
      ).toBe('new');
    }
    expect(
      await nameOf(products.find(3)),
      'name that find returns: nobody has updated product 3, so its entry is good',
    ).toBe('from Redis');
    await mysqlProxy.refuse();
    expect(
      await outcome(products.find(1)),
      'MySQL cannot be asked, and the entry is known to be old: find must reject, not return it',
    ).toEqual(REJECTION);
    await permit(KEY);
    await expectGone(1, 'old', 'Redis has refused the DEL for nine minutes, and accepts it now', url);
  });

  test('a confirmed DEL confirms no later update', async () => {
    const { proxy, redis, products } = await behindProxy({ ...cacheClientOptions(), commandTimeout: 1000 });
    // The DEL of the first update is lost with its connection. Its retry comes on the next one, and is held.
    const lost = proxy.hold(PRODUCT_1);
    const first = outcome(products.update(1, changes('one')));
    await Promise.race([lost.arrived, first]);
    const retry = proxy.hold(PRODUCT_1);
    proxy.cut();
    expect(await first, 'MySQL has committed: true').toBe(true);
    await Promise.race([retry.arrived, sleep(1000)]);
    const later = proxy.hold(/product:[12]\b/);
    const updates = [1, 2].map((id) => outcome(products.update(id, changes('two')), 2500));
    // Their DELs may be sent only after the answer to the first one.
    await Promise.race([later.arrived, Promise.all(updates), sleep(100)]);
    await cache(1, 'before');
    retry.release();
    await until(async () => (await cachedName(1, watcher)) !== 'before');
    // Another process had read product 1 between the two updates, and stores it now.
    await Promise.all([later.arrived, cache(1, 'one'), cache(2, 'old'), sleep(20)]);
    proxy.cut();
    expect(await Promise.all(updates), 'MySQL has committed both: true').toEqual([true, true]);
    await connected(redis);
    await expectGone(1, 'one', 'only the DEL of an earlier update has been confirmed');
    await expectGone(2, 'old', 'only a DEL of product 1 has been confirmed');
  });
});

type Products = ReturnType<typeof createProducts>;
type Opened = { readonly products: Products; readonly redis: Redis };

function openProducts(redis: Redis = servers.redis, db = servers.db, onCacheError = (_: unknown) => {}) {
  return createProducts({ redis, db, onCacheError });
}

/** Products whose Redis can be taken away. The connection is up. */
async function behindProxy(options: RedisOptions = cacheClientOptions(), db = servers.db) {
  const { proxy, redis } = await redisBehindProxy(servers, options);
  return { proxy, redis, products: openProducts(redis, db) };
}

/** Products whose Redis refuses every write with an error, until keys are permitted. */
async function openRefused(db = servers.db) {
  const refusing = await refusingRedis(servers, { ...cacheClientOptions(), commandTimeout: 1000 });
  const errors: unknown[] = [];
  return { ...refusing, errors, products: openProducts(refusing.redis, db, (error) => errors.push(error)) };
}

/** Updates many products while Redis cannot be reached; their entries must go when it is back. */
async function updateThroughOutage(fault: string, strike: (proxy: FaultyProxy) => unknown) {
  const { proxy, products } = await behindProxy();
  const [uncached = 0, ...cached] = MANY;
  await Promise.all([servers.redis.del(productKey(uncached)), ...cached.map((id) => cache(id, 'old'))]);
  await strike(proxy);
  const updates = MANY.map((id) => outcome(products.update(id, changes('new'))));
  expect(await Promise.all(updates), 'MySQL has committed: true').toEqual(MANY.map(() => true));
  await proxy.heal();
  for (const id of cached) {
    await expectGone(id, 'old', `the DEL of product ${id} failed while Redis ${fault}, and Redis is back`);
  }
  // Where there was no entry, a 0 confirms the DEL.
  for (const id of MANY) await expectCachedAgain(products, id);
}

/** From now on the test moves setTimeout and Date ahead of the clock. They never fall behind it. */
function lapseTime() {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'], shouldAdvanceTime: true });
  onTestFinished(() => void vi.useRealTimers());
}

/** A pool that keeps back the answer to its first SELECT, which MySQL has executed. */
function lateAnswer() {
  const db = servers.connectDb();
  nameRequests(db, 'your code');
  const [answered, released] = [signal(), signal()];
  const { query } = db;
  Object.assign(db, {
    query: async (...request: [unknown]) => {
      const answer: unknown = await Reflect.apply(query, db, request);
      if (/SELECT/i.test(inspect(request[0])) && !answered.fired) {
        answered.fire();
        await released.promise;
      }
      return answer;
    },
  });
  return { db, answered: answered.promise, release: () => released.fire() };
}

/** The error that is reported for a command that Redis has refused. Forgets it. */
async function expectRefusal(errors: unknown[], command: string) {
  await until(() => errors.length > 0);
  expect(errors.map(String), `what onCacheError got: Redis has refused ${command}`).toContainEqual(
    expect.stringMatching(/NOPERM|EXECABORT/),
  );
  errors.length = 0;
}

async function deadMySql() {
  const proxy = await openProxy(servers.mysqlUrl);
  await proxy.refuse();
  return servers.connectDb({}, proxy.url);
}

/** How long a call takes beyond one deadline and one query. */
const fastest = (open: () => Promise<Opened>, call: (products: Products) => Promise<unknown>) =>
  lateness({
    open,
    call: ({ products }) => call(products),
    reference: () => sleep(DEADLINE_MS).then(() => servers.db.query('SELECT 1')),
    toleratedMs: TOLERATED_MS,
  });

/** A second deadline takes twice as long. */
const TOLERATED_MS = 0.5 * DEADLINE_MS;

async function connect(url: string): Promise<Redis> {
  const redis = servers.connectRedis({}, url);
  await connected(redis);
  return redis;
}

/** Waits for the entry that a `find` stores, which its caller need not wait for. */
const stored = (id: number) => until(async () => (await watcher.exists(productKey(id))) === 1);

const row = (id: number) => ({ ...changes(MUG), id, updatedAt: new Date(0) });

/** Stores an entry, as another process would. */
const cache = (id: number, name: string, redis = servers.redis) =>
  redis.set(productKey(id), encode({ ...row(id), name }), 'PX', 60_000);

/** The name in the entry, or its text where that is not an entry. */
async function cachedName(id = 1, redis = servers.redis): Promise<string | undefined> {
  const text = await redis.get(productKey(id));
  if (text === null) return undefined;
  try {
    return decode(text)?.name;
  } catch {
    return text;
  }
}

/** Looks by a client that the red screen leaves out, again and again. */
function expectGone(id: number, name: string, reason: string, url = servers.redisUrl) {
  const redis = servers.connectRedis({}, url);
  nameRequests(redis, '');
  onTestFinished(() => redis.disconnect());
  return expect
    .poll(() => cachedName(id, redis), {
      timeout: 3000,
      interval: 10,
      message: `name in Redis: ${reason}, so the old entry must go`,
    })
    .not.toBe(name);
}

const expectCachedAgain = (products: Products, id: number) =>
  expect
    .poll(() => products.find(id).then(() => cachedName(id, watcher)), {
      timeout: 2000,
      interval: 10,
      message: `name in Redis after a find: the DEL of product ${id} is confirmed, so it must be cached again`,
    })
    .toBe('new');

async function nameOf(reading: Promise<unknown>): Promise<unknown> {
  const product = await outcome(reading);
  return typeof product === 'object' && product && 'name' in product ? product.name : product;
}

/** So that there are MANY: the servers hold three. */
const addProducts = () =>
  servers.db.query(
    `INSERT INTO products (id, name, price, stock, category_id, updated_at)
     VALUES ${MANY.slice(3).map((id) => `(${id}, 'product ${id}', '5.00', 1, 1, NOW(3))`)}`,
  );

async function nameInMySql(): Promise<string> {
  const [[found]] = await servers.db.query<RowDataPacket[]>('SELECT name FROM products WHERE id = 1');
  return String(found?.name);
}
