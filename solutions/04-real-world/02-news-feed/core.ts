import type { Redis } from 'ioredis';
import {
  decode,
  encode,
  FEED_TTL_MS,
  type FeedDatabase,
  feedKey,
  PAGE,
  type Page,
  POST_TTL_MS,
  type Position,
  type Post,
  parsePosition,
  postKey,
  toPage,
  WINDOW,
} from './given';

/** Sorts below all digits: the oldest member of each feed, so that an empty feed exists too. */
const BUILT = '!';

/** Padded, so that members sort by time, and by id at equal times. */
const memberOf = ({ createdMs, id }: Position) => `${createdMs}:${String(id).padStart(16, '0')}`;

/** KEYS: feeds. ARGV: member. */
const ADD = `
  for _, feed in ipairs(KEYS) do
    if redis.call('EXISTS', feed) == 1 then redis.call('ZADD', feed, 0, ARGV[1]) end
  end`;

/** The version for an interview. When Redis fails, it fails too. */
// #region core
export function createFeeds({ redis, db }: { redis: Redis; db: FeedDatabase }) {
  async function build(userId: number): Promise<void> {
    const { posts } = await db.window(userId, WINDOW);
    const members = [BUILT, ...posts.map(memberOf)];
    await redis.zadd(feedKey(userId), ...members.flatMap((member) => [0, member]));
    await redis.pexpire(feedKey(userId), FEED_TTL_MS);
    await Promise.all(posts.map((post) => redis.set(postKey(post.id), encode(post), 'PX', POST_TTL_MS)));
  }

  const read = (userId: number, cursor?: string) =>
    redis.zrange(feedKey(userId), cursor ? `(${cursor}` : '+', '-', 'BYLEX', 'REV', 'LIMIT', 0, PAGE + 1);

  return {
    async page(userId: number, cursor?: string): Promise<Page> {
      let members = await read(userId, cursor);
      if (members.length === 0) {
        await build(userId);
        members = await read(userId, cursor);
      }
      const keys = members.flatMap((member) => parsePosition(member)?.id ?? []).map(postKey);
      const texts = keys.length > 0 ? await redis.mget(keys) : [];
      return toPage(
        texts.flatMap((text) => decode(text ?? '') ?? []),
        memberOf,
      );
    },

    async publish(authorId: number, text: string): Promise<Post> {
      const post = await db.insertPost(authorId, text);
      await redis.set(postKey(post.id), encode(post), 'PX', POST_TTL_MS);
      const feeds = (await db.followers(authorId)).map(feedKey);
      if (feeds.length > 0) await redis.eval(ADD, feeds.length, ...feeds, memberOf(post));
      return post;
    },
  };
}
// #endregion
