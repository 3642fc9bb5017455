import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/** Where the entry of a key lives. The braces keep it in one cluster slot with its fence. */
export const entryKey = (key: string): string => `versions:entry:{${key}}`;

/** Where the fence of a key lives. */
export const fenceKey = (key: string): string => `versions:fence:{${key}}`;

/** @throws {RangeError} unless the id is a positive safe integer. Provided. */
export function articleKey(id: number): string {
  if (!Number.isSafeInteger(id) || id < 1) throw new RangeError(`no article id: ${id}`);
  return `article:${id}`;
}

/**
 * A BIGINT UNSIGNED in decimal, as text: '0', or digits of which the first is not 0. Text, because a number of
 * JavaScript or Lua is exact up to 2^53 only.
 */
export type Version = string;

/** @throws {RangeError} unless the text is a {@link Version}: '007' is longer than '8', and not newer. Provided. */
export function requireVersion(version: Version): void {
  if (!/^(?:0|[1-9]\d{0,19})$/.test(version)) throw new RangeError(`no version: ${JSON.stringify(version)}`);
}

/** The text of an entry: the version, a blank, the value as JSON. Lua finds the version with `^%d+`. Provided. */
export const encode = (version: Version, value: unknown): string => `${version} ${JSON.stringify(value)}`;

/** Each call gives a value of its own. @throws when the text is no entry. Provided. */
export function decode<V>(text: string): { readonly version: Version; readonly value: V } {
  const [, version, json] = /^(\d+) (.+)$/s.exec(text) ?? [];
  if (version === undefined || json === undefined) throw new TypeError('no entry');
  return { version, value: JSON.parse(json) as V };
}

/** What Redis knows of a key. `fence`: no value, but nothing older than `version` may be stored. */
export type Held<V> =
  | { readonly kind: 'value'; readonly version: Version; readonly value: V }
  | { readonly kind: 'fence'; readonly version: Version }
  | { readonly kind: 'miss' };

/**
 * Each method rejects when Redis fails. Methods that take a version reject with a {@link RangeError} when
 * {@link requireVersion} refuses it; nothing is sent then.
 */
export interface VersionedCache<V> {
  /**
   * The value, if there is one, else the fence, if there is one. An entry that {@link decode} refuses is no value,
   * even if it begins with a version.
   */
  get(key: string): Promise<Held<V>>;
  /**
   * Stores the value at {@link entryKey} for ttlMs, unless the entry or the fence is newer than `version`. An equal
   * version stores again: two reads of one version hold the same row. An entry whose bytes begin with no version is
   * overwritten. The fence stays, beside a newer entry too. Comparison and SET are one step in Redis.
   * @returns whether it was stored
   */
  setIfNewer(key: string, version: Version, value: V): Promise<boolean>;
  /**
   * The writer's invalidation: from here on, for fenceMs, nothing older than `version` is stored or answered, whatever
   * becomes of the entry in the meantime. The fence lies at {@link fenceKey}, the version as text. An older entry is
   * deleted in the same step; one that is as new or newer stays. A fence is never lowered: with an older version than
   * it holds, it stays as high as it is. So it may be raised again, late and in any order; each time, its fenceMs begins
   * anew.
   */
  raise(key: string, version: Version): Promise<void>;
}

// #region older
/** A longer number is the larger one; of equal length, text order is number order. */
const OLDER = 'local function older(a, b) return #a < #b or (#a == #b and a < b) end';
// #endregion

// #region scripts
/** The versions that Redis holds: text, or nil and false. */
const HELD = `${OLDER}
  local entry = string.match(redis.call('GET', KEYS[1]) or '', '^%d+')
  local fence = redis.call('GET', KEYS[2])`;

/** KEYS: entry, fence. ARGV: the version, the entry, its TTL in ms. */
const SET_IF_NEWER = `${HELD}
  if entry and older(ARGV[1], entry) or fence and older(ARGV[1], fence) then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1`;

/** KEYS: entry, fence. ARGV: the version, the fence's TTL in ms. */
const RAISE = `${HELD}
  if not fence or older(fence, ARGV[1]) then fence = ARGV[1] end
  redis.call('SET', KEYS[2], fence, 'PX', ARGV[2])
  if not entry or older(entry, fence) then redis.call('DEL', KEYS[1]) end`;
