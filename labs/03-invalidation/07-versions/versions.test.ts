import { inspect } from 'node:util';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { explore } from '#kit/explore';
import { connected, redisBehindProxy } from '#kit/faulty-redis';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, soon, until } from '#kit/waiting';
import { type Article, articleKey, entryKey, fenceKey, UnfencedWriteError } from './given';
import { createArticles, createVersionedCache, type VersionedCache } from './versions';

const servers = useServers();

const TTL_MS = 57_300;
const FENCE_MS = 31_700;
const KEY = articleKey(1);
/** The command that stores an article. */
const STORES = /"title"/;
const REJECTION = expect.stringMatching(/^rejected/);

const COLUMNS = `(
  id BIGINT UNSIGNED PRIMARY KEY,
  title VARCHAR(200) NOT NULL,
  version BIGINT UNSIGNED NOT NULL,
  deleted_at DATETIME(3) NULL
)`;

beforeAll(() => servers.db.query(`CREATE TABLE articles ${COLUMNS}`));
beforeEach(reset);

describe('Core', () => {
  test('a value is stored for ttlMs, unless a newer one is there', async () => {
    const cache = openCache();
    expect(await cache.get(KEY), 'there is nothing: a miss').toEqual({ kind: 'miss' });
    expect(await cache.setIfNewer(KEY, '9', 'nine'), 'there is nothing: version 9 must be stored').toBe(true);
    expect(await cache.get(KEY), 'version 9 was stored').toEqual(value('9', 'nine'));
    await expectTtl(servers.redis, entryKey(KEY), TTL_MS, 'an entry must live for ttlMs');
    await servers.redis.pexpire(entryKey(KEY), 20_000);
    await cache.get(KEY);
    await expectTtl(servers.redis, entryKey(KEY), 20_000, 'a hit must not change the TTL, which was 20,000');
    expect(await cache.setIfNewer(KEY, '8', 'eight'), 'version 9 is there: version 8 is refused').toBe(false);
    expect(await cache.get(KEY), 'a refused value must change nothing').toEqual(value('9', 'nine'));
    expect(
      await cache.setIfNewer(KEY, '9', 'nine'),
      'two readers of version 9 hold the same row: an equal version must be stored',
    ).toBe(true);
    expect(await cache.setIfNewer(KEY, '10', 'ten'), 'version 10 is newer than 9').toBe(true);
    expect(await cache.get(KEY), 'a newer version must replace an older one').toEqual(value('10', 'ten'));
    expect(await cache.setIfNewer('other', '1', 'one'), 'another key has its own version').toBe(true);
  });

  test('setIfNewer and raise are one step each', async () => {
    const cache = openCache();
    const six = () => cache.setIfNewer(KEY, '6', 'six');
    await beforeEachCommand(
      (slow) => slow.setIfNewer(KEY, '5', 'five'),
      six,
      async (when) =>
        expect(
          await cache.get(KEY),
          `version 6 was stored ${when} of setIfNewer for version 5: it must stay`,
        ).toEqual(value('6', 'six')),
    );
    await beforeEachCommand(
      (slow) => slow.raise(KEY, '7'),
      six,
      async (when) =>
        expect(
          await cache.get(KEY),
          `version 6 was stored ${when} of raise for version 7: it must not stay`,
        ).toEqual({ kind: 'fence', version: '7' }),
    );
    await beforeEachCommand(
      (slow) => slow.raise(KEY, '7'),
      () => cache.raise(KEY, '8'),
      async (when) =>
        expect(
          await cache.setIfNewer(KEY, '7', 'seven'),
          `the fence was raised to 8 ${when} of raise for version 7: version 7 is stored`,
        ).toBe(false),
    );
  });

  test('a fence refuses every older value for fenceMs', async () => {
    const cache = openCache();
    await cache.setIfNewer(KEY, '6', 'six');
    await cache.raise(KEY, '7');
    expect(await cache.get(KEY), 'version 7 is committed: version 6 must go, the fence is known').toEqual({
      kind: 'fence',
      version: '7',
    });
    await expectTtl(servers.redis, fenceKey(KEY), FENCE_MS, 'a fence must live for fenceMs');
    expect(
      await cache.setIfNewer(KEY, '6', 'six'),
      'a reader that has read version 6 before the write stores it late: the fence must refuse it',
    ).toBe(false);
    for (const version of ['7', '9']) {
      expect(
        await cache.setIfNewer(KEY, version, 'new'),
        `the fence is 7: version ${version} is not older, and must be stored`,
      ).toBe(true);
      await servers.redis.del(entryKey(KEY));
      expect(
        await cache.setIfNewer(KEY, '6', 'six'),
        `version ${version} was stored and then evicted: the fence must still refuse version 6`,
      ).toBe(false);
    }
    await cache.setIfNewer(KEY, '9', 'nine');
    await cache.raise(KEY, '8');
    expect(await cache.get(KEY), 'the fence is 8: version 9 is newer, and stays').toEqual(value('9', 'nine'));
    await servers.redis.del(entryKey(KEY), fenceKey(KEY));
    expect(await cache.setIfNewer(KEY, '6', 'six'), 'the fence has ended: version 6 is stored').toBe(true);
  });

  test('a late raise never lowers the fence, and renews it', async () => {
    const cache = openCache();
    await cache.raise(KEY, '7');
    await cache.setIfNewer(KEY, '7', 'seven');
    for (const late of ['7', '5']) {
      await servers.redis.pexpire(fenceKey(KEY), 1000);
      await cache.raise(KEY, late);
      await expectTtl(
        servers.redis,
        fenceKey(KEY),
        FENCE_MS,
        `the fence is 7 and was raised to ${late}: its fenceMs begin anew`,
      );
      expect(
        await cache.get(KEY),
        `the fence is 7 and was raised to ${late}: version 7 is not older, and stays`,
      ).toEqual(value('7', 'seven'));
    }
    await servers.redis.del(entryKey(KEY));
    expect(
      await cache.setIfNewer(KEY, '6', 'six'),
      'the fence was 7 and was raised to 5: it must still refuse version 6',
    ).toBe(false);
  });

  test('versions past 2^53 compare exactly', async () => {
    const cache = openCache();
    const pairs = [
      ['9', '10'],
      ['999', '1000'],
      ['9007199254740992', '9007199254740993'],
      ['9999999999999999999', '10000000000000000000'],
      ['18446744073709551614', '18446744073709551615'],
    ] as const;
    for (const [older, newer] of pairs) {
      await servers.redis.del(entryKey(KEY), fenceKey(KEY));
      await cache.setIfNewer(KEY, newer, 'newer');
      expect(await cache.setIfNewer(KEY, older, 'older'), `${newer} is there: ${older} is stored`).toBe(
        false,
      );
      await servers.redis.del(entryKey(KEY));
      await cache.setIfNewer(KEY, older, 'older');
      expect(await cache.setIfNewer(KEY, newer, 'newer'), `${older} is there: ${newer} is stored`).toBe(true);
      await cache.raise(KEY, older);
      expect(await cache.get(KEY), `a fence of ${older} must let ${newer} stay`).toEqual(
        value(newer, 'newer'),
      );
      await cache.raise(KEY, newer);
      await servers.redis.del(entryKey(KEY));
      expect(await cache.setIfNewer(KEY, older, 'older'), `the fence is ${newer}: ${older} is stored`).toBe(
        false,
      );
    }
  });

  test('an entry that cannot be decoded is a miss, is reported and is replaced', async () => {
    const errors: unknown[] = [];
    const cache = createVersionedCache<string>({
      redis: servers.redis,
      ttlMs: TTL_MS,
      fenceMs: FENCE_MS,
      onCacheError: (error) => errors.push(error),
    });
    await cache.get(KEY);
    expect(errors, 'errors given to onCacheError: there is no entry, so nothing is damaged').toEqual([]);
    const damaged = {
      'written by an older release': 'page 12 of last week',
      'cut off': '7 {"bro',
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'a value that is not UTF-8': Buffer.from('7 "\xff"', 'latin1'),
    };
    for (const [kind, bytes] of Object.entries(damaged)) {
      await servers.redis.set(entryKey(KEY), bytes, 'PX', TTL_MS);
      errors.length = 0;
      expect(await outcome(cache.get(KEY)), `the entry is damaged (${kind}): a miss`).toEqual({
        kind: 'miss',
      });
      expect(errors.length, `calls of onCacheError for a damaged entry (${kind})`).toBe(1);
      expect(await cache.setIfNewer(KEY, '7', 'seven'), `version 7 must replace it (${kind})`).toBe(true);
      expect(await cache.get(KEY), `the entry was damaged (${kind}), and replaced`).toEqual(
        value('7', 'seven'),
      );
    }
    await cache.raise(KEY, '8');
    await servers.redis.set(entryKey(KEY), 'page 12 of last week', 'PX', TTL_MS);
    expect(await outcome(cache.get(KEY)), 'the entry is damaged, and there is a fence').toEqual({
      kind: 'fence',
      version: '8',
    });
    expect(
      await cache.setIfNewer(KEY, '7', 'seven'),
      'the entry is damaged, and the fence is 8: version 7 is stored',
    ).toBe(false);
  });
});

