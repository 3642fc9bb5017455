import { inspect } from 'node:util';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { fakeClock } from '#kit/clock';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, until } from '#kit/waiting';
import {
  ABSENT_TTL_MS,
  decode,
  encode,
  InvalidIdError,
  PROFILE_TTL_MS,
  profileKey,
  type Stats,
  WINDOW,
} from './given';
import { createProfileCache } from './hit-or-miss';

const servers = useServers('users');

const ADA = { id: 1, email: 'ada@example.org', name: 'Ada Lindqvist', locale: 'sv-SE' };
const BEN = { id: 2, email: 'ben@example.org', name: 'Ben Okafor', locale: 'en-GB' };
const NOBODY = 99;
const KEY = profileKey(1);
const ENTRY_1 = /profile:1\b/;
const THE_QUERY = /FROM\s+`?users/i;
const REJECTION = expect.stringMatching(/^rejected/);

describe('Core', () => {
  test('a profile is read from MySQL once, and from Redis after that', async () => {
    const cache = openCache();
    expect(await cache.get(1), 'a miss must return the row of MySQL').toEqual(ADA);
    await stored(1);
    const work = await servers.work(async () => {
      expect(await cache.get(1), 'a hit must return what the miss returned').toEqual(ADA);
    });
    expect(work.sql('select'), 'SELECTs of the second lookup: a hit must not ask MySQL').toBe(0);
  });

  test('an entry gets its TTL once, from the command that stores it', async () => {
    const proxy = await openProxy(servers.redisUrl);
    let previous = '';
    let sentBare: string | undefined;
    proxy.schedule(async (request) => {
      if (ENTRY_1.test(previous) && (await servers.redis.pttl(KEY)) === -1) sentBare ??= request;
      previous = request;
    });
    const cache = openCache({ redis: servers.connectRedis({}, proxy.url) });
    await cache.get(1);
    await stored(1);
    expect(
      sentBare,
      'the entry had no TTL when this command was sent: if the process dies before it, the entry stays forever',
    ).toBeUndefined();
    await expectTtl(1, PROFILE_TTL_MS, 'ms to live: the entry of a profile must live for PROFILE_TTL_MS');
    await servers.redis.pexpire(KEY, 60_000);
    await cache.get(1);
    await expectTtl(1, 60_000, 'ms to live after a hit, of 60,000 before it: a hit must not change the TTL');
  });

  test('an absence is cached too, for a shorter time', async () => {
    const cache = openCache();
    expect(await cache.get(NOBODY), 'there is no such user: get must return null').toBeNull();
    await stored(NOBODY);
    const work = await servers.work(async () => {
      expect(await cache.get(NOBODY), 'a cached absence must be null too').toBeNull();
    });
    expect(work.sql('select'), 'SELECTs of the second lookup: a cached absence must not ask MySQL').toBe(0);
    await expectTtl(NOBODY, ABSENT_TTL_MS, 'ms to live: the entry of an absence must live for ABSENT_TTL_MS');
  });

  test('hits, negatives and misses are counted apart', async () => {
    const cache = openCache();
    const atFirst = cache.stats();
    for (const [id, hits] of [
      [1, 4],
      [2, 0],
      [NOBODY, 2],
    ] as const) {
      await cache.get(id);
      await stored(id);
      for (let again = 0; again < hits; again++) await cache.get(id);
    }
    const { hit, negative, miss, error } = cache.stats();
    expect(miss, 'misses: MySQL was asked once for each of the users 1, 2 and 99').toBe(3);
    expect(hit, 'hits: Redis had the profile of user 1 four times').toBe(4);
    expect(negative, 'negatives: Redis knew twice that user 99 does not exist').toBe(2);
    expect(error, 'errors: nothing failed').toBe(0);
    expect(
      atFirst,
      'what stats returned before the first lookup: a dashboard subtracts it from later figures, so it must not change',
    ).toMatchObject({ hit: 0, negative: 0, miss: 0, error: 0 });
  });

  test('a failure counts as an error, and is not cached', async () => {
    const failing = openCache({ db: await deadMySql() });
    expect(await outcome(failing.get(1)), 'MySQL cannot be asked: get must reject').toEqual(REJECTION);
    expect(
      failing.stats(),
      'lookups by outcome: the only lookup failed, because MySQL was out of reach',
    ).toMatchObject(ONLY_AN_ERROR);
    expect(
      await servers.redis.exists(KEY),
      'entries of user 1: the query failed, so nothing is known about this user',
    ).toBe(0);

    // With a failing Redis, get may reject or return the row. Both are accepted.
    const unreadable = openCache();
    await servers.redis.lpush(profileKey(2), 'a list, which GET refuses');
    await outcome(unreadable.get(2));
    expect(
      unreadable.stats(),
      'lookups by outcome: the only lookup failed, because Redis refused its GET',
    ).toMatchObject({ hit: 0, negative: 0, error: 1 });

    const unwritable = await redisGoneAfterTheQuery();
    await until(() => unwritable.stats().error > 0);
    expect(
      unwritable.stats().error,
      'errors: the only SET failed, because Redis was gone. If no figure shows it, nobody sees a cache that never hits',
    ).toBe(1);
  });

  test('an id is data: it cannot change the query', async () => {
    const cache = openCache();
    const fromOutside = ['99 OR id = 1', "99' OR id = '1", `0 UNION SELECT ${COLUMNS} FROM users`];
    for (const id of fromOutside) {
      // A rejection is as good as null: the id is not a number.
      const answer = await outcome(cache.get(id as unknown as number));
      expect(
        typeof answer === 'string' ? null : answer,
        `get(${inspect(id)}) must not find a profile: no user has this id, and its text became part of the SQL`,
      ).toBeNull();
    }
  });
});

describe('In production', () => {
  test('an id that is not a positive safe integer reaches neither server', async () => {
    const cache = openCache();
    // Types are gone at run time: a value from a URL or from JSON.
    const fromOutside: unknown[] = ['1', '01', ' 1 ', '1abc', '1e0', '0x1', [1], true, null, undefined];
    const numbers: unknown[] = [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 1n];
    const work = await servers.work(async () => {
      for (const id of [...fromOutside, ...numbers]) {
        const answer = await Promise.resolve()
          .then(() => cache.get(id as number))
          .catch((error: unknown) => error);
        expect(
          answer,
          `get(${inspect(id)}) must reject with InvalidIdError: only a positive safe integer is an id`,
        ).toBeInstanceOf(InvalidIdError);
      }
    });
    expect(work.sql(), 'SQL statements that were sent for these ids').toBe(0);
    expect(work.redis(), 'Redis commands that were sent for these ids').toBe(0);
  });

  test('an entry that cannot be decoded is counted, and replaced from MySQL', async () => {
    const cache = openCache();
    const entries = {
      'an HTML page': '<html>502 Bad Gateway</html>',
      'another shape': '{"user":1}',
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'a name that is not UTF-8': Buffer.from(encode({ ...ADA, name: '\xff' }), 'latin1'),
    };
    let seen = 0;
    for (const [kind, bytes] of Object.entries(entries)) {
      await servers.redis.set(KEY, bytes);
      expect(
        await outcome(cache.get(1)),
        `the entry is damaged (${kind}): get must return the row of MySQL`,
      ).toEqual(ADA);
      await until(async () => (await cachedName()) === ADA.name);
      expect(
        await cachedName(),
        `name in Redis: the damaged entry (${kind}) must be replaced, or each lookup asks MySQL`,
      ).toBe(ADA.name);
      expect(cache.stats().damaged, `damaged entries after ${++seen} of them (${kind})`).toBe(seen);
    }
    expect(cache.stats(), 'lookups by outcome: Redis had no usable entry, and MySQL answered').toMatchObject({
      hit: 0,
      negative: 0,
      miss: seen,
      error: 0,
    });
    await servers.db.query('UPDATE users SET name = ? WHERE id = 2', ['Ben \ufffd']);
    await cache.get(2);
    await stored(2);
    await cache.get(2);
    expect(
      cache.stats(),
      'hits and damaged entries: MySQL itself holds the mark of bytes that are not UTF-8, and encode keeps it',
    ).toMatchObject({ hit: 1, damaged: seen });
  });

  test('p50 and p99 are nearest ranks among the latencies of an outcome', async () => {
    const { lookUp, latencies } = await timedCache();
    await lookUp(1, { loadMs: 250.25 });
    // 37 and 200 have no common divisor: each of 1 to 200 comes once.
    for (let at = 0; at < 200; at++) await lookUp(1, { getMs: 1 + ((37 * at) % 200) });
    expect(
      latencies('hit'),
      'the 200 hits took 1, 2, … and 200 ms: half of them took 100 ms at most, and 99 % took 198 ms at most',
    ).toEqual({ p50Ms: 100, p99Ms: 198 });
    expect(latencies('miss'), 'the only miss took 250.25 ms').toEqual({ p50Ms: 250.25, p99Ms: 250.25 });
    expect(latencies('negative'), 'there was no negative, so there is no percentile').toEqual({});

    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    const byDefault = openCache();
    await byDefault.get(2);
    expect(
      byDefault.stats().latencies?.miss.p50Ms,
      'ms that a miss took, without `now` and while Date stands still: Date is set back now and then, and its ms are longer than a hit',
    ).toBeGreaterThan(0);
  });

  test('a lookup that fails is timed too', async () => {
    const { lookUp, latencies } = await timedCache();
    await lookUp(1, { loadMs: 320, fails: true });
    const took = { p50Ms: 320, p99Ms: 320 };
    expect(latencies('error'), 'the only lookup failed after 320 ms, and is an error').toEqual(took);
    expect(latencies('all'), 'the only lookup failed after 320 ms, and is one of all').toEqual(took);
  });

  test('lookups that overlap are each timed from their own call', async () => {
    const { cache, clock, toMySql, lookUp, latencies } = await timedCache();
    await servers.redis.set(profileKey(2), encode(BEN));
    const query = toMySql.hold(THE_QUERY);
    const slow = outcome(cache.get(1));
    await Promise.race([query.arrived, slow]);
    clock.advance(10);
    await lookUp(2, { getMs: 15 });
    clock.advance(20);
    query.release();
    await slow;
    expect(latencies('hit'), 'the hit began 10 ms after the miss, and took 15 ms').toEqual({
      p50Ms: 15,
      p99Ms: 15,
    });
    expect(
      latencies('miss'),
      'the miss took 45 ms from its call to its answer: 10 ms before the hit, 15 during it, 20 after it',
    ).toEqual({ p50Ms: 45, p99Ms: 45 });
  });

  test('the percentiles of all lookups are ranks among all latencies', async () => {
    const { lookUp, latencies } = await timedCache();
    await lookUp(1, { loadMs: 200 });
    for (const getMs of [10, 2, 9, 1, 3, 8, 4, 7, 5, 6]) await lookUp(1, { getMs });
    expect(
      latencies('all'),
      'ten hits took 1 to 10 ms and one miss 200 ms: 6 of these 11 took 6 ms at most, and the slowest took 200 ms',
    ).toEqual({ p50Ms: 6, p99Ms: 200 });
  });

  test('percentiles are those of the last 1000 lookups, and counts those of all', async () => {
    const { cache, lookUp, hitsAtOnce, latencies } = await timedCache();
    await lookUp(1, { loadMs: 400 });
    for (let id = 100; id < 119; id++) await lookUp(id, { loadMs: 400 });
    await hitsAtOnce(WINDOW, 50);
    await hitsAtOnce(499, 3);
    expect(
      latencies('hit'),
      'of the last 1000 hits 501 took 50 ms and 499 took 3 ms: the median is still 50 ms',
    ).toEqual({ p50Ms: 50, p99Ms: 50 });
    await hitsAtOnce(1, 3);
    expect(
      latencies('hit'),
      'of the last 1000 hits 500 took 50 ms and 500 took 3 ms: half of them took 3 ms at most',
    ).toEqual({ p50Ms: 3, p99Ms: 50 });
    await hitsAtOnce(500, 3);
    expect(latencies('hit'), 'each of the last 1000 hits took 3 ms').toEqual({ p50Ms: 3, p99Ms: 3 });
    expect(latencies('all'), 'each of the last 1000 lookups took 3 ms').toEqual({ p50Ms: 3, p99Ms: 3 });
    expect(latencies('miss'), 'hits must not push out the 20 misses, which took 400 ms each').toEqual({
      p50Ms: 400,
      p99Ms: 400,
    });
    expect(cache.stats(), 'lookups by outcome, since the cache was created').toMatchObject({
      hit: 2000,
      miss: 20,
    });
  });

  test('the time saved is below zero where lookups cost more than the loads they spare', async () => {
    const { cache, lookUp, hitsAtOnce } = await timedCache();
    expect(savedMs(cache), 'ms saved before the first load').toBe(0);
    await lookUp(1, { getMs: 2, loadMs: 1 });
    for (let hits = 0; hits < 9; hits++) await lookUp(1, { getMs: 2 });
    expect(
      savedMs(cache),
      'ms saved: ten loads of 1 ms take 10 ms; one miss of 2 + 1 ms and nine hits of 2 ms took 21 ms',
    ).toBe(-11);
    await hitsAtOnce(WINDOW, 2);
    expect(
      savedMs(cache),
      'ms saved after 1000 more hits of 2 ms: the loads that they spare take 1 ms each, so each hit loses 1 ms',
    ).toBe(-1011);
  });

  test('the time saved is compared with bare loads, and a failed query is not a load', async () => {
    const { cache, lookUp } = await timedCache();
    await lookUp(1, { getMs: 2, loadMs: 80, setMs: 3 });
    await lookUp(NOBODY, { getMs: 2, loadMs: 40, setMs: 3 });
    await lookUp(1, { getMs: 2 });
    await lookUp(NOBODY, { getMs: 2 });
    const saved = () => {
      const ms = savedMs(cache);
      // The two SETs of 3 ms: a miss waits for its SET, or does not.
      return ms === 106 + 2 * 3 ? 106 : ms;
    };
    expect(
      saved(),
      'ms saved: two loads took 80 and 40 ms, so four take 240 ms; the lookups took 85, 45, 2 and 2 ms',
    ).toBe(106);
    await lookUp(2, { getMs: 2, loadMs: 700, fails: true });
    expect(
      saved(),
      'ms saved, after a query that failed in 700 ms: it is not a load, and its lookup not an answer',
    ).toBe(106);
  });
});

const ONLY_AN_ERROR = { hit: 0, negative: 0, miss: 0, error: 1 };
const COLUMNS = 'id, email, name, locale';

type Cache = ReturnType<typeof createProfileCache>;

const openCache = ({ redis = servers.redis, db = servers.db } = {}) => createProfileCache({ redis, db });

/** Waits for the entry that a `get` stores, which its caller need not wait for. */
const stored = (id: number) => until(async () => (await servers.redis.exists(profileKey(id))) === 1);

async function expectTtl(id: number, ttlMs: number, message: string) {
  const ms = await servers.redis.pttl(profileKey(id));
  expect(ms, message).toBeLessThanOrEqual(ttlMs);
  expect(ms, message).toBeGreaterThan(ttlMs - 5000);
}

async function deadMySql() {
  const proxy = await openProxy(servers.mysqlUrl);
  await proxy.refuse();
  return servers.connectDb({}, proxy.url);
}

/** A cache whose only lookup has its row from MySQL, and no Redis to store it in. */
async function redisGoneAfterTheQuery() {
  const proxy = await openProxy(servers.mysqlUrl);
  const redis = servers.connectRedis();
  const cache = openCache({ redis, db: servers.connectDb({}, proxy.url) });
  const query = proxy.hold(THE_QUERY);
  const lookup = outcome(cache.get(3));
  await Promise.race([query.arrived, lookup]);
  redis.disconnect();
  query.release();
  await lookup;
  return cache;
}

/** The name in the entry of user 1, or its text where that is not an entry. */
async function cachedName(): Promise<string | undefined> {
  const text = (await servers.redis.get(KEY)) ?? '';
  try {
    return decode(text)?.name;
  } catch {
    return text;
  }
}

/** In whole ms: sums of fractions are not exact. */
function savedMs(cache: Cache): number | undefined {
  const { savedMs: ms } = cache.stats();
  return ms === undefined ? undefined : Math.round(ms);
}

/** How long the steps of one lookup take. A query that `fails` does so after `loadMs`. */
interface Took {
  readonly getMs?: number;
  readonly loadMs?: number;
  readonly setMs?: number;
  readonly fails?: boolean;
}

/** A cache on a clock that only the servers move, as far as the test says. */
async function timedCache() {
  const clock = fakeClock(1000);
  const [toRedis, toMySql] = [await openProxy(servers.redisUrl), await openProxy(servers.mysqlUrl)];
  const redis = servers.connectRedis({}, toRedis.url);
  const db = servers.connectDb({}, toMySql.url);
  const cache = createProfileCache({ redis, db, now: clock.now });
  await Promise.all([redis.ping(), db.query('SELECT 1')]);

  let left = { get: 0, load: 0, set: 0 };
  let step: keyof typeof left = 'get';
  let fails = false;
  const pass = () => {
    clock.advance(left[step]);
    left = { ...left, [step]: 0 };
  };
  const timeRedis = () => toRedis.schedule(async () => pass());
  toMySql.schedule(async (sql) => {
    if (!THE_QUERY.test(sql)) return;
    step = 'load';
    pass();
    step = 'set';
    if (fails) toMySql.cut();
  });

  return {
    cache,
    clock,
    toMySql,
    latencies: (of: keyof NonNullable<Stats['latencies']>) => cache.stats().latencies?.[of],
    async lookUp(id: number, took: Took) {
      timeRedis();
      left = { get: took.getMs ?? 0, load: took.loadMs ?? 0, set: took.setMs ?? 0 };
      step = 'get';
      fails = took.fails ?? false;
      await outcome(cache.get(id));
      // A SET that nobody waits for is before this PING.
      if (took.loadMs !== undefined) await redis.ping();
    },
    /** Hits of user 1 that begin together and take `ms` each. */
    async hitsAtOnce(count: number, ms: number) {
      toRedis.schedule();
      const first = toRedis.hold(ENTRY_1);
      const lookups = Promise.allSettled(Array.from({ length: count }, () => cache.get(1)));
      await Promise.race([first.arrived, lookups]);
      clock.advance(ms);
      first.release();
      await lookups;
    },
  };
}
