import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { type Claim, defineMeasure, median } from '#claims';
import { CREATE_TABLES, encode, FeedDatabase, feedKey, PAGE, postKey, WINDOW } from './given';
import { createFeeds } from './news-feed';

const USER = 1;
const START_MS = 1_763_600_000_000;
const AUTHORS = 30;
/** How many celebrities a page merges. */
const STARS = 10;
const FIRST_STAR = 1_000;
const FAN_AUTHOR = 5_000;
const FIRST_FAN = 10_000;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db } = servers();
    await redis.flushdb();
    // The shop of another measure has tables of these names.
    await db.query('DROP TABLE IF EXISTS authors, follows, posts');
    for (const sql of CREATE_TABLES) await db.query(sql);
    try {
      await fillTables(db);
      const cold = await tripsOfColdBuild(redis, db);
      const repeats = await repeatedPosts(redis, db);
      const half = await halfFeeds(redis, quick ? 60 : 1000);
      const merging = await pageTimes(redis, db, quick ? 100 : 2000);
      const fanOut = await fanOuts(redis, db, quick ? [2000] : [10, 30, 100, 300, 1000, 3000, 10_000]);
      const largest = fanOut.at(-1);
      const [write, read] = [largest?.write ?? Number.NaN, largest?.read ?? Number.NaN];
      const addUs = (1000 * (write - read)) / (largest?.followers ?? Number.NaN);
      const mergeUs = merging.mergedUs - merging.ownUs;
      const claims: Claim[] = [
        {
          name: 'cold-ratio',
          says: `round trips to build a feed of ${WINDOW} posts and show a page: a request for each post against the lab's`,
          value: cold.naive / cold.ours,
          unit: '×',
          atLeast: 5,
        },
        {
          name: 'repeat-offset',
          says: 'posts shown twice, with three new posts after each page: an offset as cursor',
          value: repeats.offset,
          unit: '%',
          atLeast: 10,
        },
        {
          name: 'repeat-cursor',
          says: 'posts shown twice, with three new posts after each page: the last member as cursor',
          value: repeats.cursor,
          unit: '%',
          atMost: 0,
        },
        {
          name: 'publish-ratio',
          says: 'one post of an author with thousands of followers: fan-out on write against one set, the best of several',
          value: write / read,
          unit: '×',
          atLeast: 3,
        },
        {
          name: 'merge-ratio',
          says: `a page that merges ${STARS} celebrities against a page that merges none, p50`,
          value: merging.mergedUs / merging.ownUs,
          unit: '×',
          atMost: 12,
        },
        {
          name: 'half-del',
          says: 'reads that saw a part of a feed while it was built: DEL, then a ZADD for each post',
          value: half.del,
          unit: '%',
          atLeast: 1,
        },
        {
          name: 'half-zadd',
          says: 'reads that saw a part of a feed while it was built: one ZADD for all posts',
          value: half.zadd,
          unit: '%',
          atMost: 0,
        },
        {
          name: 'cold-naive',
          says: 'a feed that is not in Redis: a request for each post',
          value: cold.naive,
          unit: 'trips',
        },
        {
          name: 'cold-ours',
          says: "a feed that is not in Redis: the lab's",
          value: cold.ours,
          unit: 'trips',
        },
        {
          name: 'warm-ours',
          says: "a page of a feed that is in Redis: the lab's",
          value: cold.warm,
          unit: 'trips',
        },
        { name: 'add-us', says: 'fan-out on write, for each follower of a post', value: addUs, unit: 'µs' },
        {
          name: 'merge-us',
          says: `fan-out on read, for each page that merges ${STARS} celebrities`,
          value: mergeUs,
          unit: 'µs',
        },
      ];
      return {
        claims,
        plots: [
          {
            name: 'fan-out',
            title: 'Time until one post is in the feeds of all followers, by their number',
            x: { label: 'followers', scale: 'log' },
            y: { label: 'ms', scale: 'log' },
            series: [
              {
                name: 'fan-out on write',
                points: fanOut.map(({ followers, write: ms }) => [followers, ms] as const),
              },
              {
                name: 'one set, merged at the read',
                points: fanOut.map(({ followers, read: ms }) => [followers, ms] as const),
              },
            ],
          },
        ],
      };
    } finally {
      await db.query('DROP TABLE authors, follows, posts');
      await redis.flushdb();
    }
  },
});

