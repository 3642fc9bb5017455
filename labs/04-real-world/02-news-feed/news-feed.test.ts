import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis, RedisOptions } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { redisBehindProxy } from '#kit/faulty-redis';
import { lateness } from '#kit/lateness';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, until } from '#kit/waiting';
import {
  authorKey,
  BUILD_MS,
  CREATE_TABLES,
  encode,
  FEED_TTL_MS,
  FeedDatabase,
  feedKey,
  PAGE,
  type Page,
  POST_TTL_MS,
  type Post,
  postKey,
  WINDOW,
} from './given';
import { createFeeds } from './news-feed';

const servers = useServers();

beforeAll(async () => {
  for (const sql of CREATE_TABLES) await servers.db.query(sql);
});
beforeEach(async () => {
  for (const table of ['authors', 'follows', 'posts']) await servers.db.query(`DELETE FROM ${table}`);
});

const [READER, OTHER_READER, NEW_READER, STRANGER] = [1, 2, 3, 4] as const;
const [ANN, BEN, CY] = [11, 12, 13] as const;
const STARS = [21, 22, 23] as const;
const START_MS = 1_763_600_000_000;
const DEADLINE_MS = 60;

describe('Core', () => {
  test('the first page is newest first: from MySQL once, and from Redis after that', async () => {
    await follow(READER, ANN, BEN);
    await addPosts(25, [ANN, BEN, CY]);
    const expected = (await inMySql(READER)).slice(0, PAGE);
    expect(
      await idsOf(await firstPage(openFeeds(), READER)),
      'ids of the first page of a feed that is not in Redis: the newest posts of followed authors, newest first',
    ).toEqual(expected);
    await expectTtl(servers.redis, feedKey(READER), FEED_TTL_MS, 'the feed must live for FEED_TTL_MS');
    await servers.redis.pexpire(feedKey(READER), 20_000);
    let again: Page | string | undefined;
    const work = await servers.work(async () => {
      again = await outcome(openFeeds().page(READER));
    });
    expect(again, 'the page from Redis must have what MySQL has').toEqual({
      posts: await postsInMySql(expected),
      next: expect.any(String),
    });
    expect(work.sql('select'), 'SELECTs for a page of a feed that is in Redis').toBe(0);
    const message = 'a read must not change the TTL, which was 20,000: it counts from the build';
    await expectTtl(servers.redis, feedKey(READER), 20_000, message);
  });

  test('the posts of a page are fetched in one trip', async () => {
    const authors = Array.from({ length: 30 }, (_, at) => 100 + at);
    await follow(READER, ...authors);
    await addPosts(WINDOW, authors);
    const { feeds, trips } = countingFeeds();
    const expected = (await inMySql(READER)).slice(0, PAGE);
    const work = await servers.work(() => firstPage(feeds, READER));
    expect(
      work.sql('select'),
      'SELECTs that built a feed of 30 authors: their number must not grow with the authors or the posts',
    ).toBeLessThanOrEqual(6);
    expect(
      trips.since(),
      'trips that built a feed and read its first page: requests that no request has to wait for make one trip',
    ).toBeLessThanOrEqual(12);
    expect(await idsOf(feeds.page(READER)), 'ids of the page, in the order of the feed').toEqual(expected);
    expect(
      trips.since(),
      'trips for a page of a feed that is in Redis: one for the ids, and one for all posts',
    ).toBeLessThanOrEqual(3);
  });

  test('a cursor gives the next page, until there is none', async () => {
    await follow(READER, ANN, BEN);
    await addPosts(3 * PAGE + 2, [ANN, BEN]);
    const expected = await inMySql(READER);
    const feeds = openFeeds();
    expect(
      await walk(feeds, READER),
      'ids of all pages, one after the other: each post once, and null as the last cursor',
    ).toEqual(inPages(expected));
    const first = await outcome(feeds.page(READER));
    await forget(READER);
    expect(
      await idsOf(feeds.page(READER, cursorOf(first))),
      'ids of page 2, when the feed has left Redis after page 1',
    ).toEqual(expected.slice(PAGE, 2 * PAGE));
    await follow(OTHER_READER, CY);
    await addPosts(PAGE, [CY]);
    for (const from of ['MySQL', 'Redis']) {
      expect(
        await outcome(feeds.page(OTHER_READER)),
        `exactly one page of posts, from ${from}: there is no next page`,
      ).toMatchObject({ next: null });
    }
  });

  test('equal times and new posts neither repeat a post nor skip one', async () => {
    await follow(READER, ANN);
    // As text, 10 sorts before 9.
    const ids = Array.from({ length: 24 }, (_, at) => (at < 20 ? at + 1 : at * 50));
    await addPostsAt(ANN, ids, (at) => START_MS + Math.floor(at / 7));
    const expected = await inMySql(READER);
    const feeds = openFeeds();
    expect(
      (await walk(feeds, READER)).flat(),
      'ids of all pages: seven posts each have the same time, so the larger id comes first',
    ).toEqual(expected);
    const seen: unknown[] = [];
    let cursor: string | undefined;
    do {
      const page = await outcome(feeds.page(READER, cursor));
      seen.push(...(await idsOf(page)));
      cursor = cursorOf(page);
      for (let n = 0; n < 3; n++) await outcome(feeds.publish(ANN, `meanwhile ${n}`));
    } while (cursor !== undefined && seen.length < 50);
    expect(
      seen,
      'ids of all pages, with three posts published after each page: they are newer, and move no older post',
    ).toEqual(expected);
  });

  test('an empty feed is a hit', async () => {
    await follow(READER, ANN);
    const feeds = openFeeds();
    for (const user of [READER, STRANGER]) {
      expect(await firstPage(feeds, user), 'a feed without posts: one empty page').toEqual(EMPTY);
      const work = await servers.work(async () => {
        expect(await outcome(openFeeds().page(user)), 'the same feed again').toEqual(EMPTY);
      });
      expect(work.sql('select'), 'SELECTs for an empty feed that was read before').toBe(0);
    }
    const post = await outcome(feeds.publish(ANN, 'the first one'));
    expect(await idsOf(feeds.page(READER)), 'ids of an empty feed after its first post').toEqual([
      idOf(post),
    ]);
  });

  test('a new post is in the feeds of its followers, and in no others', async () => {
    for (const user of [READER, OTHER_READER, NEW_READER]) await follow(user, ANN, BEN);
    await follow(STRANGER, BEN);
    await servers.db.query('INSERT INTO follows (user_id, author_id) VALUES ?', [
      Array.from({ length: 30 }, (_, at) => [1000 + at, ANN]),
    ]);
    await addPosts(8, [ANN, BEN]);
    const { feeds, trips } = countingFeeds();
    for (const user of [READER, OTHER_READER, STRANGER]) await firstPage(feeds, user);
    await servers.redis.pexpire(feedKey(READER), 20_000);
    trips.since();
    const post = await outcome(feeds.publish(ANN, 'news'));
    expect(
      trips.since(),
      'trips for a post of an author with 33 followers: their number must not grow with the followers',
    ).toBeLessThanOrEqual(12);
    const [stored] = await postsInMySql([idOf(post)]);
    expect(post, 'publish must give the post as MySQL has it').toEqual(stored);
    await expectTtl(servers.redis, postKey(idOf(post)), POST_TTL_MS, 'a post must live for POST_TTL_MS');
    const work = await servers.work(async () => {
      for (const [user, whose] of [
        [READER, 'a follower'],
        [OTHER_READER, 'another follower'],
        [STRANGER, 'a user who does not follow the author'],
      ] as const) {
        const page = await outcome(openFeeds().page(user));
        expect(await idsOf(page), `ids of the feed of ${whose}, after a new post`).toEqual(
          await inMySql(user),
        );
      }
    });
    expect(work.sql('select') - 3, 'SELECTs for three feeds in Redis that a post was added to').toBe(0);
    const message = 'a new post must not change the TTL, which was 20,000: it counts from the build';
    await expectTtl(servers.redis, feedKey(READER), 20_000, message);
    expect(
      await servers.redis.pttl(feedKey(NEW_READER)),
      'PTTL of a feed that nobody has read when the post came: -1 means that it stays forever',
    ).not.toBe(-1);
    expect(
      await idsOf(feeds.page(NEW_READER)),
      'ids of a feed that was not in Redis when the post came: the older posts are there too',
    ).toEqual(await inMySql(NEW_READER));
  });
});

