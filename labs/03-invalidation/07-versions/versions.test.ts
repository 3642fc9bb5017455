import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, expect, test } from 'vitest';
import { explore } from '#kit/explore';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { soon } from '#kit/waiting';
import {
  type Article,
  articleKey,
  createArticles,
  createVersionedCache,
  entryKey,
  fenceKey,
  UnfencedWriteError,
  type VersionedCache,
} from './versions';

const servers = useServers();

const TTL_MS = 60_000;
const FENCE_MS = 30_000;
const KEY = articleKey(1);

const COLUMNS = `(
  id BIGINT UNSIGNED PRIMARY KEY,
  title VARCHAR(200) NOT NULL,
  version BIGINT UNSIGNED NOT NULL,
  deleted_at DATETIME(3) NULL
)`;

beforeAll(() => servers.db.query(`CREATE TABLE articles ${COLUMNS}`));

beforeEach(reset);

async function reset(): Promise<void> {
  await Promise.all([
    servers.redis.del(entryKey(KEY), fenceKey(KEY)),
    servers.db.query(
      "REPLACE INTO articles (id, title, version, deleted_at) VALUES (1, 'first', 1, NULL), (2, 'other', 1, NULL)",
    ),
  ]);
}

const openCache = <V = string>(redis: Redis = servers.redis): VersionedCache<V> =>
  createVersionedCache<V>({ redis, ttlMs: TTL_MS, fenceMs: FENCE_MS });

function openArticles(parts: {
  readonly primary?: Pool;
  readonly replica?: Pool;
  readonly redis?: Redis;
  readonly onCacheError?: (error: unknown) => unknown;
}) {
  const { primary = servers.db, redis, ...others } = parts;
  return createArticles({ primary, cache: openCache<Article | null>(redis), ...others });
}

test('an older version is refused, an equal one is idempotent', async () => {
  const cache = openCache();
  expect(await cache.get(KEY), 'nothing is there: a miss').toEqual({ kind: 'miss' });
  expect(await cache.setIfNewer(KEY, '5', 'five'), 'nothing is there: store').toBe(true);
  expect(await cache.setIfNewer(KEY, '4', 'four'), 'version 5 is there: refuse version 4').toBe(false);
  expect(await cache.get(KEY), 'a refused value must leave what is there').toEqual({
    kind: 'value',
    version: '5',
    value: 'five',
  });
  expect(
    await cache.setIfNewer(KEY, '5', 'five'),
    'two readers who fetched version 5 hold the same row: the second is no failure',
  ).toBe(true);
  expect(await cache.setIfNewer(KEY, '6', 'six'), 'a newer version replaces an older one').toBe(true);
  expect(await cache.get(KEY), 'a newer version replaces an older one').toMatchObject({ value: 'six' });
  expect(await servers.redis.pttl(entryKey(KEY)), 'a value lives for ttlMs').toSatisfy(within(TTL_MS));

  await servers.redis.set(entryKey(KEY), 'written by the release of last week', 'PX', TTL_MS);
  expect(await cache.get(KEY), 'bytes that are no entry are a miss').toEqual({ kind: 'miss' });
  expect(await cache.setIfNewer(KEY, '1', 'one'), 'bytes without a version must not block the key').toBe(
    true,
  );
  await servers.redis.set(entryKey(KEY), '7 {"broken', 'PX', TTL_MS);
  expect(
    await cache.get(KEY).catch((error: unknown) => error),
    'a version before a broken value is no value: a miss',
  ).toEqual({ kind: 'miss' });
  expect(await cache.setIfNewer(KEY, '7', 'seven'), 'the row of that version mends the entry').toBe(true);
  expect(await cache.get(KEY), 'an equal version stores again').toMatchObject({ value: 'seven' });

  await intrude({
    act: (slow) => slow.setIfNewer(KEY, '5', 'five'),
    intrusion: () => cache.setIfNewer(KEY, '6', 'six'),
    verdict: async (when) =>
      expect(
        await cache.get(KEY),
        `version 6 arrived ${when} of setIfNewer for version 5: compare and store in one step, in Redis`,
      ).toMatchObject({ version: '6' }),
  });
});