async function fillTables(db: Pool): Promise<void> {
  const authors = Array.from({ length: AUTHORS }, (_, at) => 100 + at);
  const stars = Array.from({ length: STARS }, (_, at) => FIRST_STAR + at);
  await db.query('INSERT INTO authors VALUES ?', [
    [...authors, FAN_AUTHOR].map((id) => [id, false]).concat(stars.map((id) => [id, true])),
  ]);
  // User 1 follows the authors, user 2 the celebrities as well.
  await db.query('INSERT INTO follows VALUES ?', [
    [...authors.map((id) => [USER, id]), ...[...authors, ...stars].map((id) => [2, id])],
  ]);
  const posts = [...authors, ...stars].flatMap((id) =>
    Array.from({ length: 6 }, (_, at) => [id, START_MS + at * 1000 + id, `post ${at} of ${id}`]),
  );
  await db.query('INSERT INTO posts (author_id, created_ms, text) VALUES ?', [posts]);
}

/** Requests of which each waited for the answer to one before it. */
async function tripsOfColdBuild(redis: Redis, db: Pool) {
  let trips = 0;
  let isAnswered = true;
  const sent = <T extends Promise<unknown>>(answer: T): T => {
    if (isAnswered) trips++;
    isAnswered = false;
    const heard = () => {
      isAnswered = true;
    };
    answer.then(heard, heard);
    return answer;
  };
  const counting = redis.duplicate();
  await counting.ping();
  const { sendCommand } = counting;
  counting.sendCommand = (command, stream) => {
    sent(command.promise);
    return sendCommand.call(counting, command, stream);
  };
  const database = new (class extends FeedDatabase {
    override window(userId: number, limit: number) {
      trips++;
      return sent(super.window(userId, limit));
    }
    override posts(ids: readonly number[]) {
      return ids.length > 0 ? sent(super.posts(ids)) : super.posts(ids);
    }
  })(db);
  const measure = async (action: () => Promise<unknown>) => {
    trips = 0;
    isAnswered = true;
    await action();
    return trips;
  };
  const feeds = createFeeds({ redis: counting, db: database });
  try {
    const ours = await measure(() => feeds.page(USER));
    const warm = await measure(() => feeds.page(USER));
    await redis.flushdb();
    const naive = await measure(() => buildOneByOne(counting, database));
    await redis.flushdb();
    return { ours, warm, naive };
  } finally {
    counting.disconnect();
  }
}

/** A common version: each post has requests of its own. */
async function buildOneByOne(redis: Redis, db: FeedDatabase): Promise<void> {
  const { posts } = await db.window(USER, WINDOW);
  for (const post of posts) await db.posts([post.id]);
  await redis.del(feedKey(USER));
  for (const post of posts) await redis.zadd(feedKey(USER), post.createdMs, post.id);
  await redis.expire(feedKey(USER), 1800);
  for (const post of posts) await redis.set(postKey(post.id), encode(post), 'EX', 3600);
  for (const post of posts.slice(0, PAGE)) await redis.get(postKey(post.id));
}

