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
  type Post,
  parsePosition,
  postKey,
  type Source,
  toPage,
  WINDOW,
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly db: FeedDatabase;
  readonly onCacheError?: (error: unknown) => void;
}

/** What a feed is, beside its posts. The set itself holds nothing but posts. */
interface About {
  readonly celebrities: readonly number[];
}

const aboutKey = (set: string) => `about:${set}`;
const leaseKey = (set: string) => `lease:${set}`;
const GONE = '-';
/** The padded id; the time is the score. */
const memberOf = (id: number) => String(id).padStart(16, '0');
const cursorOf = ({ createdMs, id }: Post) => `${createdMs}:${memberOf(id)}`;

/** KEYS: set, about. ARGV: time, member, count. @returns about, then members and scores after the position. */
const READ = `
  local about = redis.call('GET', KEYS[2])
  if not about or redis.call('EXISTS', KEYS[1]) == 0 then return nil end
  local found = {}
  if ARGV[1] ~= '' then
    for _, member in ipairs(redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1], 'BYSCORE', 'REV')) do
      if member < ARGV[2] then table.insert(found, member) table.insert(found, ARGV[1]) end
    end
  end
  local max = ARGV[1] == '' and '+inf' or '(' .. ARGV[1]
  for _, part in ipairs(redis.call('ZRANGE', KEYS[1], max, '(0', 'BYSCORE', 'REV', 'LIMIT', 0, ARGV[3], 'WITHSCORES')) do
    table.insert(found, part)
  end
  return {about, unpack(found)}`;

/** KEYS: set, about, lease. ARGV: time, member, most. A build under way is cancelled. */
const ADD = `
  redis.call('DEL', KEYS[3])
  if redis.call('EXISTS', KEYS[1], KEYS[2]) < 2 then return end
  redis.call('ZADD', KEYS[1], ARGV[1], ARGV[2])
  if redis.call('ZREMRANGEBYRANK', KEYS[1], 1, -ARGV[3] - 1) > 0 then
    redis.call('SET', KEYS[2], string.gsub(redis.call('GET', KEYS[2]), '"whole":true', '"whole":false'), 'KEEPTTL')
  end`;

/** KEYS: set, about, lease. ARGV: token, ttl, about, then times and members. */
const FILL = `
  if redis.call('GET', KEYS[3]) ~= ARGV[1] then return end
  redis.call('DEL', KEYS[1], KEYS[3])
  redis.call('ZADD', KEYS[1], 0, '')
  for i = 4, #ARGV, 2 do redis.call('ZADD', KEYS[1], ARGV[i], ARGV[i + 1]) end
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[2])`;

/** Times as scores; a lease that each change takes away; each set has a record beside it. */
class Feeds {
  private readonly redis: Redis;
  private readonly db: FeedDatabase;
  private readonly report: (error: unknown) => void;

  constructor({ redis, db, onCacheError = () => {} }: Options) {
    this.redis = redis;
    this.db = db;
    this.report = onCacheError;
  }

  async page(userId: number, cursor?: string): Promise<Page> {
    return (
      (await this.cachedPage(userId, cursor)) ??
      toPage(await this.db.page(userId, PAGE + 1, parsePosition(cursor)), cursorOf)
    );
  }

  private async cachedPage(userId: number, cursor?: string): Promise<Page | undefined> {
    const own = await this.read(feedKey(userId), cursor, () => this.db.window(userId, WINDOW + 1));
    if (!own) return undefined;
    const stars = own.about.celebrities;
    const merged = await Promise.all(
      stars.map((id) => this.read(authorKey(id), cursor, () => this.db.author(id, WINDOW + 1))),
    );
    const members = [...own.members];
    for (const set of [own, ...merged]) {
      if (!set?.isEnough) return undefined;
      if (set !== own) members.push(...set.members);
    }
    members.sort().reverse();
    const wanted = members.slice(0, PAGE + 1);
    const posts = await this.load(wanted.map((member) => Number(member.split(':')[1])));
    if (posts.length === wanted.length) return toPage(posts, cursorOf);
    const dead = wanted.filter((member) => !posts.some((post) => cursorOf(post) === member));
    const ids = dead.map((member) => member.split(':')[1] ?? '');
    const sets = [feedKey(userId), ...stars.map(authorKey)];
    await Promise.all(sets.map((set) => this.redis.zrem(set, ...ids))).catch(this.report);
    return undefined;
  }