describe('In production', () => {
  test('a row that Redis refuses as too old is not the answer', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const snapshot = await openSnapshot();
    const reader = openArticles({ replica: snapshot, redis: servers.connectRedis({}, proxy.url) });
    const storing = proxy.hold(STORES);
    const reading = outcome(reader.find(1));
    await Promise.race([storing.arrived, reading]);
    expect(await openArticles().update(1, 'second'), 'the version of the first update').toBe('2');
    storing.release();
    expect(
      await titleOf(reading),
      'title that find answers: its row came from an old snapshot, and Redis refused it',
    ).toBe('second');
    expect(
      await openCache<Article | null>().get(KEY),
      'what Redis holds: a row of version 1 came after the fence of version 2',
    ).not.toMatchObject({ version: '1' });
    expect(await titleOf(reader.find(1)), 'title that a find answers that began after the write').toBe(
      'second',
    );
  });

  test('behind a fence the primary answers, whatever the replica has', async () => {
    const replica = await openStoppedReplica();
    const articles = openArticles({ replica });
    const dead = servers.connectDb({ password: 'nobody' });
    expect(
      await titleOf(openArticles({ replica, primary: dead }).find(1)),
      'title after a miss, while the primary is away: nothing was written yet, so the replica must answer',
    ).toBe('first');
    await servers.redis.del(entryKey(KEY));
    expect(
      String(await titleOf(openArticles({ replica: dead }).find(1))),
      'title after a miss, while the replica is away: find must reject, or ask the primary',
    ).toMatch(/^first$|^rejected/);
    await articles.update(1, 'second');
    for (const when of ['at once', 'after the entry was evicted']) {
      expect(await titleOf(articles.find(1)), `title after an update, ${when}: the replica lags`).toBe(
        'second',
      );
      await servers.redis.del(entryKey(KEY));
    }
    await servers.db.query("REPLACE INTO articles (id, title, version) VALUES (3, 'new', 1)");
    await openCache().raise(articleKey(3), '1');
    expect(
      await titleOf(articles.find(3)),
      'title of a row that the replica lacks, behind a fence of 1',
    ).toBe('new');
    const silent = await silentFromTheStoreOn();
    const beside = openArticles({ replica, redis: silent });
    expect(
      await titleOf(beside.find(1)),
      'title behind a fence, when the store fails: the row of the replica is not the answer',
    ).toBe('second');
    // Left by a write that was rolled back: no database has version 9.
    await openCache().raise(KEY, '9');
    const work = await servers.work(async () => {
      expect(
        await titleOf(articles.find(1)),
        'title behind a fence that no row reaches: what the primary says is final',
      ).toBe('second');
    });
    expect(work.sql('select'), 'SELECTs of that find: each database once at most').toBeLessThanOrEqual(2);
    expect(
      await outcome(openArticles({ replica, primary: dead }).find(1)),
      'there is a fence and the primary fails: find must reject, the replica may be old',
    ).toEqual(REJECTION);
  });

  test('a removed article stays removed', async () => {
    const replica = await openStoppedReplica();
    const articles = openArticles({ replica });
    await articles.find(1);
    expect(await articles.remove(1), 'a removal is a write: it has the next version').toBe('2');
    expect(await articles.find(1), 'the replica still has the article: it was removed').toBeNull();
    await until(async () => (await servers.redis.exists(entryKey(KEY))) === 1);
    await servers.redis.del(fenceKey(KEY));
    expect(
      await openCache<Article | null>().setIfNewer(KEY, '1', { id: 1, title: 'first', version: '1' }),
      'the fence has ended, and the absence is stored with version 2: a row of version 1 is stored',
    ).toBe(false);
    await servers.redis.del(entryKey(KEY));
    const [[row]] = await servers.db.query<RowDataPacket[]>('SELECT version FROM articles WHERE id = 1');
    expect(String(row?.version), 'version of the row: if it is deleted, the next article 1 begins at 1').toBe(
      '2',
    );
    for (const id of [1, 99]) {
      expect(await openArticles().find(id), `article ${id}: there is none`).toBeNull();
      await until(async () => (await servers.redis.exists(entryKey(articleKey(id)))) === 1);
    }
    const work = await servers.work(async () => {
      for (const id of [1, 99])
        expect(await openArticles().find(id), `article ${id}: there is none`).toBeNull();
    });
    expect(work.sql('select'), 'SELECTs of the second finds: an absence must be cached').toBe(0);
    const writes = [articles.remove(1), articles.update(1, 'third'), articles.update(99, 'x')];
    expect(await Promise.all(writes), 'writes of articles that are not there: null').toEqual([
      null,
      null,
      null,
    ]);
  });

  test('each write resolves with the version that it has committed', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const slow = openArticles({ primary: servers.connectDb({ connectionLimit: 2 }, proxy.url) });
    for (let step = 1, sent = 0; sent >= step - 1; step++) {
      sent = 0;
      await reset();
      let other: Promise<string | null> | undefined;
      proxy.schedule(async () => {
        if (++sent !== step) return;
        other = openArticles().update(1, 'of the other');
        // It may have to wait for the row that the slow one has locked.
        await soon(other, 30);
      });
      const mine = await outcome(slow.update(1, 'of the slow one'));
      const versions = [mine, await other];
      if (!other) break;
      const when = `another update came before statement ${step} of this one`;
      expect(versions.toSorted(), `${when}: the versions that the two writes resolve with`).toEqual([
        '2',
        '3',
      ]);
      const [[row]] = await servers.db.query<RowDataPacket[]>(
        'SELECT title, version FROM articles WHERE id = 1',
      );
      expect(
        { ...row, version: String(row?.version) },
        `${when}: the row must belong to its version`,
      ).toEqual({
        title: mine === '3' ? 'of the slow one' : 'of the other',
        version: '3',
      });
    }
    await servers.db.query('UPDATE articles SET version = 9007199254740992 WHERE id = 2');
    expect(await openArticles().update(2, 'second'), 'the version after 9007199254740992').toBe(
      '9007199254740993',
    );
    expect(await openArticles().update(2, 'second'), 'the version of a write of the same title').toBe(
      '9007199254740994',
    );
  });

  test('a find that begins after a write never answers an older version', async () => {
    await joinsTheStore();
    await joinsTheAnswerOfThePrimary();
    let acknowledged = 1;
    let wrong: string | undefined;
    const write = async (writing: Promise<string | null>) => {
      acknowledged = Math.max(acknowledged, Number(await writing));
    };
    const check = async (articles: ReturnType<typeof openArticles>) => {
      const floor = acknowledged;
      const found = Number((await articles.find(1))?.version);
      if (found < floor) {
        wrong = `version ${floor} had been acknowledged when a find began, and it answered version ${found}`;
      }
    };
    await explore(servers, {
      runs: 8,
      prepare: async () => {
        acknowledged = 1;
        wrong = undefined;
        await reset();
      },
      actors: {
        async reader({ redis, db }) {
          // As good as a replica that has stopped: what this connection reads is of now.
          await db.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
          const articles = openArticles({ redis, replica: db });
          await check(articles);
          await check(articles);
        },
        writer: ({ redis, db }) => write(openArticles({ redis, primary: db }).update(1, 'of the writer')),
        other: ({ redis, db }) => write(openArticles({ redis, primary: db }).update(1, 'of the other')),
      },
      verdict: async () => {
        await check(openArticles());
        return wrong;
      },
    });
  });

  test('without an answer from Redis a find asks the primary, and stores nothing', async () => {
    const replica = await openStoppedReplica();
    await servers.db.query("UPDATE articles SET title = 'second', version = 2 WHERE id = 1");
    for (const fault of ['stall', 'refuse'] as const) {
      const { proxy, redis } = await behindProxy();
      const { errors, onCacheError } = log();
      await proxy[fault]();
      expect(
        await titleOf(openArticles({ replica, redis, onCacheError }).find(1)),
        `title that find answers while Redis does not (${fault}): there may be a fence, and the replica may lag`,
      ).toBe('second');
      expect(errors.length, 'calls of onCacheError: Redis did not answer').toBeGreaterThan(0);
      await proxy.heal();
      await connected(redis);
      expect(
        await servers.redis.exists(entryKey(KEY)),
        'entries in Redis after it is back: a store that waited for it comes too late',
      ).toBe(0);
    }
  });

  test('a store that fails costs its caller nothing, and no second query', async () => {
    for (const behindFence of [false, true]) {
      await reset();
      if (behindFence) await openCache().raise(KEY, '1');
      const { errors, onCacheError } = log();
      const replica = await openStoppedReplica();
      const articles = openArticles({ replica, redis: await silentFromTheStoreOn(), onCacheError });
      const where = behindFence ? 'behind a fence' : 'after a miss';
      const work = await servers.work(async () => {
        expect(
          await titleOf(articles.find(1)),
          `title ${where}: Redis falls silent before the store, and what was read is the answer`,
        ).toBe('first');
      });
      expect(work.sql('select'), `SELECTs of a find ${where} whose store fails`).toBeLessThanOrEqual(
        behindFence ? 2 : 1,
      );
      await until(() => errors.length > 0);
      expect(errors.length, 'calls of onCacheError: the store has failed').toBeGreaterThan(0);
    }
  });

  test('a write whose fence is not confirmed rejects with its version', async () => {
    const { proxy, redis } = await behindProxy();
    const articles = openArticles({ redis });
    for (const [version, write] of [
      ['2', () => articles.update(1, 'second')],
      ['3', () => articles.remove(1)],
    ] as const) {
      proxy.stall();
      const error = await soon(rejectionOf(write));
      expect(
        error,
        'MySQL has committed and Redis has not confirmed the fence: the write must reject with an UnfencedWriteError',
      ).toBeInstanceOf(UnfencedWriteError);
      expect(error, 'key and version of the fence that somebody has to raise').toMatchObject({
        key: KEY,
        version,
        cause: expect.any(Error),
      });
      await proxy.heal();
      await connected(redis);
    }
  });

  test('a write whose COMMIT is not answered raises the fence, then rejects', async () => {
    const replica = await openStoppedReplica();
    const mysqlProxy = await openProxy(servers.mysqlUrl);
    const redisProxy = await openProxy(servers.redisUrl);
    const articles = openArticles({
      primary: servers.connectDb({ connectionLimit: 1 }, mysqlProxy.url),
      redis: servers.connectRedis({}, redisProxy.url),
    });
    const { writing } = await loseTheCommit(mysqlProxy, articles, 'third');
    let settled = false;
    void writing.then(() => {
      settled = true;
    });
    const raising = redisProxy.hold(/versions:fence/);
    mysqlProxy.cut();
    await mysqlProxy.heal();
    await Promise.race([raising.arrived, writing]);
    expect(settled, 'whether the write has settled before its fence was confirmed').toBe(false);
    raising.release();
    const result = await writing;
    expect(result, 'nobody knows whether MySQL has committed: the write must reject').toEqual(REJECTION);
    expect(result, 'an UnfencedWriteError would say that it has').not.toMatch(/UnfencedWriteError/);
    expect(
      await titleOf(openArticles({ replica }).find(1)),
      'title: MySQL has committed, only its answer was lost, and the replica lags',
    ).toBe('third');
    await servers.redis.del(entryKey(KEY));
    expect(
      await openCache().setIfNewer(KEY, '2', 'second'),
      'whether version 2 is stored: MySQL may have committed version 3, and the fence must be as new',
    ).toBe(false);
    await redisAwayToo(mysqlProxy);
  });

  test('an id that is not a positive safe integer is refused before any request', async () => {
    const [redisProxy, mysqlProxy] = [await openProxy(servers.redisUrl), await openProxy(servers.mysqlUrl)];
    const redis = servers.connectRedis({}, redisProxy.url);
    const db = servers.connectDb({}, mysqlProxy.url);
    await Promise.all([connected(redis), db.query('SELECT 1')]);
    const requests: string[] = [];
    for (const proxy of [redisProxy, mysqlProxy]) proxy.schedule(async (text) => void requests.push(text));
    const articles = openArticles({ redis, primary: db });
    const fromOutside: unknown[] = [
      '1',
      '01',
      [1],
      true,
      null,
      undefined,
      0,
      -1,
      1.5,
      2 ** 53,
      1n,
      Number.NaN,
    ];
    for (const id of fromOutside as number[]) {
      for (const call of [
        () => articles.find(id),
        () => articles.update(id, 'x'),
        () => articles.remove(id),
      ]) {
        expect(
          await rejectionOf(call),
          `the id ${inspect(id)} must be refused with a RangeError: its text is another key, which no write fences`,
        ).toBeInstanceOf(RangeError);
      }
    }
    expect(requests, 'requests that were sent for these ids').toEqual([]);
  });
});