describe('In production', () => {
  test('a post that arrives during a build is kept', async () => {
    await duringBuild(
      (_, author) => outcome(openFeeds().publish(author, 'meanwhile')),
      async (user, when) =>
        expect(
          await idsOf(openFeeds().page(user)),
          `ids of the next page: a post was published ${when}`,
        ).toEqual((await inMySql(user)).slice(0, PAGE)),
    );
  });

  test('an unfollow hides the author at once, and no build undoes it', async () => {
    await makeCelebrities(STARS[0]);
    await follow(READER, ANN, BEN, STARS[0]);
    await addPosts(30, [ANN, BEN, STARS[0]]);
    const feeds = openFeeds();
    await firstPage(feeds, READER);
    for (const author of [BEN, STARS[0]]) await unfollow(feeds, READER, author);
    expect(
      await walk(openFeeds(), READER),
      'ids of all pages after two unfollows, one of a celebrity: none of these authors, and each page is full',
    ).toEqual(inPages(await inMySql(READER)));
    await buildDuringUnfollow(READER, ANN);
    expect(
      await idsOf(openFeeds().page(READER)),
      'ids of the next page: another process read the page while the unfollow waited for MySQL',
    ).toEqual([]);
    await duringBuild(
      (user, author) => unfollow(feeds, user, author),
      async (user, when) =>
        expect(
          await idsOf(openFeeds().page(user)),
          `ids of the next page: the unfollow came ${when}`,
        ).toEqual((await inMySql(user)).slice(0, PAGE)),
    );
  });

  test('no reader sees half a feed, and no key is ever without a TTL', async () => {
    const lookAround = async (user: number, _: number, when: string) => {
      for (const key of await servers.redis.keys('*[0-9]*')) {
        expect(
          await servers.redis.pttl(key),
          `PTTL ${key}, ${when}: without a TTL it stays forever when the process dies here`,
        ).not.toBe(-1);
      }
      expect(
        await walk(openFeeds(), user),
        `ids of all pages that another process got ${when}: the whole feed, or what MySQL has`,
      ).toEqual(inPages(await inMySql(user)));
    };
    await duringBuild(lookAround, async (user, when, page) =>
      expect(
        await idsOf(page),
        `ids of the page that built the feed; ${when}, another process built it too`,
      ).toEqual((await inMySql(user)).slice(0, PAGE)),
    );
  });

  test('past the window, MySQL goes on without a repeat or a gap', async () => {
    await follow(READER, ANN, BEN);
    await addPosts(WINDOW + 2 * PAGE + 3, [ANN, BEN]);
    const feeds = openFeeds();
    for (const when of ['after the build', 'with the feed in Redis', 'after new posts']) {
      expect(await walk(feeds, READER), `ids of all pages, ${when}`).toEqual(inPages(await inMySql(READER)));
      if (when === 'after the build') continue;
      await Promise.all(Array.from({ length: 7 }, () => feeds.publish(ANN, 'news')));
    }
    expect(
      await servers.redis.zcard(feedKey(READER)),
      'members of the feed: WINDOW posts, and a few more at most',
    ).toBeLessThanOrEqual(WINDOW + 10);
    await follow(OTHER_READER, CY);
    await addPosts(WINDOW - 3, [CY]);
    await outcome(feeds.page(OTHER_READER));
    await Promise.all(Array.from({ length: 7 }, () => feeds.publish(CY, 'news')));
    expect(
      await walk(feeds, OTHER_READER),
      'ids of all pages: the feed fitted into the window when it was built, and has outgrown it since',
    ).toEqual(inPages(await inMySql(OTHER_READER)));
  });

  test("a celebrity's post is not fanned out, and each follower sees it", async () => {
    const [star] = STARS;
    await makeCelebrities(star);
    const fans = Array.from({ length: 200 }, (_, at) => 1000 + at);
    await servers.db.query('INSERT INTO follows (user_id, author_id) VALUES ?', [
      fans.map((fan) => [fan, star]),
    ]);
    await follow(fans[1] ?? 0, ANN);
    await addPosts(12, [star, ANN]);
    const feeds = openFeeds();
    for (const fan of fans.slice(0, 40)) await firstPage(feeds, fan);
    const message = "PTTL of the set of a celebrity's posts: -1 means that it stays forever";
    expect(await servers.redis.pttl(authorKey(star)), message).not.toBe(-1);
    const work = await servers.work(() => outcome(feeds.publish(star, 'hello, world')));
    expect(
      work.redis(),
      'Redis commands for one post of a celebrity with 200 followers: their number must not grow with the followers',
    ).toBeLessThan(25);
    for (const fan of [...fans.slice(0, 2), ...fans.slice(-1)]) {
      expect(await idsOf(openFeeds().page(fan)), "ids of a follower's page after it").toEqual(
        (await inMySql(fan)).slice(0, PAGE),
      );
    }
  });

  test('a page that merges celebrities takes at most three trips', async () => {
    await makeCelebrities(...STARS);
    await follow(READER, ANN, BEN, ...STARS);
    await addPosts(70, [ANN, ...STARS, BEN]);
    await addPosts(WINDOW, [STARS[1]]);
    const { feeds, trips } = countingFeeds();
    await firstPage(feeds, READER);
    const expected = await inMySql(READER);
    trips.since();
    const first = await outcome(feeds.page(READER));
    const counted = [trips.since()];
    const second = await outcome(feeds.page(READER, cursorOf(first)));
    // The posts of the second page were read for the first time.
    const third = await outcome(feeds.page(READER, cursorOf(first)));
    counted.push(trips.since());
    expect(
      [...(await idsOf(first)), ...(await idsOf(second))],
      'ids of two pages: posts of two authors and three celebrities, newest first',
    ).toEqual(expected.slice(0, 2 * PAGE));
    expect(third, 'the second page again').toEqual(second);
    expect(counted[0], 'trips for a page that merges three celebrities').toBeLessThanOrEqual(3);
    expect(counted[1], 'trips for the second page, cold and warm').toBeLessThanOrEqual(8);
    expect(await walk(feeds, READER), 'ids of all pages').toEqual(inPages(expected));
  });

  test('a deleted post is gone from the next page on, and the page is full', async () => {
    await makeCelebrities(STARS[0]);
    await follow(READER, ANN, BEN, STARS[0]);
    await addPosts(2 * WINDOW, [ANN, BEN, STARS[0]]);
    const feeds = openFeeds();
    await firstPage(feeds, READER);
    await walk(feeds, READER);
    const before = await inMySql(READER);
    for (const at of [0, 1, 2, 14, 15, 16]) await remove(feeds, before[at] ?? 0);
    expect(
      await servers.redis.pttl(postKey(before[0] ?? 0)),
      'PTTL of what stands in the place of a deleted post: -1 means that it stays forever',
    ).not.toBe(-1);
    // Evicted: neither a text nor a row is left of this post.
    await servers.redis.del(postKey(before[14] ?? 0));
    expect(
      await walk(openFeeds(), READER),
      'ids of all pages after six deletions: none is there, and each page is full',
    ).toEqual(inPages(await inMySql(READER)));
    await outcome(feeds.page(READER));
    const work = await servers.work(() => outcome(feeds.page(READER)));
    expect(
      work.sql('select'),
      'SELECTs for the page, later: a deletion must not send each of its later readers to MySQL',
    ).toBe(0);
  });

  test('a post that is deleted while it is loaded stays deleted', async () => {
    const feeds = openFeeds();
    await duringBuild(
      async (user) => {
        const [newest = 0] = await inMySql(user);
        await remove(feeds, newest);
      },
      async (user, when) =>
        expect(
          await idsOf(openFeeds().page(user)),
          `ids of the next page: a post was deleted ${when}`,
        ).toEqual((await inMySql(user)).slice(0, PAGE)),
    );
  });

  test('lost and damaged posts are loaded again, all of a page in one query', async () => {
    await follow(READER, ANN, BEN);
    await addPosts(20, [ANN, BEN]);
    const errors: unknown[] = [];
    const feeds = openFeeds(servers.redis, errors);
    const expected = await firstPage(feeds, READER);
    const ids = (await idsOf(expected)).map(Number);
    const damages = ['{"id":', '{"id":7}', Buffer.from('fffe00', 'hex'), 'null'];
    for (const [at, id] of ids.entries()) {
      const damage = damages[at];
      if (damage === undefined) await servers.redis.del(postKey(id));
      else await servers.redis.set(postKey(id), damage, 'PX', 60_000);
    }
    let page: unknown;
    const work = await servers.work(async () => {
      page = await outcome(feeds.page(READER));
    });
    expect(page, 'a page, four of whose posts are damaged in Redis and six evicted').toEqual(expected);
    expect(work.sql('select'), 'SELECTs for ten posts that Redis has lost').toBeLessThanOrEqual(2);
    expect(errors.length, 'calls of onCacheError: damaged posts must be reported').toBeGreaterThan(0);
    const texts = (await postsInMySql(ids)).map(encode);
    const storedAgain = async () =>
      (await servers.redis.mget(ids.map(postKey))).every((text, at) => text === texts[at]);
    await until(storedAgain);
    expect(await storedAgain(), 'whether the lost and the damaged posts are in Redis again').toBe(true);
    for (const id of ids.slice(0, damages.length + 1)) {
      const message = 'a post that is stored again must live for POST_TTL_MS';
      await expectTtl(servers.redis, postKey(id), POST_TTL_MS, message);
    }
  });

  test('without Redis, pages come from MySQL and writes succeed', async () => {
    await makeCelebrities(STARS[0]);
    await follow(READER, ANN, BEN, STARS[0]);
    await addPosts(25, [ANN, BEN, STARS[0]]);
    for (const fault of ['refuse', 'blackHole'] as const) {
      const { feeds, proxy, errors } = await feedsBehindProxy();
      await outcome(feeds.page(READER));
      await proxy[fault]();
      expect(await walk(feeds, READER), `ids of all pages without Redis (${fault})`).toEqual(
        inPages(await inMySql(READER)),
      );
      expect(errors.length, 'calls of onCacheError').toBeGreaterThan(0);
      errors.length = 0;
      const reported: number[] = [];
      const post = await outcome(feeds.publish(ANN, fault));
      expect(idOf(post), `a post is committed, and Redis is away (${fault}): publish must resolve`).toBe(
        (await inMySql(READER))[0],
      );
      reported.push(errors.splice(0).length);
      const unfollowing = outcome(Promise.resolve(feeds.unfollow?.(STRANGER, ANN)));
      expect(await unfollowing, `Redis is away (${fault}): unfollow must resolve`).toBeUndefined();
      reported.push(errors.splice(0).length);
      const removing = outcome(Promise.resolve(feeds.remove?.(idOf(post))));
      expect(await removing, `Redis is away (${fault}): remove must resolve`).toBeUndefined();
      reported.push(errors.splice(0).length);
      expect(reported, 'calls of onCacheError of publish, unfollow and remove').not.toContain(0);
      expect(
        await withoutPosts(() => feeds.page(READER)),
        'MySQL fails too: nobody knows the feed, so page must reject',
      ).toEqual(expect.stringMatching(/^rejected/));
    }
    for (let step = 1; step <= 6; step++) {
      const { feeds, proxy } = await feedsBehindProxy();
      let sent = 0;
      proxy.schedule(async () => {
        if (++sent === step) await proxy.refuse();
      });
      expect(
        await idsOf(feeds.page(READER)),
        `ids of the first page: Redis went away before command ${step} of it`,
      ).toEqual((await inMySql(READER)).slice(0, PAGE));
    }
    const { lateMs } = await lateness({
      open: feedsBehindProxy,
      call: async ({ feeds, proxy }) => {
        proxy.blackHole();
        return feeds.page(READER);
      },
      reference: () => sleep(DEADLINE_MS),
      toleratedMs: 0.7 * DEADLINE_MS,
    });
    expect(lateMs, 'ms beyond one deadline, which a page costs while Redis is silent').toBeLessThan(
      0.7 * DEADLINE_MS,
    );
  });
});