  private async read(set: string, cursor: string | undefined, source: Source) {
    const at = parsePosition(cursor);
    let reply: unknown;
    try {
      reply = await this.redis.eval(
        READ,
        2,
        set,
        aboutKey(set),
        at?.createdMs ?? '',
        at ? memberOf(at.id) : '',
        PAGE + 1,
      );
    } catch (error) {
      this.report(error);
      return undefined;
    }
    if (!Array.isArray(reply)) return this.build(set, cursor, source);
    const [about, ...flat]: string[] = reply;
    const members = flat.flatMap((part, index) => (index % 2 === 0 ? `${flat[index + 1]}:${part}` : []));
    return this.found(JSON.parse(about ?? ''), members);
  }

  private async build(set: string, cursor: string | undefined, source: Source) {
    const token = randomUUID();
    await this.redis.set(leaseKey(set), token, 'PX', BUILD_MS).catch(this.report);
    const { posts, celebrities } = await source();
    const about = { celebrities, whole: posts.length <= WINDOW };
    const kept = posts.slice(0, WINDOW);
    const scored = kept.flatMap(({ createdMs, id }) => [createdMs, memberOf(id)]);
    const keys = [set, aboutKey(set), leaseKey(set)];
    await this.redis
      .eval(FILL, 3, ...keys, token, FEED_TTL_MS, JSON.stringify(about), ...scored)
      .catch(this.report);
    const members = kept.map(cursorOf).filter((member) => cursor === undefined || member < cursor);
    return this.found(about, members);
  }

  private found(about: About & { readonly whole: boolean }, members: readonly string[]) {
    return { about, members: members.slice(0, PAGE + 1), isEnough: about.whole || members.length > PAGE };
  }

  private async load(ids: readonly number[]): Promise<Post[]> {
    if (ids.length === 0) return [];
    const texts = await this.redis.mget(ids.map(postKey)).catch((error: unknown) => {
      this.report(error);
      return undefined;
    });
    const found = new Map<number, Post>();
    const lost = ids.filter((id, at) => {
      const text = texts?.[at];
      const post = text ? decode(text) : undefined;
      if (post) found.set(id, post);
      return !post && text !== GONE;
    });
    const damaged = lost.filter((id) => texts?.[ids.indexOf(id)]);
    if (damaged.length > 0) {
      this.report(new Error(`not posts: ${damaged}`));
      await this.redis.del(damaged.map(postKey)).catch(this.report);
    }
    const pipeline = this.redis.pipeline();
    for (const post of await this.db.posts(lost)) {
      found.set(post.id, post);
      pipeline.set(postKey(post.id), encode(post), 'PX', POST_TTL_MS, 'NX');
    }
    if (texts && lost.length > 0) await pipeline.exec().catch(this.report);
    return ids.flatMap((id) => found.get(id) ?? []);
  }

  async publish(authorId: number, text: string): Promise<Post> {
    const post = await this.db.insertPost(authorId, text);
    const isStar = await this.db.isCelebrity(authorId);
    const sets = isStar ? [authorKey(authorId)] : (await this.db.followers(authorId)).map(feedKey);
    try {
      const pipeline = this.redis.pipeline();
      pipeline.set(postKey(post.id), encode(post), 'PX', POST_TTL_MS);
      for (const set of sets) {
        pipeline.eval(ADD, 3, set, aboutKey(set), leaseKey(set), post.createdMs, memberOf(post.id), WINDOW);
      }
      for (const [error] of (await pipeline.exec()) ?? []) if (error) this.report(error);
    } catch (error) {
      this.report(error);
    }
    return post;
  }

  async unfollow(userId: number, authorId: number): Promise<void> {
    await this.db.deleteFollow(userId, authorId);
    const set = feedKey(userId);
    await this.redis.del(set, aboutKey(set), leaseKey(set)).catch(this.report);
  }

  async remove(postId: number): Promise<void> {
    await this.db.deletePost(postId);
    await this.redis.set(postKey(postId), GONE, 'PX', POST_TTL_MS).catch(this.report);
  }
}

export const createFeeds = (options: Options) => new Feeds(options);
