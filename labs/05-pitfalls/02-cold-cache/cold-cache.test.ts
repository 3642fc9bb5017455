import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Database } from '#experiments/collapse/database';
import { Goodput, openLoop } from '#experiments/collapse/load';
import { fakeClock } from '#kit/clock';
import { expectTtl } from '#kit/expect-ttl';
import { connected, leave, redisBehindProxy } from '#kit/faulty-redis';
import { withDeadline } from '#kit/given';
import { lateness } from '#kit/lateness';
import { ownRedis } from '#kit/own-redis';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, soon, until } from '#kit/waiting';
import { createProductCache, type Options, type ProductCache } from './cold-cache';
import { encode, OverloadedError, type Product, productKey, REDIS_DEADLINE_MS, TTL_MS } from './given';

const servers = useServers();

const productOf = (id: number): Product => ({ id, name: `Product ${id}` });
const idsFrom = (first: number, count: number) => Array.from({ length: count }, (_, at) => first + at);

describe('Core', () => {
  test('a hit loads nothing, and a miss is loaded and stored with its TTL', async () => {
    const { cache, database } = open();
    await keep(1);
    expect(await cache.get(1), 'a product that Redis has').toEqual(productOf(1));
    expect(database.loads, 'loads of a product that Redis has').toEqual([]);

    const reading = cache.get(2);
    await database.begun(1);
    database.end(2);
    expect(await outcome(reading), 'a product that Redis does not have').toEqual(productOf(2));
    await stored(2);
    await expectTtl(servers.redis, productKey(2), TTL_MS, 'ms to live of a product that was loaded: TTL_MS');
    expect(await outcome(cache.get(2)), 'the same product, read again').toEqual(productOf(2));
    expect(database.loads, 'loads of two reads of one product').toEqual([2]);
  });

  test('no more loads than the limit are under way at once', async () => {
    const { cache, database } = open({ limit: 3 });
    for (const id of idsFrom(1, 12)) cache.get(id).catch(() => {});
    await database.begun(3);
    await sleep(20);
    expect(database.loads.length, 'loads under way: 12 readers miss, and the limit is 3').toBe(3);
  });

  test('the excess is answered at once, while hits are served', async () => {
    const { cache, database } = open({ limit: 2 });
    await keep(9);
    await fill(cache, database, [1, 2]);
    const refused = idsFrom(3, 4).map((id) =>
      outcome(
        rejectionOf(() => cache.get(id)),
        500,
      ),
    );
    for (const answer of await Promise.all(refused)) {
      expect(
        answer,
        'answer to a reader whose product is not in Redis, while the database is busy',
      ).toBeInstanceOf(OverloadedError);
    }
    const hit = outcome(cache.get(9), 500);
    expect(await hit, 'a product that Redis has, read while the database is busy').toEqual(productOf(9));
  });

  test('when a load has ended, well or not, another one may begin', async () => {
    const { cache, database } = open({ limit: 1 });
    const first = cache.get(1);
    await database.begun(1);
    database.end(1);
    await first;
    const second = outcome(cache.get(2));
    await database.begun(2);
    database.fail(2);
    expect(await second, 'answer to a reader whose load has failed').toContain('down');
    const third = outcome(cache.get(3));
    await database.begun(3);
    database.end(3);
    expect(await third, 'a product that is loaded after another load has failed').toEqual(productOf(3));
    expect(
      database.loads,
      'loads of three reads, one after the other: a load that failed is not tried again',
    ).toEqual([1, 2, 3]);

    await fill(cache, database, [4]);
    await expectRefused(cache, [5], 'one load is under way, the limit is 1, and a load has failed before');
  });

  test('after a flush, goodput returns while the load stays', async () => {
    const scene = await underLoad(servers.redis);
    await servers.redis.del(idsFrom(0, PRODUCTS).map(productKey));
    expect(
      await scene.best(PATIENCE_MS),
      `percent of the readers that are served within ${READER_LEAVES_MS} ms: ${OFFERED} a second come, ${PRODUCTS} products were flushed, and the database carries ${CARRIES.toFixed()} loads a second`,
    ).toBeGreaterThan(RETURNED);
  });
});

