import type { Redis } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { expect, onTestFinished, test } from 'vitest';
import { explore } from '#kit/explore';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome } from '#kit/waiting';
import { type Args, cacheKey, createReadThrough, decode, LoadTimeoutError } from './read-through';

const servers = useServers('products');

const NAME = 'products-of';
const MUG = 'Enamel mug, 350 ml';

interface Product {
  name: string;
  updatedAt: Date;
  tags: string[];
}

async function selectProducts({ category = 1 }: Args): Promise<Product[]> {
  const [rows] = await servers.db.execute<RowDataPacket[]>(
    'SELECT name, updated_at AS updatedAt FROM products WHERE category_id = ? ORDER BY id LIMIT 10',
    [category],
  );
  return rows.map(({ name, updatedAt }) => ({ name, updatedAt, tags: ['shop'] }));
}

function openCache<V = Product[]>(
  load: (args: Args, signal: AbortSignal) => Promise<V>,
  { redis = servers.redis, loadDeadlineMs = 3000, cacheDeadlineMs = 2000 } = {},
) {
  return createReadThrough<Args, V>({
    redis,
    name: NAME,
    load,
    ttlMs: 60_000,
    loadDeadlineMs,
    cacheDeadlineMs,
  });
}

test('200 readers of a cold key make one query, and a hit is what the miss was', async () => {
  const cache = openCache(selectProducts);
  let answers: Product[][] = [];
  const cold = await servers.work(async () => {
    answers = await Promise.all(Array.from({ length: 200 }, () => cache.get({ category: 1 })));
  });
  expect(cold.sql('select'), '200 calls of one key met: they had to share one query').toBe(1);
  expect(answers[199]?.[0], 'every reader gets the answer, its dates as Dates').toMatchObject({
    name: MUG,
    updatedAt: expect.any(Date),
  });
  const warm = await servers.work(async () => {
    expect(await cache.get({ category: 1 }), 'from Redis it must be equal to what was loaded').toEqual(
      answers[0],
    );
  });
  expect(warm.sql('select'), 'the value was stored: no second query').toBe(0);
  const ttl = await servers.redis.pttl(cacheKey(NAME, { category: 1 }));
  expect(ttl, 'an entry lives for ttlMs, by the clock of Redis').toSatisfy(
    (ms: number) => ms > 40_000 && ms <= 60_000,
  );
});

test('different keys load side by side', async () => {
  const second = held();
  const cache = openCache(async ({ category }) => {
    if (category === 1) await second.promise;
    else second.release();
    return category;
  });
  const both = Promise.all([cache.get({ category: 1 }), cache.get({ category: 2 })]);
  expect(
    await outcome(both),
    'the load of key 1 goes on until that of key 2 has begun: one lock for all keys makes each wait for the others',
  ).toEqual([1, 2]);
});

test('a rejection is shared, then forgotten', async () => {
  const failure = new Error('connection lost');
  let loads = 0;
  const cache = openCache(async () => {
    loads++;
    await turn();
    if (loads === 1) throw failure;
    return 'loaded';
  });
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => cache.get({}).catch((error: unknown) => error)),
  );
  expect(answers, 'five callers shared a load that failed: each gets its error').toEqual(
    Array(5).fill(failure),
  );
  expect(
    loads,
    'one failure for all five: 50 callers must not make 50 attempts at a database in trouble',
  ).toBe(1);
  expect(await outcome(cache.get({})), 'the next call must try again: a failure is no answer to keep').toBe(
    'loaded',
  );
});