const EMPTY: Page = { posts: [], next: null };

type Feeds = ReturnType<typeof createFeeds>;

function openFeeds(redis: Redis = servers.redis, errors: unknown[] = []) {
  return createFeeds({
    redis,
    db: new FeedDatabase(servers.db),
    onCacheError: (error) => errors.push(error),
  });
}

async function feedsBehindProxy() {
  const options: RedisOptions = {
    commandTimeout: DEADLINE_MS,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
  };
  const { proxy, redis } = await redisBehindProxy(servers, options);
  const errors: unknown[] = [];
  return { proxy, redis, errors, feeds: openFeeds(redis, errors) };
}

/** Feeds whose requests to Redis and MySQL are counted as trips: a request that waited for an answer begins a new one. */
function countingFeeds() {
  let count = 0;
  let isAnswered = true;
  const sent = <T extends Promise<unknown>>(answer: T): T => {
    if (isAnswered) count++;
    isAnswered = false;
    const heard = () => {
      isAnswered = true;
    };
    answer.then(heard, heard);
    return answer;
  };
  const redis = servers.connectRedis();
  const { sendCommand } = redis;
  redis.sendCommand = (command, stream) => {
    sent(command.promise);
    return sendCommand.call(redis, command, stream);
  };
  const pool = servers.connectDb();
  const { query } = pool;
  Object.assign(pool, { query: (...args: Parameters<typeof query>) => sent(query.apply(pool, args)) });
  const feeds = createFeeds({ redis, db: new FeedDatabase(pool) });
  const since = () => {
    const trips = count;
    count = 0;
    return trips;
  };
  return { feeds, trips: { since } };
}

