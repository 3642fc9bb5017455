import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import {
  authorKey,
  BUILD_MS,
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
  type Source,
  toPage,
  WINDOW,
} from '../given';

export interface Options {
  /** In production: each of its commands settles in bounded time. */
  readonly redis: Redis;
  readonly db: FeedDatabase;
  /** In production: called with each error of Redis, and for a post that cannot be decoded. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** Padded: members sort as text by time, and by id at equal times. */
const memberOf = ({ createdMs, id }: Position) => `${createdMs}:${String(id).padStart(16, '0')}`;

// Marks are members as well, so that one key holds all of a feed. They sort below all digits.
/** The set holds the newest posts. An empty feed has this member. */
const BUILT = '!';
/** MySQL has no post that is older than those of the set. */
const WHOLE = '!whole';
/** Before the id of a celebrity, whose posts are merged when the feed is read. */
const CELEBRITY = '#';

/** Holds the token of the latest build. */
const buildKey = (set: string) => `build:${set}`;
/** In the place of a deleted post: feeds still have its id. */
const DELETED = 'deleted';

/** KEYS: set, build. ARGV: member, WINDOW. A build under way is cancelled: it may have read too early. */
const ADD = `
  redis.call('DEL', KEYS[2])
  if redis.call('EXISTS', KEYS[1]) == 0 then return end
  redis.call('ZADD', KEYS[1], 0, ARGV[1])
  local extra = redis.call('ZRANGE', KEYS[1], '+', '[0', 'BYLEX', 'REV', 'LIMIT', ARGV[2], 1)[1]
  if not extra then return end
  redis.call('ZREMRANGEBYLEX', KEYS[1], '[0', '[' .. extra)
  redis.call('ZREM', KEYS[1], '${WHOLE}')`;

/** KEYS: set, build. ARGV: token, TTL, members. Replaces the set, if nothing came meanwhile. */
const FILL = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return end
  redis.call('DEL', KEYS[1], KEYS[2])
  for i = 3, #ARGV do redis.call('ZADD', KEYS[1], 0, ARGV[i]) end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/** A new post or an unfollow cancels a build under way; the next reader builds again. */
export function createFeeds({ redis, db, onCacheError = () => {} }: Options) {
  /** The answer of Redis, or undefined: no caller depends on it. */
  const ask = <T>(answer: Promise<T>) => answer.catch((error: unknown) => void onCacheError(error));

  async function page(userId: number, cursor?: string): Promise<Page> {
    const own = await membersOf(feedKey(userId), cursor, () => db.window(userId, WINDOW + 1));
    const authors = own?.celebrities ?? [];
    const merging = authors.map((id) => membersOf(authorKey(id), cursor, () => db.author(id, WINDOW + 1)));
    const sets = [own, ...(await Promise.all(merging))];
    // Below its last member, a set may lack posts: then only MySQL knows the page.
    if (sets.every((set) => set && !set.mayLack)) {
      const merged = sets.flatMap((set) => set?.members ?? []).sort((a, b) => (a < b ? 1 : -1));
      const members = merged.slice(0, PAGE + 1);
      const posts = await bodies(members);
      if (posts.length === members.length) return toPage(posts, memberOf);
      const gone = members.filter((member) => !posts.some((post) => memberOf(post) === member));
      for (const key of [feedKey(userId), ...authors.map(authorKey)]) void ask(redis.zrem(key, ...gone));
    }
    return toPage(await db.page(userId, PAGE + 1, parsePosition(cursor)), memberOf);
  }

  /** At most PAGE + 1 members after the cursor. Builds a set that is not there. Undefined without Redis. */
  async function membersOf(key: string, cursor: string | undefined, source: Source) {
    const reading = redis.multi();
    reading.zrange(key, cursor ? `(${cursor}` : '+', '[0', 'BYLEX', 'REV', 'LIMIT', 0, PAGE + 1);
    reading.zrange(key, '-', '(0', 'BYLEX');
    const [inSet, notes] = (await ask(reading.exec())) ?? [];
    if (!inSet || !notes) return undefined;
    const read = [inSet[1] as string[], notes[1] as string[]] as const;
    const [members, marks] = read[1].includes(BUILT) ? read : await build(key, source);
    const after = members.filter((member) => !cursor || member < cursor).slice(0, PAGE + 1);
    return {
      members: after,
      celebrities: marks.flatMap((mark) => (mark.startsWith(CELEBRITY) ? Number(mark.slice(1)) : [])),
      mayLack: after.length <= PAGE && !marks.includes(WHOLE),
    };
  }

  async function build(key: string, source: Source): Promise<[members: string[], marks: string[]]> {
    const token = randomUUID();
    await ask(redis.set(buildKey(key), token, 'PX', BUILD_MS));
    const { posts, celebrities } = await source();
    const members = posts.slice(0, WINDOW).map(memberOf);
    const marks = [BUILT, ...celebrities.map((id) => CELEBRITY + id)];
    if (posts.length <= WINDOW) marks.push(WHOLE);
    await ask(redis.eval(FILL, 2, key, buildKey(key), token, FEED_TTL_MS, ...marks, ...members));
    return [members, marks];
  }

  /** In the order of the members, without deleted posts. */
  async function bodies(members: readonly string[]): Promise<Post[]> {
    const ids = members.flatMap((member) => parsePosition(member)?.id ?? []);
    const texts = (ids.length > 0 && (await ask(redis.mget(ids.map(postKey))))) || [];
    const posts = new Map(texts.flatMap((text) => decode(text ?? '') ?? []).map((post) => [post.id, post]));
    const missing = ids.filter((id, at) => !posts.has(id) && texts[at] !== DELETED);
    for (const post of await db.posts(missing)) {
      const text = texts[ids.indexOf(post.id)];
      if (text) onCacheError(new TypeError(`not a post: ${text}`));
      posts.set(post.id, post);
      void store(post, text ? 'XX' : 'NX');
    }
    return ids.flatMap((id) => posts.get(id) ?? []);
  }

  /** NX: a post that is deleted after it was read from MySQL stays deleted. */
  const store = (post: Post, mode: 'NX' | 'XX') =>
    ask(redis.call('SET', postKey(post.id), encode(post), 'PX', POST_TTL_MS, mode));

  return {
    page,

    async publish(authorId: number, text: string): Promise<Post> {
      const post = await db.insertPost(authorId, text);
      await store(post, 'NX');
      const keys = (await db.isCelebrity(authorId))
        ? [authorKey(authorId)]
        : (await db.followers(authorId)).map(feedKey);
      await ask(
        Promise.all(keys.map((key) => redis.eval(ADD, 2, key, buildKey(key), memberOf(post), WINDOW))),
      );
      return post;
    },

    async unfollow(userId: number, authorId: number): Promise<void> {
      await db.deleteFollow(userId, authorId);
      await ask(redis.del(feedKey(userId), buildKey(feedKey(userId))));
    },

    async remove(postId: number): Promise<void> {
      await db.deletePost(postId);
      await ask(redis.set(postKey(postId), DELETED, 'PX', POST_TTL_MS));
    },
  };
}