test('a fence outranks every older fill until its PX ends', async () => {
  const cache = openCache();
  await cache.setIfNewer(KEY, '6', 'six');
  await cache.raise(KEY, '7');
  expect(await cache.get(KEY), 'version 7 is committed: version 6 must be gone, and the fence known').toEqual(
    {
      kind: 'fence',
      version: '7',
    },
  );
  expect(
    await cache.setIfNewer(KEY, '6', 'six'),
    'a reader who read version 6 before the write comes late: the fence must refuse it, a DEL alone forgets',
  ).toBe(false);
  expect(await servers.redis.pttl(fenceKey(KEY)), 'a fence without a PX stays for ever').toSatisfy(
    within(FENCE_MS),
  );

  await servers.redis.set(entryKey(KEY), 'written by the release of last week', 'PX', TTL_MS);
  expect(
    await cache.get(KEY).catch((error: unknown) => error),
    'bytes that are no entry lie beside the fence: the fence counts',
  ).toEqual({ kind: 'fence', version: '7' });
  expect(
    await cache.setIfNewer(KEY, '6', 'six'),
    'bytes that are no entry lie beside the fence: it refuses version 6 all the same',
  ).toBe(false);

  expect(await cache.setIfNewer(KEY, '7', 'seven'), 'the version of the fence itself may be stored').toBe(
    true,
  );
  for (const again of ['7', '5']) {
    await servers.redis.pexpire(fenceKey(KEY), 1000);
    await cache.raise(KEY, again);
    expect(
      await servers.redis.pttl(fenceKey(KEY)),
      `the fence was raised to ${again}, not above what it held: its fenceMs begins anew all the same`,
    ).toSatisfy(within(FENCE_MS));
    expect(
      await cache.get(KEY),
      `the fence was raised to ${again}: an entry of version 7 is not older, it stays`,
    ).toMatchObject({ value: 'seven' });
  }
  for (const version of ['7', '9']) {
    await cache.setIfNewer(KEY, version, 'not older than the fence');
    await servers.redis.del(entryKey(KEY));
    expect(
      await cache.setIfNewer(KEY, '6', 'six'),
      `the value of version ${version} was evicted: the fence must not go with it, it has its own fenceMs`,
    ).toBe(false);
  }

  await cache.raise(KEY, '5');
  expect(
    await cache.setIfNewer(KEY, '6', 'six'),
    'a fence raised late, for version 5, must not lower the one of version 7',
  ).toBe(false);
  await cache.setIfNewer(KEY, '9', 'nine');
  await cache.raise(KEY, '8');
  expect(await cache.get(KEY), 'the fence of version 8 comes late: version 9 may stay').toMatchObject({
    value: 'nine',
  });

  // As after a raise that the last of several owes.
  await servers.redis.del(entryKey(KEY), fenceKey(KEY));
  await intrude({
    act: (slow) => slow.raise(KEY, '7'),
    intrusion: () => cache.setIfNewer(KEY, '6', 'six'),
    verdict: async (when) =>
      expect(
        (await cache.get(KEY)).kind,
        `an old fill arrived ${when} of raise: set the fence and delete the entry in one step`,
      ).toBe('fence'),
  });
  await intrude({
    act: (slow) => slow.raise(KEY, '7'),
    intrusion: () => cache.raise(KEY, '8'),
    verdict: async (when) =>
      expect(
        await cache.setIfNewer(KEY, '7', 'seven'),
        `the fence of version 8 was raised ${when} of raise for version 7: compare and set in one step, in Redis`,
      ).toBe(false),
  });

  await cache.raise(KEY, '7');
  // The end of fenceMs.
  await servers.redis.del(fenceKey(KEY));
  expect(await cache.setIfNewer(KEY, '6', 'six'), 'the fence has ended: nothing refuses version 6 now').toBe(
    true,
  );
});