/** At most this many commands of a build are interrupted. */
const STEPS = 12;

/**
 * A first page builds a feed, again and again, each time for another user. `act` comes before the first Redis command of
 * the build, then before the second, and so on.
 */
async function duringBuild(
  act: (user: number, author: number, when: string) => Promise<unknown>,
  check: (user: number, when: string, page: Page | string) => Promise<unknown> = async () => {},
) {
  const { proxy, redis } = await redisBehindProxy(servers);
  const users = Array.from({ length: STEPS }, (_, at) => 200 + at);
  await addPosts(PAGE + 4, [ANN]);
  await addPosts(3 * STEPS, users.map(authorFor));
  await follow(STRANGER, ANN, ...users.map(authorFor));
  await servers.db.query('INSERT INTO follows (user_id, author_id) VALUES ?', [
    users.flatMap((user) => [
      [user, authorFor(user)],
      [user, ANN],
    ]),
  ]);
  for (let step = 1, sent = STEPS; step <= STEPS && sent >= step - 1; step++) {
    const user = users[step - 1] ?? 0;
    const when = `before command ${step} of a build in another process`;
    sent = 0;
    let acting: Promise<unknown> = Promise.resolve();
    proxy.schedule(async () => {
      if (++sent !== step) return;
      acting = act(user, authorFor(user), when);
      await outcome(acting, 6000);
    });
    const page = await outcome(openFeeds(redis).page(user), 8000);
    // What the page did not wait for has been answered too.
    await redis.ping();
    proxy.schedule();
    await acting;
    if (sent >= step) await check(user, when, page);
  }
}