const openCache = <V = string>(redis: Redis = servers.redis): VersionedCache<V> =>
  createVersionedCache<V>({ redis, ttlMs: TTL_MS, fenceMs: FENCE_MS });

function openArticles({
  primary = servers.db,
  redis,
  ...others
}: {
  readonly primary?: Pool;
  readonly replica?: Pool;
  readonly redis?: Redis;
  readonly onCacheError?: (error: unknown) => void;
} = {}) {
  return createArticles({ primary, cache: openCache<Article | null>(redis), ...others });
}

const value = (version: string, stored: string) => ({ kind: 'value', version, value: stored });

async function reset(): Promise<void> {
  await Promise.all([
    servers.redis.del(entryKey(KEY), fenceKey(KEY)),
    servers.db.query(
      "REPLACE INTO articles (id, title, version, deleted_at) VALUES (1, 'first', 1, NULL), (2, 'other', 1, NULL)",
    ),
  ]);
}

/** Something happens before the first command of an act; then, anew, before the second; until there is no such command. */
async function beforeEachCommand(
  act: (cache: VersionedCache<string>) => Promise<unknown>,
  intrude: () => Promise<unknown>,
  check: (when: string) => Promise<unknown>,
) {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({}, proxy.url);
  await redis.ping();
  const cache = openCache(redis);
  for (let step = 1, sent = 0; sent >= step - 1; step++) {
    sent = 0;
    let bare: string | undefined;
    await servers.redis.del(entryKey(KEY), fenceKey(KEY));
    proxy.schedule(async (request) => {
      const lives = await Promise.all([entryKey(KEY), fenceKey(KEY)].map((key) => servers.redis.pttl(key)));
      if (lives.includes(-1)) bare ??= request;
      if (++sent === step) await intrude();
    });
    await act(cache);
    proxy.schedule();
    expect(
      bare,
      'when this command was sent, entry or fence had no TTL: if the process dies before it, they stay forever',
    ).toBeUndefined();
    if (sent >= step) await check(`before command ${step}`);
  }
}