// #endregion

/**
 * A cache in which a version outranks every older one, and a writer can say so before there is a value.
 * @param redis has a `commandTimeout`, so that each command settles in bounded time, and keeps no queue while it is
 *   offline (`cacheClientOptions` of 2.1): a fill that is sent minutes later finds no fence any more
 * @param ttlMs how long a value lives (ms)
 * @param fenceMs how long a fence stands (ms): longer than anyone can still hold a row that he read from before the
 *   write, from a copy that lags or in a snapshot that is open
 */
export function createVersionedCache<V>({
  redis,
  ttlMs,
  fenceMs,
}: {
  readonly redis: Redis;
  readonly ttlMs: number;
  readonly fenceMs: number;
}): VersionedCache<V> {
  return {
    // #region cache
    async get(key) {
      const [entry, fence] = await redis.mget(entryKey(key), fenceKey(key));
      if (entry) {
        try {
          return { kind: 'value', ...decode<V>(entry) };
        } catch {}
      }
      return fence ? { kind: 'fence', version: fence } : { kind: 'miss' };
    },

    async setIfNewer(key, version, value) {
      requireVersion(version);
      const entry = encode(version, value);
      return (await redis.eval(SET_IF_NEWER, 2, entryKey(key), fenceKey(key), version, entry, ttlMs)) === 1;
    },

    async raise(key, version) {
      requireVersion(version);
      await redis.eval(RAISE, 2, entryKey(key), fenceKey(key), version, fenceMs);
    },
    // #endregion
  };
}

export interface Article {
  readonly id: number;
  readonly title: string;
  readonly version: Version;
}

/**
 * The row of an article, removed or not; `removed` is 0 or 1, the version a text.
 * The table: articles (id BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(200), version BIGINT UNSIGNED, deleted_at DATETIME(3) NULL).
 * A removed article keeps its row, so its version never starts again. Provided.
 */
export const SELECT_ARTICLE = `
  SELECT id, title, CAST(version AS CHAR) AS version, deleted_at IS NOT NULL AS removed
  FROM articles WHERE id = ?`;

/** What a database says of an article. */
export interface Known {
  /** null when it was removed, or has never been there. */
  readonly article: Article | null;
  /** That of the row, which is born with 1; '0' when there is none: an absence is older than every row. */
  readonly version: Version;
}

/** Asks the primary or the copy. Provided. */
export async function select(db: Pool, id: number): Promise<Known> {
  const [[row]] = await db.execute<RowDataPacket[]>(SELECT_ARTICLE, [id]);
  if (!row) return { article: null, version: '0' };
  const { title, version } = row;
  return { article: row.removed ? null : { id, title, version }, version };
}

/** Runs `work` in a transaction and commits. When one of them fails, rolls back and throws what has failed. Provided. */
export async function transaction<T>(db: Pool, work: (connection: PoolConnection) => Promise<T>): Promise<T> {
  const connection = await db.getConnection();
  try {
    await connection.beginTransaction();
    const result = await work(connection);
    await connection.commit();
    connection.release();
    return result;
  } catch (error) {
    // A connection that cannot roll back is closed: the server rolls back then.
    await connection.rollback().then(
      () => connection.release(),
      () => connection.destroy(),
    );
    throw error;
  }
}

/** MySQL has committed, and Redis has not confirmed the fence. Its owner raises it again, from the outbox of 3.2 say. */
export class UnfencedWriteError extends Error {
  override readonly name = 'UnfencedWriteError';

  constructor(
    readonly key: string,
    readonly version: Version,
    cause: unknown,
  ) {
    super(`version ${version} of ${key} is committed, but not fenced: raise it again`, { cause });
  }
}

/**
 * After a write has resolved, and as long as its fence stands, no find that begins later answers an older version,
 * however far the copy lags.
 */