test('versions past 2^53 compare exactly', async () => {
  const cache = openCache();
  const pairs = [
    ['9', '10', 'as text "10" comes before "9"'],
    ['999', '1000', 'the longer number is the larger one'],
    ['9007199254740992', '9007199254740993', 'past 2^53 both are the same number to Lua and JavaScript'],
    [
      '18446744073709551614',
      '18446744073709551615',
      'at the end of BIGINT UNSIGNED both are the same number to Lua',
    ],
  ] as const;
  for (const [older, newer, why] of pairs) {
    await servers.redis.del(entryKey(KEY), fenceKey(KEY));
    await cache.setIfNewer(KEY, newer, 'newer');
    expect(await cache.setIfNewer(KEY, older, 'older'), `${older} is older than ${newer}: ${why}`).toBe(
      false,
    );
    await cache.setIfNewer(KEY, older, 'older');
    await servers.redis.del(entryKey(KEY));
    await cache.setIfNewer(KEY, older, 'older');
    expect(await cache.setIfNewer(KEY, newer, 'newer'), `${newer} is newer than ${older}: ${why}`).toBe(true);
    await cache.raise(KEY, older);
    expect(await cache.get(KEY), `a fence of ${older} lets ${newer} stay: ${why}`).toMatchObject({
      value: 'newer',
    });
    await cache.raise(KEY, newer);
    expect(await cache.setIfNewer(KEY, older, 'older'), `a fence of ${newer} refuses ${older}: ${why}`).toBe(
      false,
    );
  }
  for (const bad of ['', '007', '-1', '1.5', '1e3', '9007199254740993n']) {
    for (const ask of [() => cache.setIfNewer(KEY, bad, 'x'), () => cache.raise(KEY, bad)]) {
      expect(
        await ask().then(
          () => 'accepted',
          (error: unknown) => error,
        ),
        `${JSON.stringify(bad)} is no version, and would win or lose by its length: refuse it with a RangeError`,
      ).toBeInstanceOf(RangeError);
    }
  }

  await reset();
  await servers.db.query('UPDATE articles SET version = 9007199254740992 WHERE id = 1');
  const articles = openArticles({});
  expect(
    await articles.update(1, 'second'),
    'version + 1, computed by MySQL and read with all of its digits',
  ).toBe('9007199254740993');
  expect((await articles.find(1))?.version, 'a version must keep all of its digits').toBe('9007199254740993');
});

test('a fill from an open snapshot is refused', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({}, proxy.url);
  await redis.ping();
  const snapshot = servers.connectDb({ connectionLimit: 1 });
  await snapshot.query('SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ');
  const reader = openArticles({ replica: snapshot, redis });
  const writer = openArticles({});
  // A write comes before the 1st command of a find; next time before the 2nd; until there is no such command.
  let sent: number;
  let nth = 0;
  do {
    nth++;
    sent = 0;
    await reset();
    await snapshot.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
    let version: string | null | undefined;
    let stored = 0;
    proxy.schedule(async () => {
      if (++sent !== nth) return;
      stored = await servers.redis.exists(entryKey(KEY));
      version = await writer.update(1, 'second');
    });
    const answer = await reader.find(1);
    proxy.schedule();
    if (sent < nth) break;
    const when = `a write came before command ${nth} of a find whose snapshot is older`;
    expect(version, 'an update resolves with the version that it has committed').toBe('2');
    expect(
      await openCache<Article | null>().get(KEY),
      `${when}: its row came after the fence of version 2, and must not be stored`,
    ).not.toMatchObject({ version: '1' });
    if (!stored) {
      expect(
        answer?.title,
        `${when}: Redis refused the row, so the reader knows that it is old: ask the primary, and answer that`,
      ).toBe('second');
    }
    const work = await servers.work(async () => {
      for (let i = 0; i < 3; i++) {
        expect(
          (await reader.find(1))?.title,
          'the write was acknowledged before this find began: it must not answer version 1',
        ).toBe('second');
      }
    });
    expect(
      work.sql('select'),
      'what the primary says may be stored, and the finds after it need no database',
    ).toBeLessThanOrEqual(2);
  } while (sent >= nth);
  await snapshot.query('COMMIT');
});