/** A replica that has stopped: a table of the connection's own hides the real one. */
async function openStoppedReplica() {
  const db = servers.connectDb({ connectionLimit: 1 });
  await db.query(`CREATE TEMPORARY TABLE articles ${COLUMNS}`);
  await db.query("INSERT INTO articles (id, title, version) VALUES (1, 'first', 1), (2, 'other', 1)");
  return db;
}

/** A connection that reads what was committed before now. */
async function openSnapshot() {
  const db = servers.connectDb({ connectionLimit: 1 });
  await db.query('SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ');
  await db.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
  return db;
}

/** A client whose Redis can be taken away. Its connection is up. */
const behindProxy = () =>
  redisBehindProxy(servers, {
    commandTimeout: 80,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    retryStrategy: () => 5,
  });

/** A client to which Redis answers until an article is to be stored. */
async function silentFromTheStoreOn(): Promise<Redis> {
  const { proxy, redis } = await behindProxy();
  proxy.schedule(async (request) => {
    if (STORES.test(request)) proxy.stall();
  });
  return redis;
}

/** A find stores when a write is acknowledged; the next find must not wait for it, and take its row. */
async function joinsTheStore() {
  const proxy = await openProxy(servers.redisUrl);
  const articles = openArticles({ redis: servers.connectRedis({}, proxy.url) });
  await openCache().raise(KEY, '1');
  const storing = proxy.hold(STORES);
  const before = outcome(articles.find(1));
  await Promise.race([storing.arrived, before]);
  await openArticles().update(1, 'second');
  const after = titleOf(articles.find(1));
  storing.release();
  expect(
    await after,
    'title that find answers: it began after a write, while an older find was storing its row',
  ).toBe('second');
  await before;
  await reset();
}