test('who leaves leaves alone, and a load that nobody waits for is aborted', async () => {
  const loading = held();
  const signals: AbortSignal[] = [];
  const cache = openCache(async (_args, signal) => {
    signals.push(signal);
    await loading.promise;
    return 'loaded';
  });
  const first = new AbortController();
  const left = outcome(cache.get({}, { signal: first.signal }));
  const stays = outcome(cache.get({}));
  await expect.poll(() => signals.length, { interval: 5 }).toBe(1);
  first.abort(new Error('gone home'));
  expect(await left, 'its own signal must end the call at once, with its reason').toBe(
    'rejected: Error: gone home',
  );
  expect(signals[0]?.aborted, 'somebody still waits: the load goes on').toBe(false);
  loading.release();
  expect(await stays, "one caller's abort must not fail the others").toBe('loaded');

  await cache.invalidate({});
  const never = openCache((_args, signal) => {
    signals.push(signal);
    return new Promise<string>(() => {});
  });
  const [one, other] = [new AbortController(), new AbortController()];
  const leaving = [
    outcome(never.get({}, { signal: one.signal })),
    outcome(never.get({}, { signal: other.signal })),
  ];
  await expect.poll(() => signals.length, { interval: 5 }).toBe(2);
  one.abort();
  other.abort();
  await Promise.all(leaving);
  await expect
    .poll(() => signals[1]?.aborted, {
      message: 'nobody waits any more: tell the loader, which may stop its query',
    })
    .toBe(true);
  const last = new AbortController();
  const joining = outcome(never.get({}, { signal: last.signal }));
  await expect
    .poll(() => signals.length, {
      interval: 5,
      timeout: 500,
      message: 'the next caller must not join what was aborted',
    })
    .toBe(3);
  last.abort();
  await joining;
  await leaveEarly();
});

/** A signal that has aborted before the call, and one that aborts during the GET. */
async function leaveEarly(): Promise<void> {
  let loads = 0;
  const { proxy, redis } = await wired();
  const cache = openCache(async () => ++loads, { redis });
  expect(
    await outcome(cache.get({ early: true }, { signal: AbortSignal.abort(new Error('gone')) })),
    'the signal has aborted before the call: reject with its reason',
  ).toBe('rejected: Error: gone');
  const gate = proxy.hold(/products-of/);
  const leaves = new AbortController();
  const leaving = outcome(cache.get({ early: true }, { signal: leaves.signal }));
  await gate.arrived;
  leaves.abort(new Error('gone'));
  expect(await leaving, 'a caller may leave while Redis is asked').toBe('rejected: Error: gone');
  gate.release();
  await outcome(redis.ping());
  await turn();
  expect(loads, 'nobody was left when Redis answered: do not begin the load').toBe(0);
}

test('no caller can change what another gets', async () => {
  const cache = openCache(selectProducts);
  const two = () => Promise.all([cache.get({ category: 1 }), cache.get({ category: 1 })]);
  const [one, other] = await two();
  const deface = (products: Product[]) => {
    try {
      products[0]?.tags.push('sold out');
      products[0]?.updatedAt.setTime(0);
    } catch {
      // Frozen values are as good as copies.
    }
  };
  deface(one);
  expect(other[0]?.tags, 'two callers shared a load: a change of one must not reach the other').toEqual([
    'shop',
  ]);
  expect(other[0]?.updatedAt.getTime(), 'a Date can be changed too, even in a frozen object').toBeGreaterThan(
    0,
  );
  const [hit, secondHit] = await two();
  deface(hit);
  expect(secondHit[0]?.tags, 'two callers shared a hit: that holds for hits, too').toEqual(['shop']);
  expect((await cache.get({ category: 1 }))[0]?.tags, 'nor may it reach the callers after it').toEqual([
    'shop',
  ]);
});

