import { getEventListeners } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { RedisOptions } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { describe, expect, test } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { explore } from '#kit/explore';
import { connected, redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import type { FaultyProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, unhandledRejections, until } from '#kit/waiting';
import { type Args, decode, encode, LoadTimeoutError, type Options } from './given';
import { cacheKey, createReadThrough } from './read-through';

const servers = useServers('products');

const NAME = 'products-of';
const MUG = 'Enamel mug, 350 ml';
const TTL_MS = 57_300;
const STORES = /^(SET|SETEX|PSETEX|EVAL|EVALSHA|MULTI)\b/i;
const DELETES = /^(DEL|UNLINK|GETDEL|EVAL|EVALSHA|MULTI)\b/i;
const REJECTION = expect.stringMatching(/^rejected/);

describe('Core', () => {
  test('a value is loaded once, and comes from Redis after that', async () => {
    const loaded = await openCache(selectProducts).get({ category: 1 });
    expect(loaded[0], 'a miss must return what load returns').toMatchObject({
      name: MUG,
      updatedAt: expect.any(Date),
    });
    await stored({ category: 1 });
    const work = await servers.work(async () => {
      const hit = await openCache(selectProducts).get({ category: 1 });
      expect(hit, 'a hit of another cache with this name must equal what was loaded').toEqual(loaded);
    });
    expect(work.sql('select'), 'SELECTs of the second get: a hit must not load').toBe(0);
    const key = cacheKey(NAME, { category: 1 });
    await expectTtl(servers.redis, key, TTL_MS, 'ms to live: the entry must live for ttlMs');
  });

  test('an absence is cached too', async () => {
    for (const absence of [null, undefined]) {
      const { cache, loads } = countingCache(async () => absence);
      const question = { kind: String(absence) };
      expect(await cache.get(question), `load has returned ${absence}: get must return it`).toBe(absence);
      await stored(question);
      expect(await cache.get(question), `the second get: ${absence} again`).toBe(absence);
      expect(loads(), `loads of two calls: ${absence} is an answer, which Redis can hold`).toBe(1);
    }
  });

  test('a question has one key, which no other question has', async () => {
    const { cache, loads } = countingCache(async () => 'loaded');
    await cache.get({ category: 1, page: 2 });
    await stored({ category: 1, page: 2 });
    await cache.get({ page: 2, category: 1 });
    expect(loads(), 'loads of two calls: the order of the arguments is not a part of the question').toBe(1);
    await cache.invalidate({ page: 2, category: 1 });
    await cache.get({ category: 1, page: 2 });
    expect(loads(), 'loads: an invalidation must delete the entry that the reads use').toBe(2);

    const args: Args[] = [{ b: 1 }, { b: '1' }, { b: true }, { b: 'true' }, { b: 12 }, { b: 1, c: 2 }];
    // Another case, another space, another alphabet; and two texts with one hash of 32 bits.
    const texts = ['mug', 'Mug', ' mug', 'm ug', 'm  ug', '\u016dug', 'Aa', 'BB'].map((b) => ({ b }));
    const questions = [...args, ...texts, { b: 2, c: 1 }, ...lookalikes()].map(
      (each) => [NAME, each] as const,
    );
    const askedBy = new Map<string, string[]>();
    for (const [name, each] of [...questions, ['customers-of', { b: 1 }] as const]) {
      const key = cacheKey(name, each);
      askedBy.set(key, [...(askedBy.get(key) ?? []), `${name} ${inspect(each)}`]);
    }
    const confused = [...askedBy.values()].filter(({ length }) => length > 1);
    expect(confused, 'different questions that have the same key').toEqual([]);
  });

  test('200 readers of a cold key share one load', async () => {
    const cache = openCache(selectProducts);
    let answers: unknown[] = [];
    const work = await servers.work(async () => {
      answers = await Promise.all(Array.from({ length: 200 }, () => cache.get({ category: 1 })));
    });
    expect(work.sql('select'), 'SELECTs of 200 calls that came at the same time').toBe(1);
    expect(answers, 'each of the 200 callers must get the answer').toEqual(Array(200).fill(answers[0]));
  });

  test('different keys load side by side, and so do different caches', async () => {
    const second = held();
    const cache = openCache(async ({ category }) => {
      if (category === 1) await second.promise;
      else second.release();
      return category;
    });
    const both = Promise.all([cache.get({ category: 1 }), cache.get({ category: 2 })]);
    expect(
      await outcome(both),
      'the load of key 1 ends when that of key 2 has begun: no key may wait for another one',
    ).toEqual([1, 2]);

    const elsewhere = held();
    const ours = openCache(async () => {
      await elsewhere.promise;
      return 'ours';
    });
    const theirs = openCache(
      async () => {
        elsewhere.release();
        return 'theirs';
      },
      { redis: servers.connectRedis() },
    );
    const answers = Promise.all([ours.get({ category: 3 }), theirs.get({ category: 3 })]);
    expect(
      await outcome(answers),
      'two caches, each with a client of its own, are asked for one key: each must ask its own load',
    ).toEqual(['ours', 'theirs']);
  });

  test('a rejection is shared by those who wait, and then forgotten', async () => {
    const failure = new Error('connection lost');
    const { cache, loads } = countingCache(async (number) => {
      await turn();
      if (number === 1) throw failure;
      return 'loaded';
    });
    const calls = Array.from({ length: 5 }, () => cache.get({}).catch((error: unknown) => error));
    expect(await outcome(Promise.all(calls)), 'each of the five callers must get the error of load').toEqual(
      Array(5).fill(failure),
    );
    expect(loads(), 'loads of five calls: they shared a load, so they share its failure').toBe(1);
    expect(await outcome(cache.get({})), 'the next call must load again').toBe('loaded');
  });
});

describe('In production', () => {
  test('a caller that changes its value changes nobody else’s', async () => {
    const source = [{ name: MUG, updatedAt: new Date(1), tags: ['shop'] }];
    const original = structuredClone(source);
    const cache = openCache(async () => source);
    const two = () => Promise.all([cache.get({}), cache.get({})]);
    const [one, other] = await two();
    deface(one);
    expect(other, 'two callers shared a load: a change by the first one must not reach the second').toEqual(
      original,
    );
    expect(source, 'the object that load has returned must not change: load may keep it').toEqual(original);
    await stored({});
    const [hit, secondHit] = await two();
    deface(hit);
    expect(
      secondHit,
      'two callers shared a hit: a change by the first one must not reach the second',
    ).toEqual(original);
    expect(await cache.get({}), 'a change must not reach the callers that come later').toEqual(original);
  });

  test('a caller that aborts ends its own call only', async () => {
    const loading = held();
    const signals: AbortSignal[] = [];
    const cache = openCache(async (_, signal) => {
      signals.push(signal);
      await loading.promise;
      return 'loaded';
    });
    const [first, second] = [new AbortController(), new AbortController()];
    const firstCall = outcome(cache.get({}, { signal: first.signal }));
    const secondCall = outcome(cache.get({}, { signal: second.signal }));
    const stays = outcome(cache.get({}));
    await until(() => signals.length > 0);
    first.abort(new Error('closed the tab'));
    second.abort(new Error('went home'));
    expect(await firstCall, 'its signal has aborted: the call must reject at once, with the reason').toBe(
      'rejected: Error: closed the tab',
    );
    expect(await secondCall, 'a call that joined a load must end by its own signal').toBe(
      'rejected: Error: went home',
    );
    expect(signals[0]?.aborted, 'aborted: a caller still waits, so the load must go on').toBe(false);
    loading.release();
    expect(await stays, 'this caller has not aborted, so it must get the value').toBe('loaded');

    const shutdown = new AbortController();
    await cache.get({}, { signal: shutdown.signal });
    await turn();
    expect(
      getEventListeners(shutdown.signal, 'abort').length,
      'listeners on the signal of a call that has ended: a signal of the process gets one more with each call',
    ).toBe(0);
  });

  test('a load that every caller has left is aborted or not begun, and nobody joins it', async () => {
    const signals: AbortSignal[] = [];
    const { proxy, redis } = await behindProxy();
    const cache = openCache(
      (_, signal) => {
        signals.push(signal);
        return signals.length === 1 ? new Promise<string>(() => {}) : Promise.resolve('loaded');
      },
      { redis },
    );
    const leaving = [new AbortController(), new AbortController()];
    const calls = leaving.map(({ signal }) => outcome(cache.get({}, { signal })));
    await until(() => signals.length > 0);
    for (const controller of leaving) controller.abort(new Error('gone'));
    const next = outcome(cache.get({}));
    await Promise.all(calls);
    expect(signals[0]?.aborted, 'aborted: both callers have left, so load must learn that it may stop').toBe(
      true,
    );
    expect(await next, 'a call that comes after that must begin a new load').toBe('loaded');

    const early = outcome(cache.get({ page: 2 }, { signal: AbortSignal.abort(new Error('gone')) }));
    expect(await early, 'the signal had aborted before the call: reject with its reason').toBe(
      'rejected: Error: gone',
    );
    const get = proxy.hold(/products-of/);
    const during = new AbortController();
    const call = outcome(cache.get({ page: 3 }, { signal: during.signal }));
    await Promise.race([get.arrived, call]);
    during.abort(new Error('gone'));
    await call;
    get.release();
    await redis.ping();
    await turn();
    expect(signals.length, 'loads: for pages 2 and 3 every caller had left before the load').toBe(2);
  });

  test('a load that never settles is given up at its deadline', async () => {
    const late = held();
    const signals: AbortSignal[] = [];
    const cache = openCache(
      async (_, signal) => {
        if (signals.push(signal) > 1) return 'loaded';
        // However late a busy machine is, it runs the timer of the deadline before this one.
        setTimeout(late.release, 1.5 * LOAD_MS);
        await late.promise;
        return 'too late';
      },
      { loadDeadlineMs: LOAD_MS },
    );
    const calls = [1, 2].map(() => outcome(cache.get({}).catch((error: unknown) => error)));
    for (const answer of await Promise.all(calls)) {
      expect(
        answer,
        'load has not settled within loadDeadlineMs: each caller must get a LoadTimeoutError',
      ).toBeInstanceOf(LoadTimeoutError);
    }
    expect(signals[0]?.aborted, 'aborted: load must learn that it is too late').toBe(true);
    await late.promise;
    await turn();
    await servers.redis.ping();
    expect(await entry({}), 'the entry: a value that came too late must not be stored').toBeUndefined();
    expect(await outcome(cache.get({})), 'the next call must begin a new load').toBe('loaded');
    await sleep(1.5 * LOAD_MS);
    expect(
      signals[1]?.aborted,
      'aborted: this load was in time, and what it has started may live on after it',
    ).toBe(false);
  });

  test('a Redis that fails costs a call one deadline, fails no read, and is reported', async () => {
    const unhandled = unhandledRejections();
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      'answers after 5 s': (proxy) => proxy.delay(5000),
      stalls: (proxy) => proxy.stall(),
      'is a black hole': (proxy) => proxy.blackHole(),
      'does not answer a SET': (proxy) => proxy.hold(STORES),
    };
    const scenes = Object.entries(faults).map(async ([fault, strike]) => {
      const { read, write, again, errors } = await underFault(fault, strike);
      expect(read, `Redis ${fault}: within one deadline, get must return the loaded value`).toBe('loaded');
      expect(write, `Redis ${fault}: within one deadline, invalidate must reject`).toEqual(REJECTION);
      expect(
        again,
        `Redis ${fault}, and the DEL of this key is unconfirmed: within one deadline, get must return the loaded value`,
      ).toBe('loaded');
      expect(errors.length, `errors of the get reported while Redis ${fault}`).toBeGreaterThan(0);
    });
    const refused = async () => {
      const { redis, refuseReads } = await refusingRedis(servers, IMPATIENT);
      const errors: unknown[] = [];
      const cache = openCache(async () => 'loaded', { redis, onCacheError: (error) => errors.push(error) });
      for (const command of ['SET', 'GET']) {
        const read = await outcome(cache.get({ command }));
        expect(read, `Redis refuses the ${command}: get must return the loaded value`).toBe('loaded');
        await until(() => errors.length > 0);
        expect(errors.map(String), `errors reported: Redis has refused the ${command}`).toContainEqual(
          expect.stringMatching(/NOPERM|EXECABORT/),
        );
        errors.length = 0;
        // Reads are refused too from now on.
        await refuseReads();
      }
    };
    await Promise.all([...scenes, refused()]);
    expect(unhandled(), 'unhandled rejections: a command that nobody awaits must not reject').toEqual([]);
  });

  test('an entry that cannot be decoded is reported, and loaded again', async () => {
    const entries = {
      'an HTML page': Buffer.from('<html>502 Bad Gateway</html>'),
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'cut off': encode({ name: MUG }).subarray(0, 8),
      empty: Buffer.alloc(0),
    };
    for (const [kind, bytes] of Object.entries(entries)) {
      const errors: unknown[] = [];
      const cache = openCache(async () => 'loaded', { onCacheError: (error) => errors.push(error) });
      await servers.redis.set(cacheKey(NAME, { kind }), bytes);
      expect(
        await outcome(cache.get({ kind })),
        `the entry is damaged (${kind}): get must return the loaded value`,
      ).toBe('loaded');
      expect(errors.length, `errors reported for a damaged entry (${kind})`).toBe(1);
      await until(async () => (await entry({ kind })) === 'loaded');
      expect(
        await entry({ kind }),
        `the entry: the damaged one (${kind}) must be replaced, or each read loads`,
      ).toBe('loaded');
    }
  });

  test('an invalidation separates the loads before it from those after it', async () => {
    const loads: ReturnType<typeof held>[] = [];
    const { proxy, redis } = await behindProxy();
    const cache = openCache(
      async () => {
        const number = loads.push(held());
        await loads[number - 1]?.promise;
        return `load ${number}`;
      },
      { redis },
    );
    const before = outcome(cache.get({}));
    await until(() => loads.length === 1);
    const del = proxy.hold(DELETES);
    const invalidated = outcome(cache.invalidate({}));
    // This call begins while the DEL is on its way.
    const after = outcome(cache.get({}));
    await Promise.race([del.arrived, invalidated]);
    del.release();
    await invalidated;
    await until(() => loads.length === 2);
    expect(
      loads.length,
      'loads: a call that begins after an invalidation must not share a load from before it',
    ).toBe(2);
    loads[0]?.release();
    expect(await before, 'this call began before the invalidation, so its load is good enough').toBe(
      'load 1',
    );
    await redis.ping();
    const joining = outcome(cache.get({}));
    await redis.ping();
    await turn();
    loads[1]?.release();
    // Only where it has not joined the second load.
    loads[2]?.release();
    expect(await Promise.all([after, joining]), 'two calls that began after the invalidation').toEqual([
      'load 2',
      'load 2',
    ]);
    expect(loads.length, 'loads: the end of the first one must not hide the second one from new calls').toBe(
      2,
    );
  });

  test('a load that an invalidation has overtaken stores nothing', async () => {
    const [began, loading] = [held(), held()];
    const cache = openCache(async () => {
      began.release();
      await loading.promise;
      return 'old';
    });
    const reading = outcome(cache.get({ category: 2 }));
    await Promise.race([began.promise, reading]);
    await outcome(cache.invalidate({ category: 2 }));
    loading.release();
    expect(await reading, 'the call began before the invalidation, so it may get the old value').toBe('old');
    await servers.redis.ping();
    expect(await entry({ category: 2 }), 'the entry: this value was loaded before the invalidation').not.toBe(
      'old',
    );

    let shared: ReturnType<typeof openCache<string>> | undefined;
    await explore(servers, {
      runs: 12,
      prepare: async () => {
        await servers.redis.del(cacheKey(NAME, { category: 1 }));
        await servers.db.query('UPDATE products SET name = ? WHERE id = 1', [MUG]);
      },
      actors: {
        reader: ({ redis, db }) => {
          shared = openCache(() => selectName(db), { redis });
          return shared.get({ category: 1 });
        },
        writer: async ({ db }) => {
          await db.query("UPDATE products SET name = 'new' WHERE id = 1");
          await shared?.invalidate({ category: 1 });
        },
      },
      verdict: async () =>
        (await entry({ category: 1 })) === MUG
          ? 'Redis holds the old value after the invalidation, and this process knew of both'
          : undefined,
    });
  });

  test('until its DEL is confirmed or ttlMs is over, a key is loaded', async () => {
    const { redis, admin, permit } = await refusingRedis(servers, IMPATIENT);
    let loads = 0;
    const cache = openCache(
      async () => {
        loads++;
        return 'new';
      },
      { redis },
    );
    const cacheInRedis = (args: Args, value: string) =>
      admin.set(cacheKey(NAME, args), encode(value), 'PX', TTL_MS);
    await Promise.all([cacheInRedis({ page: 1 }, 'old'), cacheInRedis({ page: 2 }, 'from Redis')]);
    const invalidating = outcome(cache.invalidate({ page: 1 }));
    const meanwhile = outcome(cache.get({ page: 1 }));
    expect(await invalidating, 'Redis refuses the DEL: invalidate must reject').toEqual(REJECTION);
    expect(await meanwhile, 'get began after invalidate, which had no answer yet').toBe('new');
    loads = 0;
    const readers = await Promise.all([1, 2, 3].map(() => outcome(cache.get({ page: 1 }))));
    expect(readers, 'the DEL has failed: the entry is still the old one').toEqual(['new', 'new', 'new']);
    expect(loads, 'loads of three readers: they must share a load now too').toBe(1);
    expect(await outcome(cache.get({ page: 2 })), 'nobody has invalidated page 2: its entry is good').toBe(
      'from Redis',
    );

    const invalidatedAt = performance.now();
    const shortLived = openCache(async () => 'loaded', { redis, ttlMs: 80 });
    expect(await outcome(shortLived.invalidate({ page: 3 })), 'Redis refuses the DEL').toEqual(REJECTION);
    await cacheInRedis({ page: 3 }, 'stored later');
    await expectSoon(
      () => shortLived.get({ page: 3 }),
      'stored later',
      'value of get: ttlMs is over, and with it each entry from before the invalidation. Else such keys pile up',
    );
    expect(
      performance.now() - invalidatedAt,
      'ms from invalidate to the first value from Redis: until ttlMs is over, an entry may be from before it',
    ).toBeGreaterThan(75);

    await permit();
    await expectSoon(
      async () => {
        await cache.get({ page: 1 });
        return entry({ page: 1 }, admin);
      },
      'new',
      'the entry: Redis accepts the DEL now, so reads must get this key cached again',
    );
  });

  test('a confirmed DEL confirms no later invalidation', async () => {
    const { proxy, redis } = await behindProxy();
    let value = 'first';
    const cache = openCache(async () => value, { redis });
    await cache.get({});
    const [firstDel, secondDel] = [proxy.hold(DELETES), proxy.hold(DELETES)];
    const first = outcome(cache.invalidate({}));
    await Promise.race([firstDel.arrived, first]);
    value = 'second';
    const second = outcome(cache.invalidate({}));
    firstDel.release();
    expect(await first, 'Redis has confirmed the DEL of the first invalidation').toBeUndefined();
    await Promise.race([secondDel.arrived, second]);
    // Another process had read before the second change, and stores now.
    await servers.redis.set(cacheKey(NAME, {}), encode('first'), 'PX', TTL_MS);
    proxy.cut();
    expect(await second, 'the connection broke before the second DEL: invalidate must reject').toEqual(
      REJECTION,
    );
    await connected(redis);
    await cache.invalidate({ page: 2 });
    expect(
      await outcome(cache.get({})),
      'value of get: only the DEL of the first invalidation, and one of page 2, have been confirmed',
    ).toBe('second');
  });
});