describe('In production', () => {
  test('when Redis is killed under load, reads go to the database within the same limit', async () => {
    const { redis, kill, startAgain } = await redisToKill();
    const scene = await underLoad(redis);
    await kill();
    await sleep(200);
    expect(
      await scene.served(1500),
      `readers served while Redis is away: the database carries ${CARRIES.toFixed()} loads a second, and the last reader got "${scene.lastError()}"`,
    ).toBeGreaterThan(0);
    expect(
      scene.most(),
      `most loads under way while Redis is away: the limit is ${LIMIT}`,
    ).toBeLessThanOrEqual(LIMIT);
    await startAgain();
    expect(
      await scene.best(PATIENCE_MS),
      'percent of the readers that are served in time, after Redis has come back empty',
    ).toBeGreaterThan(RETURNED);
  });

  test('a silent Redis costs a read its deadline, and the limit holds', async () => {
    const openSilent = async () => {
      const { proxy, redis } = await redisBehindProxy(servers);
      proxy.stall();
      return { redis };
    };
    const { result, lateMs } = await lateness({
      open: openSilent,
      call: ({ redis }) => sixReads(redis, 2),
      // One deadline to read, and one to store where a reader waits for that.
      reference: () => sleep(2 * REDIS_DEADLINE_MS + LOAD_MS),
      toleratedMs: 100,
    });
    expect(result, 'six readers come, Redis does not answer, and the limit is 2').toEqual({
      served: expect.any(Number),
      mostLoads: 2,
    });
    expect(lateMs, 'ms after two deadlines of Redis').toBeLessThan(100);
  });

  test('a short burst waits for a place, and a longer one is refused', async () => {
    const { cache, database } = open({ limit: 1, maxWaiting: 2 });
    const [first] = await fill(cache, database, [1]);
    const waiting = [2, 3].map((id) => outcome(cache.get(id)));
    await sleep(20);
    const excess = await outcome(
      rejectionOf(() => cache.get(4)),
      500,
    );
    expect(
      excess,
      'answer to reader 4: one load is under way, 2 readers wait, and maxWaiting is 2',
    ).toBeInstanceOf(OverloadedError);
    expect(database.loads, 'loads under way: the limit is 1').toEqual([1]);
    for (let ended = 1; ended <= 3; ended++) {
      await database.begun(ended);
      database.end(database.loads[ended - 1] ?? 0);
    }
    expect(await first, 'the product of the reader whose load was under way').toEqual(productOf(1));
    expect(await Promise.all(waiting), 'the products of two readers that had to wait').toEqual(
      [2, 3].map(productOf),
    );
  });

  test('a waiting reader that has left is skipped', async () => {
    const clock = fakeClock(1000);
    const { cache, database } = open({ limit: 1, maxWaiting: 3, now: clock.now });
    await fill(cache, database, [1]);
    const dead = outcome(cache.get(2, 1100));
    await sleep(10);
    const alive = outcome(cache.get(3, 9000));
    await sleep(10);
    clock.advance(500);
    database.end(1);
    await database.begun(2);
    expect(database.loads, 'loads: the reader of product 2 has left at 1100, and it is 1500').toEqual([1, 3]);
    database.end(3);
    expect(await alive, 'the product of the reader that is still there').toEqual(productOf(3));
    expect(await dead, 'answer to a reader that has left').toContain('rejected');
    expect(database.loads, 'loads, after all have ended').toEqual([1, 3]);
  });

  test('a database that fails again and again is left alone', async () => {
    const { cache, database, clock } = open({ failuresToOpen: 3, openMs: 1000 });
    await keep(9);
    await failures(cache, database, [1, 2, 3]);
    clock.advance(990);
    await expectRefused(cache, [4, 5], 'three loads in a row have failed, and openMs is not over');
    expect(database.loads, 'loads: the breaker opens after 3 that failed').toEqual([1, 2, 3]);
    expect(await outcome(cache.get(9)), 'a product that Redis has, while the breaker is open').toEqual(
      productOf(9),
    );

    const other = open({ failuresToOpen: 3 });
    await failures(other.cache, other.database, [11, 12]);
    await succeed(other.cache, other.database, 13);
    await failures(other.cache, other.database, [14, 15]);
    await succeed(other.cache, other.database, 16);
  });

  test('after a pause one read tries the database, and the others are refused until it has ended', async () => {
    const { cache, database, clock } = open({ limit: 4, failuresToOpen: 3, openMs: 1000 });
    await failures(cache, database, [1, 2, 3]);
    await expectRefused(cache, [4], 'three loads in a row have failed');
    clock.advance(1010);
    const reads = idsFrom(5, 4).map((id) => outcome(rejectionOf(() => cache.get(id))));
    await database.begun(4);
    await sleep(20);
    expect(database.loads.length, 'loads of 4 readers after the pause, and 3 before it').toBe(4);
    database.end(database.loads[3] ?? 0);
    const answers = await Promise.all(reads);
    const refused = answers.filter((answer) => answer instanceof OverloadedError);
    expect(refused.length, 'readers of 4 that are refused: one tries the database').toBe(3);
    await fill(cache, database, [20, 21, 22, 23]);
    expect(database.loads.length, 'loads, after the try has succeeded and 4 more readers have come').toBe(8);
  });

  test('a try that fails opens the breaker again at once', async () => {
    const { cache, database, clock } = open({ failuresToOpen: 3, openMs: 1000 });
    await failures(cache, database, [1, 2, 3]);
    clock.advance(1010);
    await failures(cache, database, [4]);
    clock.advance(990);
    await expectRefused(cache, [5, 6], 'the try has failed 990 ms ago, and openMs is 1000');
    clock.advance(20);
    await succeed(cache, database, 7);
  });

  test('a refused read is not a failure of the database', async () => {
    const { cache, database } = open({ limit: 1, failuresToOpen: 3 });
    const [first] = await fill(cache, database, [1]);
    await expectRefused(cache, idsFrom(2, 6), 'one load is under way, and the limit is 1');
    database.fail(1);
    await first;
    await failures(cache, database, [10, 11]);
    expect(
      database.loads,
      'loads: one that failed, six readers refused by the limit, two loads that failed',
    ).toEqual([1, 10, 11]);
    await expectRefused(cache, [12], 'three loads in a row have failed');
  });

  test('a warm-up loads the hottest first, and leaves places to readers', async () => {
    const { cache, database } = open({ limit: 4 });
    await keep(70);
    const hottest = [50, 70, 20, 90, 10, 80, 30];
    const warming = outcome(cache.warm(hottest), 3000);
    await database.begun(1);
    await sleep(20);
    expect(database.loads.length, 'loads of the warm-up under way: the limit is 4').toBeLessThan(4);
    expect(
      await soon(warming, 20),
      'the warm-up, with one of its loads under way: it resolves when it has tried all, and a deployment waits for it',
    ).toBe('still waiting');
    const reader = outcome(cache.get(1));
    await until(() => database.loads.includes(1));
    expect(database.loads, 'loads, after a reader has come').toContain(1);
    for (let ended = 0; ended < 7; ended++) {
      await database.begun(ended + 1);
      const id = database.loads[ended] ?? 0;
      // Products that cannot be loaded do not end the warm-up, also if it has several workers.
      if (id === 20 || id === 90 || id === 10) database.fail(id);
      else database.end(id);
    }
    expect(await reader, 'the product of a reader that came during the warm-up').toEqual(productOf(1));
    expect(await warming, 'a warm-up in which three loads have failed: it resolves').toBeUndefined();
    const warmed = database.loads.filter((id) => id !== 1);
    expect(warmed, `loads of warm(${hottest}): Redis has 70`).toEqual(hottest.filter((id) => id !== 70));

    const small = open({ limit: 1 });
    small.cache.warm([40]).catch(() => {});
    await small.database.begun(1);
    expect(small.database.loads, 'loads of warm(40) of a process whose limit is 1').toEqual([40]);
  });
});

