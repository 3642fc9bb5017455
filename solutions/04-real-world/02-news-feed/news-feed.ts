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
} from './given';

export interface Feeds {
  /**
   * Posts of the authors whom the user follows.
   * @param cursor `next` of the page before, which you make; without it, the newest posts
   * @throws what MySQL throws
   */
  page(userId: number, cursor?: string): Promise<Page>;
  /** Stores a post in MySQL, and adds it to the feeds of the author's followers that are in Redis. */
  publish(authorId: number, text: string): Promise<Post>;
  /** In production: ends a follow in MySQL. The author's posts are gone from the next page on. */
  unfollow?(userId: number, authorId: number): Promise<void>;
  /** In production: deletes a post in MySQL. It is gone from the next page on. */
  remove?(postId: number): Promise<void>;
}

export interface Options {
  /** In production: each of its commands settles in bounded time. */
  readonly redis: Redis;
  readonly db: FeedDatabase;
  /** In production: called with each error of Redis, and for a post that cannot be decoded. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

// #region members
/** Padded: members sort as text by time, and by id at equal times. */
const memberOf = ({ createdMs, id }: Position) => `${createdMs}:${String(id).padStart(16, '0')}`;

// Marks are members as well, so that one key holds all of a feed. They sort below all digits.
/** The set holds the newest posts. An empty feed has this member. */
const BUILT = '!';
/** MySQL has no post that is older than those of the set. */
const WHOLE = '!whole';
/** Before the id of a celebrity, whose posts are merged when the feed is read. */
const CELEBRITY = '#';
/** In the place of a deleted post: feeds still have its id. */
const DELETED = 'deleted';
// #endregion

// #region scripts
/** KEYS: set. ARGV: cursor, count. Posts and marks of one moment: the mark of a later one is about other posts. */
const READ = `return {
    redis.call('ZRANGE', KEYS[1], ARGV[1], '[0', 'BYLEX', 'REV', 'LIMIT', 0, ARGV[2]),
    redis.call('ZRANGE', KEYS[1], '-', '(0', 'BYLEX') }`;

/** KEYS: set. ARGV: member, WINDOW. A set that is being built gets the post too. */
const ADD = `
  if redis.call('EXISTS', KEYS[1]) == 0 then return end
  redis.call('ZADD', KEYS[1], 0, ARGV[1])
  local extra = redis.call('ZRANGE', KEYS[1], '+', '[0', 'BYLEX', 'REV', 'LIMIT', ARGV[2], 1)[1]
  if not extra then return end
  redis.call('ZREMRANGEBYLEX', KEYS[1], '[0', '[' .. extra)
  redis.call('ZREM', KEYS[1], '${WHOLE}')`;

/** KEYS: set. ARGV: token, TTL, members. Only adds: a post that has arrived meanwhile stays. */
const FILL = `
  if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return end
  for i = 3, #ARGV do redis.call('ZADD', KEYS[1], 0, ARGV[i]) end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])`;
// #endregion

/** News feeds as sorted sets of post ids. Keys, TTLs, the codec and all SQL are in `given.ts`. */
export function createFeeds({ redis, db, onCacheError = () => {} }: Options): Feeds {
  /** The answer of Redis, or undefined: no caller depends on it. */
  const ask = <T>(answer: Promise<T>) => answer.catch((error: unknown) => void onCacheError(error));

  // #region page
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
  // #endregion

  // #region set
  /** At most PAGE + 1 members after the cursor. Builds a set that is not there. Undefined without Redis. */
  async function membersOf(key: string, cursor: string | undefined, source: Source) {
    const from = cursor ? `(${cursor}` : '+';
    const read = await ask(redis.eval(READ, 1, key, from, PAGE + 1) as Promise<[string[], string[]]>);
    if (!read) return undefined;
    const [members, marks] = read[1].includes(BUILT) ? read : await build(key, source);
    const after = members.filter((member) => !cursor || member < cursor).slice(0, PAGE + 1);
    return {
      members: after,
      celebrities: marks.flatMap((mark) => (mark.startsWith(CELEBRITY) ? Number(mark.slice(1)) : [])),
      mayLack: after.length <= PAGE && !marks.includes(WHOLE),
    };
  }

  async function build(key: string, source: Source): Promise<[members: string[], marks: string[]]> {
    const token = `$token:${randomUUID()}`;
    // Before the first SELECT: from now on, new posts are added, and an unfollow removes the token.
    await ask(redis.multi().zadd(key, 0, token).pexpire(key, BUILD_MS, 'NX').exec());
    const { posts, celebrities } = await source();
    const members = posts.slice(0, WINDOW).map(memberOf);
    const marks = [BUILT, ...celebrities.map((id) => CELEBRITY + id)];
    if (posts.length <= WINDOW) marks.push(WHOLE);
    await ask(redis.eval(FILL, 1, key, token, FEED_TTL_MS, ...marks, ...members));
    return [members, marks];
  }
  // #endregion

  // #region bodies
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
  // #endregion

  return {
    page,

    // #region write
    async publish(authorId, text) {
      const post = await db.insertPost(authorId, text);
      await store(post, 'NX');
      const isCelebrity = await db.isCelebrity(authorId);
      const keys = isCelebrity ? [authorKey(authorId)] : (await db.followers(authorId)).map(feedKey);
      await ask(Promise.all(keys.map((key) => redis.eval(ADD, 1, key, memberOf(post), WINDOW))));
      return post;
    },

    async unfollow(userId, authorId) {
      await db.deleteFollow(userId, authorId);
      await ask(redis.del(feedKey(userId)));
    },

    async remove(postId) {
      await db.deletePost(postId);
      await ask(redis.set(postKey(postId), DELETED, 'PX', POST_TTL_MS));
    },
    // #endregion
  };
}
