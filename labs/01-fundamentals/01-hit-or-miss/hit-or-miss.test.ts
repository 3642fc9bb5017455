import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import {
  ABSENT_TTL_MS,
  createProfileCache,
  InvalidIdError,
  PROFILE_TTL_MS,
  type ProfileCache,
  profileKey,
} from './hit-or-miss';

const servers = useServers('users');

const ADA = { id: 1, email: 'ada@example.org', name: 'Ada Lindqvist', locale: 'sv-SE' };
const NOBODY = 99;

function openCache({ redis = servers.redis, db = servers.db } = {}) {
  const clock = fakeClock();
  const cache = createProfileCache({ redis, db, now: clock.now });
  return { cache, clock };
}

type Clock = ReturnType<typeof fakeClock>;

const THE_QUERY = /FROM\s+`?users/i;

/** Whatever command stores: the lab says what is kept in Redis, and not how it is written down. */
const STORING = /^(?!GET|EXISTS)\S+ [\s\S]*profile:/i;

/** A lookup that takes exactly `ms` on the cache's clock: nothing can answer before the event loop turns. */
function lookUp(cache: ProfileCache, clock: Clock, id: number, ms: number) {
  const answer = cache.get(id);
  clock.advance(ms);
  return answer;
}

test('a profile and an absence are both cached, the absence for less time', async () => {
  const { cache } = openCache();
  const answers: unknown[] = [];
  const work = await servers.work(async () => {
    for (const id of [1, 1, 1, NOBODY, NOBODY, NOBODY]) answers.push(await cache.get(id));
  });

  expect(answers, 'get must give the same answer from MySQL and from Redis').toEqual([
    ...[ADA, ADA, ADA],
    ...[null, null, null],
  ]);
  expect(
    work.sql('select'),
    'one query for user 1 and one for the user who does not exist: both answers had to come from Redis after that',
  ).toBe(2);
  expect(
    work.redis('expire', 'pexpire', 'expireat', 'pexpireat'),
    'the value and its TTL must be stored by one command: a process that ends between two leaves an entry that never expires',
  ).toBe(0);
  const profileTtl = await servers.redis.pttl(profileKey(1));
  expect(profileTtl, 'a profile must expire after PROFILE_TTL_MS, not before and not never').toSatisfy(
    (ms: number) => ms > PROFILE_TTL_MS - 10_000 && ms <= PROFILE_TTL_MS,
  );
  const absentTtl = await servers.redis.pttl(profileKey(NOBODY));
  expect(absentTtl, 'an absence must expire after ABSENT_TTL_MS, long before a profile').toSatisfy(
    (ms: number) => ms > ABSENT_TTL_MS - 10_000 && ms <= ABSENT_TTL_MS,
  );

  for (const id of [1, NOBODY]) {
    await servers.redis.pexpire(profileKey(id), 9000);
    await cache.get(id);
    expect(
      await servers.redis.pttl(profileKey(id)),
      'being read must leave the TTL alone: what is popular would else never be asked of MySQL again, whatever changed there',
    ).toBeLessThanOrEqual(9000);
  }
});

test('hit, negative and miss are counted apart', async () => {
  const { cache } = openCache();
  for (const id of [1, 1, 1, 1, 2, NOBODY, NOBODY, NOBODY]) await cache.get(id);

  const { hit, negative, miss, error, all } = cache.stats();
  expect(miss.count, 'users 1, 2 and 99 were each asked of MySQL once: three misses').toBe(3);
  expect(hit.count, 'user 1 came from Redis three times: three hits').toBe(3);
  expect(
    negative.count,
    'twice Redis knew that user 99 does not exist: no query was made, so these are no misses, and there was no profile, so they are no hits',
  ).toBe(2);
  expect(error.count, 'nothing failed').toBe(0);
  expect(all.count, 'every lookup counts once in `all`').toBe(8);
});

test('a failed load rejects, counts as an error and is not cached', async () => {
  const { cache, clock } = openCache();
  await servers.db.query('RENAME TABLE users TO users_gone');
  let failure: unknown;
  try {
    failure = await lookUp(cache, clock, 1, 30).catch((error: unknown) => error);
  } finally {
    await servers.db.query('RENAME TABLE users_gone TO users');
  }

  expect(
    failure,
    'the query failed, and get must say so with the error of MySQL: an answer of null would be a lie',
  ).toMatchObject({ code: 'ER_NO_SUCH_TABLE' });
  expect(
    await servers.redis.exists(profileKey(1)),
    'a failure says nothing about the user: nothing may be stored',
  ).toBe(0);
  expect(
    cache.stats(),
    'a failed lookup is an error, with its latency, and neither a hit nor a miss',
  ).toMatchObject({
    hit: { count: 0 },
    negative: { count: 0 },
    miss: { count: 0 },
    error: { count: 1, p50Ms: 30, p99Ms: 30 },
  });
  expect(await cache.get(1), 'when MySQL is back, the next lookup must find the user').toEqual(ADA);
});

test('when Redis fails to read or to store, the lookup rejects and counts as an error', async () => {
  const proxy = await openProxy(servers.mysqlUrl);
  const redis = servers.connectRedis();
  const { cache, clock } = openCache({ redis, db: servers.connectDb({}, proxy.url) });
  await servers.redis.lpush(profileKey(1), 'a list, which GET refuses');
  const unread = await lookUp(cache, clock, 1, 5).then((profile) => inspect(profile), String);
  await servers.redis.del(profileKey(1));
  const gate = proxy.hold(THE_QUERY);
  const lookup = lookUp(cache, clock, 1, 20).then((profile) => inspect(profile), String);
  await gate.arrived;
  redis.disconnect();
  gate.release();
  const unstored = await lookup;

  expect(
    unread,
    'Redis refused to read, and here get must reject with that error: what to do instead is a decision of its own, see lesson 2.1',
  ).toContain('WRONGTYPE');
  expect(
    unstored,
    'Redis was gone when the row was to be stored: get must wait until the answer is stored, and reject with the error when it cannot be',
  ).toContain('Connection is closed');
  expect(
    cache.stats(),
    'a lookup that Redis failed is an error, with its latency, even when MySQL had answered',
  ).toMatchObject({
    hit: { count: 0 },
    negative: { count: 0 },
    miss: { count: 0 },
    error: { count: 2, p50Ms: 5, p99Ms: 20 },
  });
});

test('an id that is not a positive integer reaches neither server', async () => {
  const { cache } = openCache();
  // What a type cannot keep out: a value from a URL or from JSON.
  const fromOutside: unknown[] = [
    ...['1 OR 1=1', '1abc', '1', ' 1 ', '1e0', '0x1', [1], true, null],
    ...[0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 1n],
  ];
  const work = await servers.work(async () => {
    for (const id of fromOutside) {
      const answer = await Promise.resolve()
        .then(() => cache.get(id as number))
        .catch((error: unknown) => error);
      expect(
        answer,
        `get(${inspect(id)}) must reject with InvalidIdError: it is no number, or none that an id can be`,
      ).toBeInstanceOf(InvalidIdError);
    }
  });

  expect(work.sql(), 'an invalid id must be refused before any SQL is sent').toBe(0);
  expect(work.redis(), 'an invalid id must be refused before it becomes a key in Redis').toBe(0);
  expect(cache.stats().all.count, 'an invalid id is no lookup').toBe(0);
});

test('p50 and p99 are nearest ranks, of each outcome and of all lookups', async () => {
  const { cache, clock } = openCache();
  await lookUp(cache, clock, 1, 200);
  for (const ms of [10, 2, 9, 1, 3, 8, 4, 7, 5, 6]) await lookUp(cache, clock, 1, ms);

  const { hit, negative, miss, all } = cache.stats();
  expect(
    hit,
    'ten hits took 1 to 10 ms: the nearest rank of 50 % is the 5th smallest, and of 99 % the 10th, compared as numbers',
  ).toEqual({ count: 10, p50Ms: 5, p99Ms: 10 });
  expect(miss, 'one miss took 200 ms from the call to the answer: it is its own p50 and p99').toEqual({
    count: 1,
    p50Ms: 200,
    p99Ms: 200,
  });
  expect(negative, 'where nothing was timed there is no percentile').toEqual({
    count: 0,
    p50Ms: undefined,
    p99Ms: undefined,
  });
  expect(
    all,
    'eleven lookups took 1 to 10 and 200 ms: `all` must rank these eleven, the miss among them, not combine the percentiles of the outcomes',
  ).toEqual({ count: 11, p50Ms: 6, p99Ms: 200 });
});

test('percentiles are those of the last 1000 lookups, however many there were', async () => {
  const { cache, clock } = openCache();
  await lookUp(cache, clock, 1, 400);
  const hits = async (lookups: number, ms: number) => {
    const answers = Array.from({ length: lookups }, () => cache.get(1));
    clock.advance(ms);
    await Promise.all(answers);
  };

  await hits(1000, 50);
  await hits(499, 3);
  expect(
    cache.stats().hit,
    'of the last 1000 hits 501 took 50 ms and 499 took 3 ms: the median must still be 50 ms',
  ).toEqual({ count: 1499, p50Ms: 50, p99Ms: 50 });
  await hits(1, 3);
  expect(
    cache.stats().hit,
    'of the last 1000 hits 500 took 50 ms and 500 took 3 ms: the 500th smallest is 3 ms',
  ).toEqual({ count: 1500, p50Ms: 3, p99Ms: 50 });
  await hits(500, 3);
  const { hit, miss, all } = cache.stats();
  expect(hit, 'the last 1000 hits took 3 ms: those before them must be forgotten, and stay counted').toEqual({
    count: 2000,
    p50Ms: 3,
    p99Ms: 3,
  });
  expect(miss.p99Ms, 'each outcome keeps its own last lookups: hits must not push out the only miss').toBe(
    400,
  );
  expect(
    all,
    'the last 1000 lookups of all were hits of 3 ms: older ones must be forgotten here too',
  ).toEqual({ count: 2001, p50Ms: 3, p99Ms: 3 });
});

test('the time saved is counted against the bare loads, and can be below zero', async () => {
  const toRedis = await openProxy(servers.redisUrl);
  const toMySql = await openProxy(servers.mysqlUrl);
  const redis = servers.connectRedis({}, toRedis.url);
  const db = servers.connectDb({ connectionLimit: 1 }, toMySql.url);
  /** A miss that takes `readMs + loadMs + storeMs`. */
  const miss = async (
    { cache, clock }: ReturnType<typeof openCache>,
    id: number,
    [readMs, loadMs, storeMs]: readonly [number, number, number],
  ) => {
    const [query, storing] = [toMySql.hold(THE_QUERY), toRedis.hold(STORING)];
    const lookup = lookUp(cache, clock, id, readMs);
    await query.arrived;
    clock.advance(loadMs);
    query.release();
    await storing.arrived;
    clock.advance(storeMs);
    storing.release();
    await lookup;
  };

  const dear = openCache({ redis, db });
  await miss(dear, 1, [2, 80, 3]);
  await miss(dear, NOBODY, [2, 40, 3]);
  await lookUp(dear.cache, dear.clock, 1, 2);
  await lookUp(dear.cache, dear.clock, NOBODY, 2);
  const saved =
    'two loads took 80 and 40 ms, so four lookups would have taken 240; they took 85, 45, 2 and 2';
  expect(
    dear.cache.stats().savedMs,
    `${saved}: 106 ms saved, where storing (3 ms) is part of a miss and not of a load`,
  ).toBeCloseTo(106);
  const query = toMySql.hold(THE_QUERY);
  const failing = lookUp(dear.cache, dear.clock, 2, 2).catch(() => {});
  await query.arrived;
  dear.clock.advance(700);
  toMySql.cut();
  query.release();
  await failing;
  expect(
    dear.cache.stats().savedMs,
    `${saved}: still 106 ms, because a query that failed after 700 ms is neither a load nor an answer`,
  ).toBeCloseTo(106);

  const fresh = openCache();
  await lookUp(fresh.cache, fresh.clock, 1, 2);
  expect(fresh.cache.stats().savedMs, 'before the first load there is nothing to compare with: 0').toBe(0);

  const cheap = openCache({ redis, db });
  await miss(cheap, 3, [2, 1, 0]);
  for (let i = 0; i < 9; i++) await lookUp(cheap.cache, cheap.clock, 3, 2);
  expect(
    cheap.cache.stats().savedMs,
    'ten loads of 1 ms would have taken 10 ms; one miss (2 + 1 ms) and nine hits (2 ms each) took 21: 11 ms lost at a hit rate of 90 %',
  ).toBeCloseTo(-11);
});