interface Product {
  name: string;
  updatedAt: Date;
  tags: string[];
}

type Load<V> = Options<Args, V>['load'];

function openCache<V>(load: Load<V>, options: Partial<Options<Args, V>> = {}) {
  return createReadThrough<Args, V>({
    redis: servers.redis,
    name: NAME,
    load,
    ttlMs: TTL_MS,
    loadDeadlineMs: 3000,
    cacheDeadlineMs: 2000,
    ...options,
  });
}

/** A cache whose loads are numbered from 1. */
function countingCache<V>(load: (number: number) => Promise<V>) {
  let loads = 0;
  return { cache: openCache(() => load(++loads)), loads: () => loads };
}

async function selectProducts({ category = 1 }: Args): Promise<Product[]> {
  const [rows] = await servers.db.execute<RowDataPacket[]>(
    'SELECT name, updated_at AS updatedAt FROM products WHERE category_id = ? ORDER BY id LIMIT 10',
    [category],
  );
  return rows.map(({ name, updatedAt }) => ({ name, updatedAt, tags: ['shop'] }));
}

async function selectName(db: typeof servers.db): Promise<string> {
  const [[row]] = await db.query<RowDataPacket[]>('SELECT name FROM products WHERE id = 1');
  return String(row?.name);
}

/** Questions made from the text between two values in a key: they share a key where a value can end early. */
function lookalikes(): Args[] {
  const key = cacheKey(NAME, { b: 'first', c: 'second' });
  const [from, to] = [key.indexOf('first'), key.indexOf('second')];
  if (from === -1 || to < from) return [];
  const between = key.slice(from + 'first'.length, to);
  return [
    { b: 'first', c: 'second' },
    { b: `first${between}second` },
    { b: `x${between}y`, c: 'z' },
    { b: 'x', c: `y${between}z` },
  ];
}