test('one question has one key, for reads and for invalidations', async () => {
  let loads = 0;
  const count = async () => ++loads;
  const cache = openCache(count);
  await cache.get({ category: 1, page: 2 });
  await cache.get({ page: 2, category: 1 });
  expect(loads, 'the order of the arguments is no part of the question').toBe(1);
  await openCache(count).get({ category: 1, page: 2 });
  expect(loads, 'another object, or process, with the same name must find the same entry').toBe(1);
  await cache.invalidate({ page: 2, category: 1 });
  await cache.get({ category: 1, page: 2 });
  expect(loads, 'the invalidation has to meet the key that the reads use').toBe(2);
  await cache.get({ category: '1', page: 2 });
  await cache.get({ category: 1, page: 2, all: true });
  expect(loads, "1 is not '1', and one argument more is another question").toBe(4);
  expect(
    cacheKey('a', { b: 1 }),
    'two questions with the same arguments are two keys: the name belongs in it',
  ).not.toBe(cacheKey('c', { b: 1 }));
  expect(
    () => cacheKey('a', { b: Number.NaN }),
    'NaN and Infinity are one text in JSON: refuse them',
  ).toThrow(RangeError);
  expect(cacheKey('a', { b: 'x","y' }), 'no text may end its place in the key early').not.toBe(
    cacheKey('a', { b: 'x', y: '' }),
  );
});

test('a load that never settles holds its key no longer than its deadline', async () => {
  const late = held();
  const signals: AbortSignal[] = [];
  const cache = openCache(
    async (_args, signal) => {
      if (signals.push(signal) === 1) await late.promise.then(() => 'too late');
      return signals.length === 1 ? 'too late' : 'loaded';
    },
    { loadDeadlineMs: 60 },
  );
  const answers = await Promise.all(
    [1, 2].map(() => outcome(cache.get({}).catch((error: unknown) => error))),
  );
  for (const answer of answers) {
    expect(
      answer,
      'the load hangs: after loadDeadlineMs all who wait must get a LoadTimeoutError',
    ).toBeInstanceOf(LoadTimeoutError);
  }
  expect(signals[0]?.aborted, 'tell the loader too: its signal aborts at the deadline').toBe(true);
  late.release();
  await turn();
  expect(
    await servers.redis.exists(cacheKey(NAME, {})),
    'what came after the deadline must not be stored',
  ).toBe(0);
  expect(await outcome(cache.get({})), 'the load that hung must not be joined by those who come later').toBe(
    'loaded',
  );
});

test('a read begun after an invalidation does not get what was loaded before it', async () => {
  const loading = held();
  const began = held();
  let first = true;
  const cache = openCache(async (args) => {
    const rows = await selectProducts(args);
    began.release();
    if (first) {
      first = false;
      await loading.promise;
    }
    return rows[0]?.name;
  });
  const old = cache.get({ category: 1 });
  await Promise.race([began.promise, old]);
  await servers.db.query("UPDATE products SET name = 'new' WHERE id = 1");
  await cache.invalidate({ category: 1 });
  expect(
    await outcome(cache.get({ category: 1 })),
    'a load from before the invalidation was going on: a read after it must not join that load',
  ).toBe('new');
  loading.release();
  expect(await old, 'who came before the invalidation may get the old value').toBe(MUG);
  expect(
    await cache.get({ category: 1 }),
    'the old load ended last, and must not have stored its value',
  ).toBe('new');

  await twoFlights();
  let shared: ReturnType<typeof openCache<string>> | undefined;
  await explore(servers, {
    runs: 20,
    prepare: async () => {
      await servers.redis.del(cacheKey(NAME, { category: 1 }));
      await servers.db.query('UPDATE products SET name = ? WHERE id = 1', [MUG]);
    },
    actors: {
      reader: ({ redis, db }) => {
        shared = openCache(
          async () => {
            const [[row]] = await db.query<RowDataPacket[]>('SELECT name FROM products WHERE id = 1');
            return String(row?.name);
          },
          { redis },
        );
        return shared.get({ category: 1 });
      },
      writer: async ({ db }) => {
        await db.query("UPDATE products SET name = 'new' WHERE id = 1");
        await shared?.invalidate({ category: 1 });
      },
    },
    verdict: async () => {
      const bytes = await servers.redis.getBuffer(cacheKey(NAME, { category: 1 }));
      return bytes && decode(bytes) === MUG
        ? 'the invalidation is over and the old value is in Redis: this process knew of both'
        : undefined;
    },
  });
});

