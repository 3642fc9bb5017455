import { inspect } from 'node:util';
import type { Redis } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { expect, onTestFinished, test } from 'vitest';
import { explore } from '#kit/explore';
import { ownRedis } from '#kit/own-redis';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome } from '#kit/waiting';
import {
  ABSENT_TTL_MS,
  cacheClientOptions,
  createProducts,
  decode,
  encode,
  InvalidIdError,
  PRODUCT_TTL_MS,
  productKey,
} from './cache-aside';

const servers = useServers('products');

const MUG = 'Enamel mug, 350 ml';
const NOBODY = 999;
const KEY = productKey(1);
const changes = (name: string) => ({ name, price: '9.50', stock: 3 });

function openProducts(redis: Redis = servers.redis, db = servers.db, onCacheError = (_: unknown) => {}) {
  const products = createProducts({ redis, db, onCacheError });
  onTestFinished(() => products.close());
  return products;
}

/** A repository whose Redis can be taken away. Its connection is up. */
async function behindProxy(deadlineMs = 50) {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis(cacheClientOptions(deadlineMs), proxy.url);
  onTestFinished(() => redis.disconnect());
  await connected(redis);
  return { proxy, redis, products: openProducts(redis) };
}

const connected = (redis: Redis) =>
  expect
    .poll(() => redis.ping().catch(() => 'away'), {
      timeout: 3000,
      interval: 5,
      message: 'the client must connect (again)',
    })
    .toBe('PONG');

/** Resolves when Redis has answered all that this client was told before, also a SET that nobody waits for. */
async function answered(redis: Redis) {
  await new Promise((resolve) => setImmediate(resolve));
  await redis.ping();
}

/** Product 1 as the small data set has it. */
const restoreMug = () =>
  servers.db.query(
    "UPDATE products SET name = ?, price = '12.90', stock = 140, updated_at = '2025-05-01 08:00:00' WHERE id = 1",
    [MUG],
  );

test('a product and an absence are both cached, each for its own time', async () => {
  const products = openProducts();
  const answers: unknown[] = [];
  const work = await servers.work(async () => {
    for (const id of [1, 1, NOBODY, NOBODY]) {
      answers.push(await products.find(id));
      await answered(servers.redis);
    }
  });
  expect(
    answers[0],
    'a miss must give the row: its date as a Date, its price as the text that MySQL gives (12.90, not 12.9)',
  ).toMatchObject({ id: 1, name: MUG, price: '12.90', stock: 140, updatedAt: expect.any(Date) });
  expect(answers[1], 'a hit must give what the miss gave').toEqual(answers[0]);
  expect(answers.slice(2), 'there is no such product: null, the first time and the second').toEqual([
    null,
    null,
  ]);
  expect(work.sql('select'), 'one query a product and one an absence: the rest had to come from Redis').toBe(
    2,
  );
  const ttl = await servers.redis.pttl(KEY);
  expect(ttl, 'a product must expire after PRODUCT_TTL_MS, not before and not never').toSatisfy(
    (ms: number) => ms > PRODUCT_TTL_MS - 60_000 && ms <= PRODUCT_TTL_MS,
  );
  const absentTtl = await servers.redis.pttl(productKey(NOBODY));
  expect(
    absentTtl,
    'an absence must expire after ABSENT_TTL_MS: the next one to be created may have this id',
  ).toSatisfy((ms: number) => ms > ABSENT_TTL_MS - 20_000 && ms <= ABSENT_TTL_MS);
});