test('a copy that lags is neither stored nor served', async () => {
  const copy = await openCopy();
  const articles = openArticles({ replica: copy.db });
  expect((await articles.find(1))?.title, 'nothing was written yet: the copy is as good as the primary').toBe(
    'first',
  );
  const version = await articles.update(1, 'second');
  expect(version, 'an update resolves with the version that it has committed').toBe('2');
  expect(
    (await articles.find(1))?.title,
    'the copy still has version 1, and a fence of version 2 stands: ask the primary',
  ).toBe('second');
  await servers.redis.del(entryKey(KEY));
  expect(
    (await articles.find(1))?.title,
    'the value is gone, the fence is not: the copy must not be believed again',
  ).toBe('second');

  await servers.db.query("REPLACE INTO articles (id, title, version) VALUES (3, 'new', 1)");
  await openCache().raise(articleKey(3), '1');
  expect(
    await articles.find(3),
    'the copy has no such row yet, but a fence of version 1 stands: an absence is version 0',
  ).toMatchObject({ title: 'new' });

  // As left by a writer whose COMMIT failed: no database has version 9.
  await openCache().raise(KEY, '9');
  await servers.redis.del(entryKey(KEY));
  let found: unknown;
  const work = await servers.work(async () => {
    found = await soon(articles.find(1));
  });
  expect(found, 'what the primary says is the answer, even below the fence').toMatchObject({
    title: 'second',
  });
  expect(work.sql('select'), 'the copy and the primary are asked once each, at most').toBeLessThanOrEqual(2);

  const nobody = servers.connectDb({ password: 'nobody' });
  const other = openArticles({ replica: copy.db, primary: nobody });
  await servers.redis.del(entryKey(KEY));
  expect(
    await soon(other.find(1).catch((error: unknown) => error)),
    'a fence stands and the primary fails: throw what MySQL said, the copy may be old and a null is a lie',
  ).toMatchObject({ code: 'ER_ACCESS_DENIED_ERROR' });

  await copy.catchUp();
  await servers.redis.del(entryKey(KEY), fenceKey(KEY));
  expect(
    await soon(
      openArticles({ replica: nobody })
        .find(1)
        .catch((error: unknown) => error),
    ),
    'a copy that fails has not said that there is no such article',
  ).not.toBeNull();
  await servers.redis.del(entryKey(KEY));
  expect(
    await soon(other.find(1).catch((error: Error) => error.message)),
    'the copy has caught up and no fence stands: the primary is not needed',
  ).toMatchObject({ title: 'second' });
});

test('a removed article stays removed', async () => {
  const copy = await openCopy();
  const articles = openArticles({ replica: copy.db });
  await articles.find(1);
  expect(await articles.remove(1), 'a removal is a write: it has a version').toBe('2');
  const [[row]] = await servers.db.query<RowDataPacket[]>(
    'SELECT version FROM articles WHERE id = 1 AND deleted_at IS NOT NULL',
  );
  expect(
    String(row?.version),
    'set deleted_at and keep the row: a version that starts again loses against what copies and caches still hold',
  ).toBe('2');
  expect(await articles.find(1), 'the copy still has the article; it was removed').toBeNull();
  await servers.redis.del(fenceKey(KEY));
  expect(
    await openCache<Article | null>().setIfNewer(KEY, '1', { id: 1, title: 'first', version: '1' }),
    'the fence has ended, the absence is stored with the version of the removal: the fill of an old row must lose',
  ).toBe(false);
  const work = await servers.work(async () => {
    expect(await articles.find(1), 'it was removed').toBeNull();
  });
  expect(work.sql('select'), 'an absence is cached like an article').toBe(0);
  expect(
    [await articles.remove(1), await articles.update(1, 'third'), await articles.update(99, 'nobody')],
    'there is no such article, or no longer: null',
  ).toEqual([null, null, null]);

  expect(await articles.find(99), 'there has never been such an article: null').toBeNull();
  const again = await servers.work(async () => {
    expect(await articles.find(99), 'there has never been such an article: null').toBeNull();
  });
  expect(again.sql('select'), "an article that has never been there is cached too, as version '0'").toBe(0);
  for (const id of [0, 1.5]) {
    for (const ask of ['find', 'update', 'remove'] as const) {
      let answer: unknown;
      const sent = await servers.work(async () => {
        answer = await (async () => articles[ask](id, 'nobody'))().catch((error: unknown) => error);
      });
      expect(answer, `articleKey refuses the id ${id} with a RangeError, and so must ${ask}`).toBeInstanceOf(
        RangeError,
      );
      expect([sent.redis(), sent.sql()], `${ask} must refuse the id ${id} before anything is sent`).toEqual([
        0, 0,
      ]);
    }
  }
});