/** Another process reads a page when the unfollow is about to change MySQL. */
async function buildDuringUnfollow(user: number, author: number) {
  const proxy = await openProxy(servers.mysqlUrl);
  const db = new FeedDatabase(servers.connectDb({}, proxy.url));
  const deletion = proxy.hold(/^DELETE/i);
  const unfollowing = unfollow(createFeeds({ redis: servers.redis, db }), user, author);
  await outcome(Promise.race([deletion.arrived, unfollowing]));
  await outcome(openFeeds().page(user));
  deletion.release();
  await unfollowing;
}

const authorFor = (user: number) => user + 1000;

async function follow(user: number, ...authors: number[]) {
  await servers.db.query('INSERT IGNORE INTO authors (id, is_celebrity) VALUES ?', [
    authors.map((author) => [author, false]),
  ]);
  await servers.db.query('INSERT INTO follows (user_id, author_id) VALUES ?', [
    authors.map((author) => [user, author]),
  ]);
}

const makeCelebrities = (...authors: number[]) =>
  servers.db.query('INSERT INTO authors (id, is_celebrity) VALUES ?', [
    authors.map((author) => [author, true]),
  ]);

/** The authors in turn. Later ids are not always later. */
const addPosts = (count: number, authors: readonly number[]) =>
  servers.db.query('INSERT INTO posts (author_id, created_ms, text) VALUES ?', [
    Array.from({ length: count }, (_, at) => [
      authors[at % authors.length],
      START_MS + ((at * 37) % 101) * 10,
      `post ${at}`,
    ]),
  ]);