function deface(products: Product[]): void {
  try {
    products[0]?.updatedAt.setTime(0);
    products[0]?.tags.push('sold out');
  } catch {
    // Frozen values are as good as copies.
  }
}

/** It keeps commands for its server as long as it takes. By default, it does so for about ten seconds. */
const PATIENT: RedisOptions = { maxRetriesPerRequest: null, retryStrategy: () => 20 };

/** It keeps nothing for later. */
const IMPATIENT: RedisOptions = {
  maxRetriesPerRequest: 0,
  enableOfflineQueue: false,
  retryStrategy: () => 20,
};

const behindProxy = (options = IMPATIENT) => redisBehindProxy(servers, options);

const LOAD_MS = 50;
const SHORT_MS = 140;

/** What calls come to within one deadline, and not within two. A busy machine gets three tries. */
async function underFault(fault: string, strike: (proxy: FaultyProxy) => unknown) {
  for (let attempt = 1; ; attempt++) {
    const { proxy, redis } = await behindProxy(PATIENT);
    const errors: unknown[] = [];
    const cache = openCache(async () => 'loaded', {
      redis,
      cacheDeadlineMs: SHORT_MS,
      onCacheError: (error) => errors.push(error),
    });
    await strike(proxy);
    const read = await outcome(cache.get({ fault }), 1.8 * SHORT_MS);
    await until(() => errors.length > 0);
    const reported = [...errors];
    const write = await outcome(cache.invalidate({ fault }), 1.8 * SHORT_MS);
    const again = await outcome(cache.get({ fault }), 1.8 * SHORT_MS);
    const asExpected = read === 'loaded' && String(write).startsWith('rejected') && again === read;
    if (attempt === 3 || asExpected) return { read, write, again, errors: reported };
  }
}

const expectSoon = (read: () => Promise<unknown>, value: unknown, message: string) =>
  expect.poll(() => read().catch(String), { timeout: 2000, interval: 10, message }).toBe(value);

/** Waits for the entry that a `get` stores, which its caller need not wait for. */
async function stored(args: Args): Promise<void> {
  const key = cacheKey(NAME, args);
  const exists = async () => (await servers.redis.exists(key)) === 1;
  await until(exists);
  expect(await exists(), 'get has loaded: Redis must hold an entry under cacheKey(name, args)').toBe(true);
}

/** The value in Redis; undefined where there is no entry. */
async function entry(args: Args, redis = servers.redis): Promise<unknown> {
  const bytes = await redis.getBuffer(cacheKey(NAME, args));
  try {
    return bytes ? decode(bytes) : undefined;
  } catch (error) {
    return String(error);
  }
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