test('an update answers what MySQL did, and no older entry outlives it', async () => {
  // MySQL's clock stands still here: the second update changes nothing, not even updated_at.
  const still = servers.connectDb({ connectionLimit: 1 });
  // An account that may not do so sees a weaker test.
  await still.query('SET timestamp = 1700000000.5').catch(() => {});
  const answers = openProducts(servers.redis, still);
  const before = await servers.db.query('SELECT updated_at FROM products WHERE id = 1');
  expect(await answers.update(1, changes('new')), 'the product was found and written: true').toBe(true);
  const after = await servers.db.query('SELECT updated_at FROM products WHERE id = 1');
  expect(after[0], 'an update is the time to write updated_at').not.toEqual(before[0]);
  expect(
    await answers.update(1, changes('new')),
    'the row has these values already, but there is such a product: true',
  ).toBe(true);
  expect(await answers.update(NOBODY, changes('new')), 'there is no such product: false').toBe(false);

  const redisProxy = await openProxy(servers.redisUrl);
  const held = redisProxy.hold(/product:1\b/);
  let told = false;
  const written = openProducts(servers.connectRedis({}, redisProxy.url))
    .update(1, changes('new'))
    .then(() => {
      told = true;
    });
  await Promise.race([held.arrived, written]);
  expect(
    told,
    'the update was answered before Redis confirmed the DEL: who hears "done" could still read the old entry, so wait for it',
  ).toBe(false);
  held.release();
  await written;

  let reading = false;
  let overtaken = false;
  await explore(servers, {
    runs: 40,
    seed: 9,
    prepare: async () => {
      await servers.redis.del(KEY);
      await restoreMug();
    },
    actors: {
      reader: async ({ redis, db }) => {
        reading = true;
        await openProducts(redis, db).find(1);
        // The read ends with its SET, which `find` may leave to itself.
        await answered(redis);
        reading = false;
      },
      writer: async ({ redis, db }) => {
        await openProducts(redis, db).update(1, changes('new'));
        // A reader that still has its SET before it may win: that race is another test's.
        overtaken = reading;
      },
    },
    verdict: async () => {
      const left = await cachedName();
      return left === MUG && !overtaken
        ? 'the reader had finished when the update did, and its old value is still cached: commit first, then delete'
        : undefined;
    },
  });

  // An update that is committed and whose answer is lost.
  await servers.redis.del(KEY);
  const proxy = await openProxy(servers.mysqlUrl);
  const products = openProducts(servers.redis, servers.connectDb({}, proxy.url));
  await products.update(1, changes('new'));
  await products.find(1);
  const gate = proxy.hold(/^UPDATE /i);
  const updating = outcome(products.update(1, changes('lost')));
  await gate.arrived;
  proxy.delay(5000);
  gate.release();
  // Inside a transaction of its own it is not committed by this: then the old value is the right one.
  for (let looks = 0; looks < 50 && (await nameInMySql()) !== 'lost'; looks++) await turn();
  proxy.cut();
  expect(
    await updating,
    'nobody knows what became of this update: false would say that there is no product',
  ).not.toBe(false);
  expect(
    [undefined, await nameInMySql()],
    'the connection broke after the commit: the update was rejected, the row is new, and its entry must go all the same',
  ).toContain(await cachedName());
});

test('two updates at once leave no old value behind', async () => {
  await explore(servers, {
    runs: 40,
    prepare: async () => {
      await restoreMug();
      await cache(changes(MUG));
    },
    actors: {
      one: ({ redis, db }) => openProducts(redis, db).update(1, changes('one')),
      other: ({ redis, db }) => openProducts(redis, db).update(1, changes('other')),
    },
    verdict: async () => {
      const left = await cachedName();
      const name = await nameInMySql();
      return left === undefined || left === name
        ? undefined
        : `MySQL holds "${name}" and Redis "${left}": two SETs can arrive in the other order, two DELs cannot harm`;
    },
  });
});

test('the stale fill that cache-aside cannot prevent ends with its TTL', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({}, proxy.url);
  const gate = proxy.hold(/^(SET|SETEX|PSETEX|EVAL|EVALSHA|MULTI) /i);
  // A TTL that follows as a command of its own never arrives.
  const expiry = proxy.hold(/^P?EXPIRE/i);
  const reading = openProducts(redis)
    .find(1)
    .then(() => answered(redis));
  reading.catch(() => {});
  await Promise.race([gate.arrived, reading]);
  await openProducts().update(1, changes('new'));
  gate.release();
  await Promise.race([reading, expiry.arrived]);
  for (let looks = 0; looks < 50 && (await servers.redis.exists(KEY)) === 0; looks++) await turn();
  const ttl = await servers.redis.pttl(KEY);
  expect(
    ttl,
    'a reader stored the old row after the DEL: nothing but a TTL, set by the same command as the value, will ever end that entry',
  ).toSatisfy((ms: number) => ms === -2 || (ms > 0 && ms <= PRODUCT_TTL_MS));
});