/** The primary has read the row when a write is acknowledged, and its answer is on the way. */
async function joinsTheAnswerOfThePrimary() {
  const proxy = await openProxy(servers.mysqlUrl);
  const primary = () => servers.connectDb({}, proxy.url);
  const away = await behindProxy();
  const readers = {
    // Left by a write that was rolled back: the next write makes version 2 too.
    'behind a fence of the same version': openArticles({ primary: primary() }),
    'while Redis does not answer': openArticles({ primary: primary(), redis: away.redis }),
  };
  await openCache().raise(KEY, '2');
  await away.proxy.refuse();
  await Promise.all(Object.values(readers).map((articles) => outcome(articles.find(1))));
  await servers.redis.del(entryKey(KEY));
  proxy.delay(150);
  const selects = await countSelects();
  const before = Object.values(readers).map((articles) => outcome(articles.find(1)));
  await until(async () => (await countSelects()) >= selects + before.length);
  proxy.stall();
  await openArticles().update(1, 'second');
  proxy.delay(0);
  const after = Object.entries(readers).map(([when, articles]) => ({
    when,
    title: titleOf(articles.find(1)),
  }));
  await proxy.heal();
  for (const { when, title } of after) {
    expect(
      await title,
      `title that find answers ${when}: it began after a write, while the row for an older find was on its way`,
    ).toBe('second');
  }
  await Promise.all(before);
  await reset();
}