test('each write resolves with the version that it has committed', async () => {
  const proxy = await openProxy(servers.mysqlUrl);
  const slow = openArticles({ primary: servers.connectDb({ connectionLimit: 2 }, proxy.url) });
  // Another writer comes before the 1st statement of the slow one; next time before the 2nd; until there is no such.
  let sent: number;
  let nth = 0;
  do {
    nth++;
    sent = 0;
    await reset();
    let other: Promise<string | null> | undefined;
    proxy.schedule(async () => {
      if (++sent !== nth) return;
      other = openArticles({}).update(1, 'of the other');
      // It may have to wait for the row that the slow one has locked.
      await Promise.race([other, new Promise((resolve) => setTimeout(resolve, 30))]);
    });
    const mine = await soon(slow.update(1, 'of the slow one'));
    const versions = [mine, await other];
    if (!other) break;
    const when = `another update came before statement ${nth} of this one`;
    expect(
      versions.toSorted(),
      `${when}: two updates make two versions, and each writer is told its own; raise and read it inside the transaction`,
    ).toEqual(['2', '3']);
    const [[row]] = await servers.db.query<RowDataPacket[]>(
      'SELECT title, version FROM articles WHERE id = 1',
    );
    expect(
      { title: row?.title, version: String(row?.version) },
      `${when}: the row must hold what belongs to its version`,
    ).toEqual({ title: mine === '3' ? 'of the slow one' : 'of the other', version: '3' });
  } while (sent >= nth);
});

test('after an acknowledged write no later find answers an older version', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const articles = openArticles({ redis: servers.connectRedis({}, proxy.url) });
  await openCache().raise(KEY, '1');
  const storing = proxy.hold(/"title"/);
  const before = articles.find(1);
  await Promise.race([storing.arrived, before]);
  await openArticles({}).update(1, 'second');
  const after = articles.find(1);
  storing.release();
  expect(
    (await after)?.title,
    'a write was acknowledged, then this find began: it must not join the load of a find that began before the write',
  ).toBe('second');
  await before;

  let acknowledged = 0;
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
    runs: 14,
    prepare: async () => {
      acknowledged = 1;
      wrong = undefined;
      await reset();
    },
    actors: {
      async reader({ redis, db }) {
        // As good as a copy that has stopped: what this connection reads is of now.
        await db.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
        const articles = openArticles({ redis, replica: db });
        await check(articles);
        await check(articles);
      },
      writer: ({ redis, db }) => write(openArticles({ redis, primary: db }).update(1, 'of the writer')),
      other: ({ redis, db }) => write(openArticles({ redis, primary: db }).update(1, 'of the other')),
    },
    verdict: async () => {
      await check(openArticles({}));
      return wrong;
    },
  });
});

test('without Redis, nobody is told what is not so', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({ commandTimeout: 60 }, proxy.url);
  await expect.poll(() => redis.status, { interval: 3 }).toBe('ready');
  const copy = await openCopy();
  const heard: unknown[] = [];
  const onCacheError = (error: unknown) => heard.push(error);
  const articles = openArticles({ replica: copy.db, redis, onCacheError });
  const silentFromTheStoreOn = async (request: string) => {
    if (request.includes('"title"')) proxy.stall();
  };

  proxy.schedule(silentFromTheStoreOn);
  expect(
    await soon(articles.find(1)),
    'Redis has answered the get and falls silent before the store: what was read is the answer',
  ).toMatchObject({ title: 'first' });
  expect(heard, 'onCacheError hears of each failure of Redis').not.toEqual([]);
  heard.length = 0;
  proxy.schedule();

  proxy.stall();
  const committed = await soon(articles.update(1, 'second').catch((error: unknown) => error));
  expect(
    committed,
    'MySQL has committed and Redis has not confirmed: neither a success nor a failure of MySQL',
  ).toBeInstanceOf(UnfencedWriteError);
  expect(committed, 'the caller has to raise this fence again: say which').toMatchObject({
    key: KEY,
    version: '2',
  });
  expect(
    await soon(articles.find(1)),
    'Redis does not answer, so nobody knows of a fence: the copy may be old, ask the primary',
  ).toMatchObject({ title: 'second' });
  expect(heard, 'onCacheError hears of each failure of Redis').not.toEqual([]);
  const back = async () => {
    proxy.schedule();
    await proxy.heal();
    await redis.ping().catch(() => {});
  };
  await back();
  expect(
    await servers.redis.exists(entryKey(KEY)),
    'Redis did not answer the find: store nothing, it would be sent when Redis is back',
  ).toBe(0);
  await openCache().raise(KEY, '2');
  expect((await openArticles({ replica: copy.db }).find(1))?.title, 'the fence was raised again').toBe(
    'second',
  );

  await servers.redis.del(entryKey(KEY));
  proxy.schedule(silentFromTheStoreOn);
  expect(
    await soon(articles.find(1)),
    'the fence is known, and the store fails: the row of a copy that is behind the fence is not the answer',
  ).toMatchObject({ title: 'second' });
  await back();

  const mysqlProxy = await openProxy(servers.mysqlUrl);
  const MYSQL_SAID = { code: expect.stringMatching(/^(PROTOCOL_|ECONN|EPIPE)/) };
  /** A write whose COMMIT succeeds; its answer is on its way until the wire is cut. */
  const unanswered = async (by: Redis, title: string) => {
    const primary = servers.connectDb({}, mysqlProxy.url);
    let committing = false;
    mysqlProxy.schedule(async (request) => {
      if (!/^COMMIT/i.test(request)) return;
      committing = true;
      mysqlProxy.delay(5000);
    });
    const outcome = openArticles({ primary, redis: by, onCacheError })
      .update(1, title)
      .catch((error: unknown) => error);
    await expect.poll(titleInMysql, { interval: 3 }).toBe(title);
    mysqlProxy.schedule();
    // A store that writes in one statement has no COMMIT that could be lost.
    return committing ? { outcome } : undefined;
  };

  const patient = servers.connectRedis({ commandTimeout: 2000 }, proxy.url);
  await patient.ping();
  const third = await unanswered(patient, 'third');
  if (!third) return;
  let told = false;
  const telling = third.outcome.then(() => {
    told = true;
  });
  const raising = proxy.hold(/./);
  mysqlProxy.cut();
  await Promise.race([raising.arrived, telling]);
  expect(
    told,
    'the answer to COMMIT was lost, and the row may be committed: raise the fence and wait for it before the caller is told',
  ).toBe(false);
  raising.release();
  expect(
    await soon(third.outcome),
    'nobody knows the outcome, and the caller has to hear that',
  ).toMatchObject(MYSQL_SAID);
  expect(
    (await openArticles({ replica: copy.db }).find(1))?.title,
    'only the answer to COMMIT was lost: raise the fence when a COMMIT fails, or the old row stays',
  ).toBe('third');

  await mysqlProxy.heal();
  proxy.stall();
  heard.length = 0;
  const fourth = await unanswered(redis, 'fourth');
  mysqlProxy.cut();
  expect(
    await soon(fourth?.outcome ?? Promise.resolve()),
    'the answer to COMMIT was lost, and Redis is away: the caller hears what MySQL said, for nobody knows of a commit',
  ).toMatchObject(MYSQL_SAID);
  expect(heard, 'no caller was told that the fence failed: onCacheError hears of it').not.toEqual([]);
});