const addPostsAt = (author: number, ids: readonly number[], createdMs: (at: number) => number) =>
  servers.db.query('INSERT INTO posts (id, author_id, created_ms, text) VALUES ?', [
    ids.map((id, at) => [id, author, createdMs(at), `post ${id}`]),
  ]);

/** The ids of a user's whole feed. */
async function inMySql(user: number): Promise<number[]> {
  const [rows] = await servers.db.query<RowDataPacket[]>(
    `SELECT p.id FROM posts p JOIN follows f ON f.author_id = p.author_id WHERE f.user_id = ?
     ORDER BY p.created_ms DESC, p.id DESC`,
    [user],
  );
  return rows.map(({ id }) => Number(id));
}

/** In this order. */
async function postsInMySql(ids: readonly number[]): Promise<Post[]> {
  const posts = await new FeedDatabase(servers.db).posts(ids);
  return ids.flatMap((id) => posts.find((post) => post.id === id) ?? []);
}

/** A page, and the feed is in Redis after it: a caller need not wait for the fill. */
async function firstPage(feeds: Feeds, user: number): Promise<Page | string> {
  const page = await outcome(feeds.page(user));
  await until(async () => (await servers.redis.pttl(feedKey(user))) > BUILD_MS);
  return page;
}

/** The ids of each page, from the first one to the last one; a text where a page failed. */
async function walk(feeds: Feeds, user: number): Promise<unknown[][]> {
  const pages: unknown[][] = [];
  let cursor: string | undefined;
  do {
    const page = await outcome(feeds.page(user, cursor));
    pages.push(await idsOf(page));
    cursor = cursorOf(page);
  } while (cursor !== undefined && pages.length < 20);
  return pages;
}

