import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { Article, Held, Version } from './given';
import { articleKey, decode, encode, entryKey, fenceKey, select } from './given';

/** Each method rejects when Redis fails. */
export interface VersionedCache<V> {
  /** The value; if there is none, the fence. An entry that `decode` refuses counts as no value. */
  get(key: string): Promise<Held<V>>;
  /** Stores the value for ttlMs, unless entry or fence is newer than `version`. @returns whether it was stored */
  setIfNewer(key: string, version: Version, value: V): Promise<boolean>;
  /**
   * Called after the commit of `version`. Deletes an older entry, and leaves a fence for fenceMs: nothing older than
   * it is stored. A raise may come late: it never lowers the fence, but starts its fenceMs again.
   */
  raise(key: string, version: Version): Promise<void>;
}

export interface CacheOptions {
  readonly redis: Redis;
  /** How long a value lives (ms). */
  readonly ttlMs: number;
  /** How long a fence lives (ms). */
  readonly fenceMs: number;
  /** Called with the error of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

// #region core
/** A longer number is the larger one; of equal length, text order is number order. */
const HELD = `
  local function older(a, b) return #a < #b or (#a == #b and a < b) end
  local entry = string.match(redis.call('GET', KEYS[1]) or '', '^%d+')
  local fence = redis.call('GET', KEYS[2])`;

/** KEYS: entry, fence. ARGV: the version, the entry, its TTL in ms. */
const SET_IF_NEWER = `${HELD}
  if entry and older(ARGV[1], entry) or fence and older(ARGV[1], fence) then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1`;

/** KEYS: entry, fence. ARGV: the version, the TTL of the fence in ms. */
const RAISE = `${HELD}
  if not fence or older(fence, ARGV[1]) then fence = ARGV[1] end
  redis.call('SET', KEYS[2], fence, 'PX', ARGV[2])
  if not entry or older(entry, fence) then redis.call('DEL', KEYS[1]) end`;
export function createVersionedCache<V>({
  redis,
  ttlMs,
  fenceMs,
  onCacheError = () => {},
}: CacheOptions): VersionedCache<V> {
  return {
    async get(key: string): Promise<Held<V>> {
      const [entry, fence] = await redis.mget(entryKey(key), fenceKey(key));
      if (entry) {
        try {
          return { kind: 'value', ...decode<V>(entry) };
        } catch (error) {
          onCacheError(error);
        }
      }
      return fence ? { kind: 'fence', version: fence } : { kind: 'miss' };
    },

    async setIfNewer(key: string, version: Version, value: V): Promise<boolean> {
      const entry = encode(version, value);
      return (await redis.eval(SET_IF_NEWER, 2, entryKey(key), fenceKey(key), version, entry, ttlMs)) === 1;
    },

    async raise(key: string, version: Version): Promise<void> {
      await redis.eval(RAISE, 2, entryKey(key), fenceKey(key), version, fenceMs);
    },
  };
}
// #endregion

export interface ArticlesOptions {
  /** In production: takes the writes. A read of it sees every commit. */
  readonly primary: Pool;
  /** In production: takes the reads after a miss. It may lag, or show an old snapshot. */
  readonly replica?: Pool;
  readonly cache: VersionedCache<Article | null>;
  /** In production: called with each error of Redis that no caller gets. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** The plain way to use it: what was read is stored if it is new, and it is the answer. */
export function createArticles({ primary, replica = primary, cache }: ArticlesOptions) {
  const write = async (sql: string, id: number, params: readonly string[]): Promise<Version | null> => {
    await primary.execute(sql, [...params, id]);
    const { version } = await select(primary, id);
    await cache.raise(articleKey(id), version);
    return version;
  };
  return {
    async find(id: number): Promise<Article | null> {
      const key = articleKey(id);
      const held = await cache.get(key);
      if (held.kind === 'value') return held.value;
      const { version, article } = await select(replica, id);
      await cache.setIfNewer(key, version, article);
      return article;
    },
    update: (id: number, title: string) =>
      write('UPDATE articles SET title = ?, version = version + 1 WHERE id = ?', id, [title]),
    remove: (id: number) => write('DELETE FROM articles WHERE id = ?', id, []),
  };
}