type Fault = (proxy: FaultyProxy) => unknown;
const FAULTS: Readonly<Record<string, Fault>> = {
  refused: (proxy) => proxy.refuse(),
  slow: (proxy) => proxy.delay(5000),
  stalled: (proxy) => proxy.stall(),
  'black-holed': (proxy) => proxy.blackHole(),
};

test('a Redis that is refused, slow, stalled or black-holed delays a read and a write by its deadline only', async () => {
  await servers.db.query(
    "INSERT INTO products (id, name, price, stock, category_id, updated_at) VALUES (4, 'Stool', '45.00', 2, 1, NOW(3))",
  );
  await Promise.all(
    Object.entries(FAULTS).map(async ([fault, strike], index) => {
      const { proxy, products } = await behindProxy();
      await strike(proxy);
      const id = index + 1;
      const other = (id % 4) + 1;
      expect(
        await outcome(products.update(id, changes(fault))),
        `Redis is ${fault} and MySQL has committed: the update must say so, soon`,
      ).toBe(true);
      expect(
        await outcome(products.find(id)),
        `Redis is ${fault}: the read must come from MySQL, soon, whatever the kind of failure`,
      ).toMatchObject({ id, name: fault });
      expect(
        await outcome(products.find(other)),
        `Redis is ${fault}: that holds for what nobody has updated too`,
      ).toMatchObject({ id: other });
      expect(
        await servers.redis.exists(productKey(other)),
        `Redis is ${fault} and the GET was not answered: a SET after it costs a second deadline, and comes late if it comes`,
      ).toBe(0);
    }),
  );
});

test('a read fails when MySQL does, and not for a wrong entry or a lost SET', async () => {
  const products = openProducts();
  await servers.redis.lpush(KEY, 'a list, which GET refuses');
  await servers.redis.set(productKey(2), '<html>502 Bad Gateway</html>');
  expect(await outcome(products.find(1)), 'Redis answered WRONGTYPE: MySQL has the product').toMatchObject({
    id: 1,
  });
  expect(await outcome(products.find(2)), 'the bytes are no entry: MySQL has the product').toMatchObject({
    id: 2,
  });

  const { proxy, products: cut } = await behindProxy(300);
  const gate = proxy.hold(/product:3/i);
  const fill = proxy.hold(/^(SET|SETEX|PSETEX|EVAL|EVALSHA|MULTI)\b/i);
  const reading = outcome(cut.find(3));
  await gate.arrived;
  gate.release();
  await Promise.race([fill.arrived, reading]);
  proxy.cut();
  expect(await reading, 'the row was read, and only its SET failed: the reader has to get it').toMatchObject({
    id: 3,
  });

  await servers.redis.del(productKey(2));
  const mysqlProxy = await openProxy(servers.mysqlUrl);
  await mysqlProxy.refuse();
  const blind = openProducts(servers.redis, servers.connectDb({}, mysqlProxy.url));
  expect(
    await outcome(blind.find(2)),
    'MySQL could not be asked: the read must reject, because null says that there is no such product',
  ).toEqual(expect.stringMatching(/^rejected/));
  expect(
    await servers.redis.exists(productKey(2)),
    'MySQL could not be asked: that is no absence, and nothing to store',
  ).toBe(0);
});