const inPages = (ids: readonly number[]): number[][] =>
  Array.from({ length: Math.ceil(ids.length / PAGE) || 1 }, (_, at) => ids.slice(at * PAGE, (at + 1) * PAGE));

async function idsOf(page: Page | string | Promise<Page>): Promise<unknown[]> {
  const result = page instanceof Promise ? await outcome(page) : page;
  return typeof result === 'string' ? [result] : result.posts.map(({ id }) => id);
}

const cursorOf = (page: Page | string): string | undefined =>
  typeof page === 'string' ? undefined : (page.next ?? undefined);

const idOf = (post: Post | string): number => (typeof post === 'string' ? Number.NaN : post.id);

async function unfollow(feeds: Feeds, user: number, author: number): Promise<void> {
  await outcome(Promise.resolve(feeds.unfollow?.(user, author)));
  const [rows] = await servers.db.query('SELECT 1 FROM follows WHERE user_id = ? AND author_id = ?', [
    user,
    author,
  ]);
  expect(rows, 'the follow in MySQL, after unfollow').toEqual([]);
}

async function remove(feeds: Feeds, post: number): Promise<void> {
  await outcome(Promise.resolve(feeds.remove?.(post)));
  expect(await postsInMySql([post]), 'the post in MySQL, after remove').toEqual([]);
}

/** What a call comes to while MySQL has no table of posts. */
async function withoutPosts<T>(call: () => Promise<T>): Promise<T | string> {
  await servers.db.query('RENAME TABLE posts TO posts_away');
  const result = await outcome(call());
  await servers.db.query('RENAME TABLE posts_away TO posts');
  return result;
}

/** A feed leaves Redis, as by an eviction. */
const forget = (user: number) => servers.redis.del(feedKey(user), authorKey(user));