const LOAD_MS = 30;

/** How many of six readers at once are served, and the most loads that were under way meanwhile. */
async function sixReads(redis: Redis, limit: number) {
  let underWay = 0;
  let mostLoads = 0;
  const load = async (id: number) => {
    mostLoads = Math.max(mostLoads, ++underWay);
    await sleep(LOAD_MS);
    underWay--;
    return productOf(id);
  };
  const cache = createProductCache({ redis, limit, load });
  const answers = await Promise.allSettled(idsFrom(1, 6).map((id) => cache.get(id)));
  return { served: answers.filter(({ status }) => status === 'fulfilled').length, mostLoads };
}

/** A client that does not keep commands for later. */
const FAILS_AT_ONCE = { enableOfflineQueue: false, maxRetriesPerRequest: 0 };

/** A Redis of the test's own, and a client that finds it again where it is after its restart. */
async function redisToKill() {
  const server = await ownRedis();
  const redis = servers.connectRedis({ ...FAILS_AT_ONCE, retryStrategy: () => 20 }, server.url);
  onTestFinished(() => leave(redis));
  await connected(redis);
  return {
    redis,
    kill: () => server.close(),
    async startAgain() {
      const { port, password } = new URL((await ownRedis()).url);
      Object.assign(redis.options, { port: Number(port), password });
      await connected(redis);
    },
  };
}

/** Loads that the test ends one by one. */
class HeldDatabase {
  /** Ids in the order in which their loads began. */
  readonly loads: number[] = [];
  readonly #held: { id: number; resolve(product: Product): void; reject(error: Error): void }[] = [];