/** An old load ends while the one after the invalidation goes on; and a read begins while the DEL is on its way. */
async function twoFlights(): Promise<void> {
  const loads: ReturnType<typeof held>[] = [];
  const { proxy, redis } = await wired();
  const cache = openCache(
    async () => {
      const number = loads.push(held());
      await loads[number - 1]?.promise;
      return number;
    },
    { redis },
  );
  const first = outcome(cache.get({ of: 'two' }));
  await expect.poll(() => loads.length, { interval: 5 }).toBe(1);
  const gate = proxy.hold(/^(DEL|UNLINK|EVAL|EVALSHA|MULTI)\b/i);
  const invalidated = cache.invalidate({ of: 'two' });
  const second = outcome(cache.get({ of: 'two' }));
  await Promise.race([gate.arrived, invalidated]);
  gate.release();
  await invalidated;
  await expect
    .poll(() => loads.length, {
      interval: 5,
      timeout: 700,
      message: 'a read begun while the DEL is on its way joined the old load',
    })
    .toBe(2);
  loads[0]?.release();
  await first;
  const third = outcome(cache.get({ of: 'two' }));
  await turn();
  loads[1]?.release();
  loads[2]?.release();
  expect(
    await Promise.all([second, third]),
    'the old load has ended and must not take the new one out of the map',
  ).toEqual([2, 2]);
  expect(loads.length, 'the third read had a load to join').toBe(2);
}

const FAULTS: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
  refused: (proxy) => proxy.refuse(),
  stalled: (proxy) => proxy.stall(),
  'black-holed': (proxy) => proxy.blackHole(),
};

test('a Redis that is refused, stalled or black-holed delays a call by its deadline only, and no invalidation is lost', async () => {
  await Promise.all(
    Object.entries(FAULTS).map(async ([fault, strike]) => {
      const { proxy, redis } = await wired();
      let stored = 'old';
      const cache = openCache(async () => stored, { redis, cacheDeadlineMs: 40 });
      await openCache(async () => 'old').get({ fault });
      await strike(proxy);
      expect(
        await outcome(cache.get({ fault: `${fault}, cold` })),
        `Redis is ${fault}, with a client that waits for ever: the loader has the answer`,
      ).toBe('old');
      await servers.redis.set(cacheKey(NAME, { garbage: fault }), 'no value at all');
      expect(
        await outcome(openCache(async () => 'loaded').get({ garbage: fault })),
        'bytes that decode refuses are a miss, not an error of the caller',
      ).toBe('loaded');
      stored = 'new';
      expect(
        await outcome(cache.invalidate({ fault })),
        `Redis is ${fault}: invalidate must say so, soon`,
      ).toBe(false);
      expect(
        await outcome(cache.get({ fault })),
        `Redis is ${fault}: the read after it is of the loader`,
      ).toBe('new');
      await proxy.heal();
      await expect.poll(() => outcome(redis.ping(), 100), { interval: 10, timeout: 2500 }).toBe('PONG');
      expect(
        await outcome(cache.get({ fault })),
        'Redis is back with the old entry: this object knows that it was to be deleted',
      ).toBe('new');
    }),
  );
});

async function wired(): Promise<{ proxy: FaultyProxy; redis: Redis }> {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis(
    { retryStrategy: () => 20, maxRetriesPerRequest: null, autoResendUnfulfilledCommands: false },
    proxy.url,
  );
  onTestFinished(() => redis.disconnect());
  await expect.poll(() => redis.status).toBe('ready');
  return { proxy, redis };
}

/** A promise that the test resolves. */
function held() {
  let release = () => {};
  const promise = new Promise<void>((resolve) => {
    release = resolve;
  });
  return { promise, release };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