/** The share of posts that a user sees twice who reads 40 posts, while three come after each page. */
async function repeatedPosts(redis: Redis, pool: Pool) {
  const feeds = createFeeds({ redis, db: new FeedDatabase(pool) });
  const share = (shown: readonly (string | number)[]) => 100 * (1 - new Set(shown).size / shown.length);
  const byCursor: number[] = [];
  const byOffset: string[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < 4; page++) {
    const { posts, next } = await feeds.page(USER, cursor);
    byCursor.push(...posts.map(({ id }) => id));
    cursor = next ?? undefined;
    const members = await redis.zrange(feedKey(USER), '+', '[0', 'BYLEX', 'REV', 'LIMIT', page * PAGE, PAGE);
    byOffset.push(...members);
    for (let n = 0; n < 3; n++) await feeds.publish(100, 'meanwhile');
  }
  return { cursor: share(byCursor), offset: share(byOffset) };
}

/** One connection builds a feed again and again, and another one reads it. */
async function halfFeeds(redis: Redis, reads: number) {
  const reader = redis.duplicate();
  await reader.ping();
  const members = Array.from({ length: WINDOW }, (_, at) => `${START_MS + at}:1`);
  const run = async (build: (key: string) => Promise<unknown>) => {
    const key = 'measure:feed';
    await redis.zadd(key, ...members.flatMap((member) => [0, member]));
    let isDone = false;
    const building = (async () => {
      while (!isDone) await build(key);
    })();
    let partly = 0;
    for (let read = 0; read < reads; read++) {
      const seen = await reader.zcard(key);
      if (seen > 0 && seen < WINDOW) partly++;
    }
    isDone = true;
    await building;
    return (100 * partly) / reads;
  };
  try {
    const del = await run(async (key) => {
      await redis.del(key);
      for (const member of members) await redis.zadd(key, 0, member);
    });
    const zadd = await run(async (key) => {
      await redis.del(key);
      await redis.zadd(key, ...members.flatMap((member) => [0, member]));
    });
    return { del, zadd };
  } finally {
    reader.disconnect();
  }
}

/** Pages in turn: of user 1, who follows no celebrity, and of user 2. */
async function pageTimes(redis: Redis, pool: Pool, pages: number) {
  const feeds = createFeeds({ redis, db: new FeedDatabase(pool) });
  const times: [own: number[], merged: number[]] = [[], []];
  for (const user of [1, 2]) await feeds.page(user);
  for (let n = 0; n < pages; n++) {
    times[0].push(await us(() => feeds.page(1)));
    times[1].push(await us(() => feeds.page(2)));
  }
  return { ownUs: median(times[0]), mergedUs: median(times[1]) };
}

/** One author gets more and more followers, who all have a feed in Redis. */
async function fanOuts(redis: Redis, pool: Pool, steps: readonly number[]) {
  const feeds = createFeeds({ redis, db: new FeedDatabase(pool) });
  let fans = 0;
  const results: { followers: number; write: number; read: number }[] = [];
  for (const followers of steps) {
    for (; fans < followers; fans += 1000) {
      const added = Array.from(
        { length: Math.min(1000, followers - fans) },
        (_, at) => FIRST_FAN + fans + at,
      );
      await pool.query('INSERT IGNORE INTO follows VALUES ?', [added.map((fan) => [fan, FAN_AUTHOR])]);
      await Promise.all(added.map((fan) => redis.zadd(feedKey(fan), 0, '!')));
    }
    fans = followers;
    const write: number[] = [];
    const read: number[] = [];
    for (let round = 0; round < 9; round++) {
      await pool.query('UPDATE authors SET is_celebrity = FALSE WHERE id = ?', [FAN_AUTHOR]);
      write.push(await us(() => feeds.publish(FAN_AUTHOR, 'to all')));
      await pool.query('UPDATE authors SET is_celebrity = TRUE WHERE id = ?', [FAN_AUTHOR]);
      read.push(await us(() => feeds.publish(FAN_AUTHOR, 'to one set')));
    }
    // The best of the rounds: an INSERT that waits for the disk says nothing about the fan-out.
    results.push({ followers, write: Math.min(...write) / 1000, read: Math.min(...read) / 1000 });
  }
  return results;
}

async function us(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return 1000 * (performance.now() - start);
}
