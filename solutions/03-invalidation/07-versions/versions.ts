import type { Redis } from 'ioredis';
import type { Pool, ResultSetHeader } from 'mysql2/promise';
import {
  type Article,
  articleKey,
  CommitUnknownError,
  decode,
  encode,
  entryKey,
  fenceKey,
  type Held,
  type Known,
  select,
  transaction,
  UnfencedWriteError,
  type Version,
} from './given';

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

/** Values with versions. Keys and the codec are in `given.ts`. */
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

/** In production: a find that begins after a write has resolved answers this version or a newer one. */
export interface Articles {
  /**
   * In production: the article, or null when there is none, which is cached too. Each database is asked once at most.
   * @throws what MySQL says when a query fails
   */
  find(id: number): Promise<Article | null>;
  /**
   * In production: changes the title. @returns the version that this write has committed; null when there is no such
   * article. @throws UnfencedWriteError; what MySQL says when the write fails
   */
  update(id: number, title: string): Promise<Version | null>;
  /** In production: as update, and the article is gone. */
  remove(id: number): Promise<Version | null>;
}

export interface ArticlesOptions {
  /** In production: takes the writes. A read of it sees every commit. */
  readonly primary: Pool;
  /** In production: takes the reads after a miss. It may lag, or show an old snapshot. */
  readonly replica?: Pool;
  readonly cache: VersionedCache<Article | null>;
  /** In production: called with each error of Redis that no caller gets. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** In production: articles from a replica that may lag. The table, its SELECT and the transaction are in `given.ts`. */
export function createArticles({
  primary,
  replica = primary,
  cache,
  onCacheError = () => {},
}: ArticlesOptions): Articles {
  // #region find
  async function find(id: number): Promise<Article | null> {
    const key = articleKey(id);
    const held = await cache.get(key).catch((error: unknown) => {
      onCacheError(error);
      return undefined;
    });
    if (held?.kind === 'value') return held.value;
    if (held?.kind === 'miss') {
      const copied = await select(replica, id);
      if (await fill(key, copied)) return copied.article;
    }
    // There is a fence, or there may be one: only the primary has every commit.
    const current = await select(primary, id);
    if (held) await fill(key, current);
    return current.article;
  }

  /** False when Redis knows something newer. */
  async function fill(key: string, { version, article }: Known): Promise<boolean> {
    try {
      return await cache.setIfNewer(key, version, article);
    } catch (error) {
      onCacheError(error);
      return true;
    }
  }
  // #endregion

  // #region write
  async function write(id: number, change: string, params: readonly string[]): Promise<Version | null> {
    const key = articleKey(id);
    const version = await commit(id, change, params).catch(async (error: unknown) => {
      // A needless fence only sends readers to the primary.
      if (error instanceof CommitUnknownError && error.version) {
        await cache.raise(key, error.version).catch(onCacheError);
      }
      throw error;
    });
    if (version === null) return null;
    await cache.raise(key, version).catch((error: unknown) => {
      throw new UnfencedWriteError(key, version, error);
    });
    return version;
  }

  const commit = (id: number, change: string, params: readonly string[]) =>
    transaction(primary, async (connection) => {
      const [{ affectedRows }] = await connection.execute<ResultSetHeader>(
        `UPDATE articles SET ${change}, version = version + 1 WHERE id = ? AND deleted_at IS NULL`,
        [...params, id],
      );
      // The row is locked until the COMMIT: this is the version that this write has made.
      return affectedRows === 0 ? null : (await select(connection, id)).version;
    });
  // #endregion

  return {
    find,
    update: (id, title) => write(id, 'title = ?', [title]),
    remove: (id) => write(id, 'deleted_at = NOW(3)', []),
  };
}