/** A copy of the database whose changes arrive when the test says so: a table of the connection's own hides the real one. */
async function openCopy() {
  const db = servers.connectDb({ connectionLimit: 1 });
  await db.query(`CREATE TEMPORARY TABLE articles ${COLUMNS}`);
  const catchUp = async () => {
    const [rows] = await servers.db.query<RowDataPacket[]>(
      'SELECT id, title, CAST(version AS CHAR), deleted_at FROM articles',
    );
    await db.query('REPLACE INTO articles VALUES ?', [rows.map((row) => Object.values(row))]);
  };
  await catchUp();
  return { db, catchUp };
}

/** Lets something happen before the 1st command of an act; then, anew, before its 2nd; until there is no such command. */
async function intrude(race: {
  readonly act: (cache: VersionedCache<string>) => Promise<unknown>;
  readonly intrusion: () => Promise<unknown>;
  readonly verdict: (when: string) => Promise<unknown>;
}): Promise<void> {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({}, proxy.url);
  await redis.ping();
  const cache = openCache(redis);
  const endless: string[] = [];
  let sent: number;
  let nth = 0;
  do {
    nth++;
    sent = 0;
    await servers.redis.del(entryKey(KEY), fenceKey(KEY));
    proxy.schedule(async () => {
      for (const key of [entryKey(KEY), fenceKey(KEY)]) {
        if ((await servers.redis.pttl(key)) === -1) endless.push(key);
      }
      if (++sent === nth) await race.intrusion();
    });
    await race.act(cache);
    proxy.schedule();
    expect(
      endless,
      'a client that dies between two commands leaves this for ever: set it and its PX in one step',
    ).toEqual([]);
    if (sent >= nth) await race.verdict(`before command ${nth}`);
  } while (sent >= nth);
}

const within = (ms: number) => (left: number) => left > ms / 2 && left <= ms;

async function titleInMysql(): Promise<unknown> {
  const [[row]] = await servers.db.query<RowDataPacket[]>('SELECT title FROM articles WHERE id = 1');
  return row?.title;
}