  load = (id: number): Promise<Product> => {
    this.loads.push(id);
    return new Promise((resolve, reject) => this.#held.push({ id, resolve, reject }));
  };

  begun = (count: number) => until(() => this.loads.length >= count);

  end(id: number): void {
    for (const held of this.#take(id)) held.resolve(productOf(id));
  }

  fail(id: number): void {
    for (const held of this.#take(id)) held.reject(new Error('the database is down'));
  }

  #take(id: number) {
    const at = this.#held.findIndex((held) => held.id === id);
    return at < 0 ? [] : this.#held.splice(at, 1);
  }
}

function open(options: Partial<Options> = {}) {
  const database = new HeldDatabase();
  const clock = fakeClock(1000);
  const cache = createProductCache({
    redis: servers.redis,
    load: database.load,
    limit: 10,
    failuresToOpen: 1_000_000,
    now: clock.now,
    ...options,
  });
  return { cache, database, clock };
}

const keep = (id: number) => servers.redis.set(productKey(id), encode(productOf(id)), 'PX', TTL_MS);
const stored = (id: number) => until(async () => (await servers.redis.exists(productKey(id))) === 1);

/** Reads that miss, one after the other. Resolves with what they come to, when all loads are under way. */
async function fill(cache: ProductCache, database: HeldDatabase, ids: readonly number[]) {
  const reads: Promise<Product | string>[] = [];
  for (const id of ids) {
    const before = database.loads.length;
    reads.push(outcome(cache.get(id), 5000));
    await database.begun(before + 1);
  }
  return reads;
}

/** One read after the other whose load fails. */
async function failures(cache: ProductCache, database: HeldDatabase, ids: readonly number[]): Promise<void> {
  for (const id of ids) {
    const [read] = await fill(cache, database, [id]);
    database.fail(id);
    await read;
  }
}

async function succeed(cache: ProductCache, database: HeldDatabase, id: number): Promise<void> {
  const [read] = await fill(cache, database, [id]);
  database.end(id);
  expect(await read, `product ${id}: the breaker must be closed, or try again`).toEqual(productOf(id));
}

async function expectRefused(cache: ProductCache, ids: readonly number[], why: string): Promise<void> {
  for (const id of ids) {
    const answer = await outcome(
      rejectionOf(() => cache.get(id)),
      500,
    );
    expect(answer, `answer to the reader of product ${id}: ${why}`).toBeInstanceOf(OverloadedError);
  }
}

// Slower than in the lesson by three, so that a busy machine can keep up: the same collapse.
const OFFERED = 300;
const CAPACITY = { connections: 2, queryMs: 30 };
const CARRIES = (CAPACITY.connections / CAPACITY.queryMs) * 1000;
const LIMIT = 4;
const PRODUCTS = 120;
const READER_LEAVES_MS = 250;
const PATIENCE_MS = 4500;
/** Without a limit, a quarter is served at most: those that come first after the flush. */
const RETURNED = 40;
const WINDOW_MS = 300;

/** Readers that come whatever happens, before a real database that carries less than a quarter of them. */
async function underLoad(redis: Redis) {
  nameRequests(redis, '');
  const pool = servers.connectDb({ connectionLimit: CAPACITY.connections });
  const database = new Database(pool, CAPACITY);
  const goodput = new Goodput();
  let underWay = 0;
  let most = 0;
  let lastError = 'no error';
  const cache = createProductCache({
    redis,
    limit: LIMIT,
    // The limit alone has to do it.
    failuresToOpen: 1_000_000,
    load: async (id) => {
      most = Math.max(most, ++underWay);
      await withDeadline(database.query(id), READER_LEAVES_MS).finally(() => underWay--);
      return productOf(id);
    },
  });
  const stores = redis.pipeline();
  for (const id of idsFrom(0, PRODUCTS)) stores.set(productKey(id), encode(productOf(id)), 'PX', TTL_MS);
  await stores.exec();
  const end = openLoop(
    () => OFFERED,
    () => {
      const deadline = performance.now() + READER_LEAVES_MS;
      const reading = cache.get(Math.floor(Math.random() * PRODUCTS), deadline);
      goodput.count(reading, deadline);
      reading.catch((error: unknown) => {
        lastError = String(error);
      });
    },
  );
  onTestFinished(() => {
    end();
    database.forget();
  });
  await sleep(200);
  return {
    /** How many readers that come from now on are served, of those in the next `ms`; ends with the first. */
    async served(ms: number): Promise<number> {
      const from = performance.now();
      while (goodput.good(from, performance.now()) === 0 && performance.now() < from + ms) await sleep(20);
      return goodput.good(from, performance.now());
    },
    /** The most loads that were under way at once. */
    most: () => most,
    lastError: () => lastError,
    /** The best window of the next `ms`, in percent; ends with the first that is over RETURNED. */
    async best(ms: number): Promise<number> {
      const from = performance.now();
      let best = 0;
      while (best <= RETURNED && performance.now() < from + ms) {
        await sleep(30);
        const to = performance.now() - READER_LEAVES_MS;
        if (to - WINDOW_MS > from && goodput.asked(to - WINDOW_MS, to) > 0)
          best = Math.max(best, goodput.percent(to - WINDOW_MS, to));
      }
      end();
      return best;
    },
  };
}