async function countSelects(): Promise<number> {
  const [[row]] = await servers.db.query<RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Com_select'");
  return Number(row?.Value);
}

/** Updates article 1. MySQL has committed, and its answer to the statement that commits stays on the way. */
async function loseTheCommit(proxy: FaultyProxy, articles: ReturnType<typeof openArticles>, title: string) {
  // The connection is open, and the statements are prepared if they are prepared ones.
  await articles.update(1, 'second');
  let inTransaction = false;
  proxy.schedule(async (request) => {
    if (/^(BEGIN|START TRANSACTION|SET AUTOCOMMIT)/i.test(request)) inTransaction = true;
    if (/^COMMIT/i.test(request) || (/^\s*UPDATE/i.test(request) && !inTransaction)) proxy.delay(5000);
  });
  const writing = outcome(articles.update(1, title), 3000);
  await until(async () => (await titleInMysql()) === title);
  proxy.schedule();
  return { writing };
}

async function redisAwayToo(mysqlProxy: FaultyProxy) {
  const { errors, onCacheError } = log();
  const away = await behindProxy();
  const primary = servers.connectDb({ connectionLimit: 1 }, mysqlProxy.url);
  const { writing } = await loseTheCommit(
    mysqlProxy,
    openArticles({ primary, redis: away.redis, onCacheError }),
    'fourth',
  );
  away.proxy.stall();
  mysqlProxy.cut();
  await mysqlProxy.heal();
  expect(
    await writing,
    'COMMIT was not answered, and Redis does not answer: nobody knows of a commit',
  ).not.toMatch(/UnfencedWriteError/);
  expect(errors.length, 'calls of onCacheError: no caller got the error of Redis').toBeGreaterThan(0);
}

function log() {
  const errors: unknown[] = [];
  return { errors, onCacheError: (error: unknown) => void errors.push(error) };
}

async function titleOf(reading: Promise<unknown>): Promise<unknown> {
  const article = await outcome(reading);
  return typeof article === 'object' && article && 'title' in article ? article.title : article;
}

async function titleInMysql(): Promise<unknown> {
  const [[row]] = await servers.db.query<RowDataPacket[]>('SELECT title FROM articles WHERE id = 1');
  return row?.title;
}