export interface Articles {
  /**
   * The article, or null when there is none; an absence is cached like an article, under version '0' when the article has
   * never been there.
   * - A value in Redis is the answer.
   * - A miss: asks the copy and stores what it says. When Redis refuses that as too old, it is not the answer either: asks
   *   the primary.
   * - A fence: the copy may be behind it. Asks the primary, at once or when the copy's row is older than the fence:
   *   then that row is not the answer, whatever becomes of its store.
   * - Redis does not answer: nobody knows of a fence. Asks the primary, and stores nothing.
   *
   * What the primary says is stored too, and it is the answer even when Redis refuses it: each database is asked once at
   * most. A store that fails is no reason to ask again: what was read is the answer.
   *
   * Each find asks Redis itself. It may join the load of another find only if Redis has told both the same, a miss or a
   * fence of one version: what was asked before a write was acknowledged is no answer to a find that begins after it.
   * @throws {RangeError} when {@link articleKey} refuses the id: nothing is sent then; what MySQL answers when the query fails:
   *   the copy does not stand in for the primary
   */
  find(id: number): Promise<Article | null>;
  /**
   * Changes the title, and raises the version of the row by one in the same transaction. Once MySQL has committed,
   * raises the fence to this version.
   * @returns the version that this write has committed, whatever others commit next; null when there is no such
   *   article, or no longer
   * @throws {RangeError} as find does; {@link UnfencedWriteError} when MySQL has committed and the fence was not
   *   confirmed; what MySQL answers when the write fails. It may have committed all the same, if what failed is the
   *   COMMIT (its answer was lost, say): then the fence is raised first, and awaited, and the error is that of MySQL
   *   even when Redis fails too, of which onCacheError hears
   */
  update(id: number, title: string): Promise<Version | null>;
  /** Sets deleted_at (NOW(3)); else as {@link update}. */
  remove(id: number): Promise<Version | null>;
}

/**
 * Articles from a copy of the database that may lag, through a cache that does not.
 * @param primary takes the writes; a read of it sees every commit
 * @param replica takes the reads after a miss. It may be behind, or sit in a snapshot that was opened long ago
 * @param onCacheError hears of each failure of Redis that no caller is told of; it must not throw
 */
export function createArticles({
  primary,
  replica = primary,
  cache,
  onCacheError = () => {},
}: {
  readonly primary: Pool;
  readonly replica?: Pool;
  readonly cache: VersionedCache<Article | null>;
  readonly onCacheError?: (error: unknown) => void;
}): Articles {
  // #region find
  /** False when Redis knows of something newer. */
  async function fill(key: string, { version, article }: Known): Promise<boolean> {
    try {
      return await cache.setIfNewer(key, version, article);
    } catch (error) {
      onCacheError(error);
      return true;
    }
  }

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
    // There is a fence, or there may be one: the primary alone has every commit.
    const current = await select(primary, id);
    if (held) await fill(key, current);
    return current.article;
  }
  // #endregion

  // #region write
  async function write(id: number, change: string, params: readonly string[]): Promise<Version | null> {
    const key = articleKey(id);
    let version = null as Version | null;
    try {
      await transaction(primary, async (connection) => {
        const [{ affectedRows }] = await connection.execute<ResultSetHeader>(
          `UPDATE articles SET ${change}, version = version + 1 WHERE id = ? AND deleted_at IS NULL`,
          [...params, id],
        );
        if (affectedRows === 0) return;
        // The row is ours until the COMMIT: this is the version that we have made.
        const [[row]] = await connection.execute<RowDataPacket[]>(SELECT_ARTICLE, [id]);
        version = row?.version;
      });
    } catch (error) {
      // The COMMIT may have happened, and a fence too many only sends readers to the primary.
      if (version) await cache.raise(key, version).catch(onCacheError);
      throw error;
    }
    if (version) await fence(key, version);
    return version;
  }

  async function fence(key: string, version: Version): Promise<void> {
    try {
      await cache.raise(key, version);
    } catch (error) {
      throw new UnfencedWriteError(key, version, error);
    }
  }
  // #endregion

  return {
    find,
    update: (id, title) => write(id, 'title = ?', [title]),
    remove: (id) => write(id, 'deleted_at = NOW(3)', []),
  };
}