test('an invalidation that an outage swallowed is made up for', async () => {
  // A Redis that answers, and refuses each write with an error: after a failover, a replica.
  const { url } = await ownRedis();
  const admin = servers.connectRedis({}, url);
  const replica = servers.connectRedis(cacheClientOptions(), url);
  onTestFinished(() => {
    for (const client of [admin, replica]) client.disconnect();
  });
  await connected(replica);
  await cache(changes(MUG), admin);
  await admin.replicaof('127.0.0.1', 1);
  let failures = 0;
  const refused = openProducts(replica, servers.db, () => {
    failures++;
  });
  expect(await outcome(refused.update(1, changes('new'))), 'MySQL has committed: no failure after that').toBe(
    true,
  );
  expect(
    await outcome(refused.find(1)),
    'Redis answered the DEL with an error, so the old entry is still there: until a DEL is confirmed, this process knows better than to read it',
  ).toMatchObject({ name: 'new' });
  await expect
    .poll(() => failures, {
      timeout: 1500,
      interval: 10,
      message: 'a DEL must be tried again, and again, every RETRY_MS; onCacheError hears of each failure',
    })
    .toBeGreaterThanOrEqual(3);
  await admin.replicaof('NO', 'ONE');
  await gone(MUG, admin);

  // Of two DELs the first is confirmed, late, and the second is lost.
  const { proxy, redis, products } = await behindProxy(400);
  const [first, second] = [proxy.hold(/product:1\b/), proxy.hold(/product:1\b/)];
  const one = outcome(products.update(1, changes('one')));
  await Promise.race([first.arrived, one]);
  const two = outcome(products.update(1, changes('two')));
  // It may be sent after the first one's answer only.
  await Promise.race([second.arrived, two, turn(100)]);
  first.release();
  expect(await one, 'MySQL has committed: no failure after that').toBe(true);
  await Promise.race([second.arrived, two]);
  // Another process had read its row between the two updates.
  await cache(changes('one'));
  proxy.cut();
  second.release();
  expect(await two, 'MySQL has committed: no failure after that').toBe(true);
  await connected(redis);
  expect(
    await outcome(products.find(1)),
    'the DEL of the first update was confirmed, late, and the DEL of the second was lost: one must not count for the other',
  ).toMatchObject({ name: 'two' });
  await gone('one');
});

test('a fill that an outage swallowed does not come back after it', async () => {
  const { proxy, redis, products } = await behindProxy(150);
  const gate = proxy.hold(/^(SET|SETEX|PSETEX|EVAL|EVALSHA|MULTI) /i);
  const reading = products.find(1);
  await Promise.race([gate.arrived, reading]);
  proxy.blackHole();
  gate.release();
  expect(await outcome(reading), 'the read must not wait for a SET that is never answered').toMatchObject({
    name: MUG,
  });
  await openProducts().update(1, changes('new'));
  await proxy.heal();
  await connected(redis);
  expect(
    await cachedName(),
    'the client sent the unanswered SET again when Redis was back, with a row that is old by now: an option forbids it',
  ).not.toBe(MUG);
});

test('an id that is not a positive integer reaches neither server', async () => {
  const products = openProducts();
  const fromOutside: unknown[] = ['1 OR 1=1', '1', [1], true, null, 0, -1, 1.5, Number.NaN, 2 ** 53, 1n];
  const work = await servers.work(async () => {
    for (const id of fromOutside) {
      const asks: (() => Promise<unknown>)[] = [
        () => products.find(id as number),
        () => products.update(id as number, changes('x')),
      ];
      for (const ask of asks) {
        const answer = await Promise.resolve()
          .then(ask)
          .catch((error: unknown) => error);
        expect(answer, `an id of ${inspect(id)} must be refused with InvalidIdError`).toBeInstanceOf(
          InvalidIdError,
        );
      }
    }
  });
  expect(work.sql(), 'an invalid id must be refused before any SQL is sent').toBe(0);
  expect(work.redis(), 'an invalid id must be refused before it becomes a key').toBe(0);
});

const turn = (ms = 5) => new Promise((resolve) => setTimeout(resolve, ms));

/** Stores an entry for product 1, as another process would. */
const cache = (product: ReturnType<typeof changes>, redis = servers.redis) =>
  redis.set(KEY, encode({ ...product, id: 1, updatedAt: new Date(0) }), 'PX', 60_000);

/** Resolves when the entry of this name has gone. */
const gone = (name: string, redis = servers.redis) =>
  expect
    .poll(() => cachedName(redis), {
      timeout: 1500,
      interval: 10,
      message:
        'the DEL was lost in the outage: try it again until Redis confirms it, or others read the old entry',
    })
    .not.toBe(name);

async function nameInMySql(): Promise<string> {
  const [[row]] = await servers.db.query<RowDataPacket[]>('SELECT name FROM products WHERE id = 1');
  return String(row?.name);
}

async function cachedName(redis = servers.redis): Promise<string | undefined> {
  const text = await redis.get(KEY);
  return text === null ? undefined : decode(text)?.name;
}
