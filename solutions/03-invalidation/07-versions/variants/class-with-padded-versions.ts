import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
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
} from '../given';

/** One script for both: with an entry it stores, without one it raises. Padded to 20 digits, text order is number order. */
const SCRIPT = `
  local function padded(v) return v and string.rep('0', 20 - #v) .. v or '' end
  local entry = padded(string.match(redis.call('GET', KEYS[1]) or '', '^%d+'))
  local fence = padded(redis.call('GET', KEYS[2]) or nil)
  local version, px, text = padded(ARGV[1]), ARGV[2], ARGV[3]
  if text then
    if version < entry or version < fence then return 0 end
    redis.call('PSETEX', KEYS[1], px, text)
    return 1
  end
  if version > fence then redis.call('PSETEX', KEYS[2], px, ARGV[1])
  else redis.call('PEXPIRE', KEYS[2], px) end
  if entry < version or entry < fence then redis.call('DEL', KEYS[1]) end
  return 1`;

interface CacheOptions {
  readonly redis: Redis;
  readonly ttlMs: number;
  readonly fenceMs: number;
  readonly onCacheError?: (error: unknown) => void;
}

class VersionedCache<V> {
  readonly #options: CacheOptions;

  constructor(options: CacheOptions) {
    this.#options = options;
  }

  async get(key: string): Promise<Held<V>> {
    const { redis, onCacheError } = this.#options;
    const [entry, fence] = await redis.mget(entryKey(key), fenceKey(key));
    try {
      if (entry) return { kind: 'value', ...decode<V>(entry) };
    } catch (error) {
      onCacheError?.(error);
    }
    return fence ? { kind: 'fence', version: fence } : { kind: 'miss' };
  }

  async setIfNewer(key: string, version: Version, value: V): Promise<boolean> {
    return (await this.#run(key, version, this.#options.ttlMs, encode(version, value))) === 1;
  }

  async raise(key: string, version: Version): Promise<void> {
    await this.#run(key, version, this.#options.fenceMs);
  }

  #run(key: string, ...args: (string | number)[]): Promise<unknown> {
    return this.#options.redis.eval(SCRIPT, 2, entryKey(key), fenceKey(key), ...args);
  }
}

export const createVersionedCache = <V>(options: CacheOptions) => new VersionedCache<V>(options);

interface ArticlesOptions {
  readonly primary: Pool;
  readonly replica?: Pool;
  readonly cache: Pick<VersionedCache<Article | null>, 'get' | 'setIfNewer' | 'raise'>;
  readonly onCacheError?: (error: unknown) => void;
}

/** The row of the primary is stored in the background: its caller does not need to know whether Redis took it. */
class Articles {
  readonly #primary: Pool;
  readonly #replica: Pool;
  readonly #cache: ArticlesOptions['cache'];
  readonly #report: (error: unknown) => void;

  constructor({ primary, replica = primary, cache, onCacheError = () => {} }: ArticlesOptions) {
    this.#primary = primary;
    this.#replica = replica;
    this.#cache = cache;
    this.#report = onCacheError;
  }

  async find(id: number): Promise<Article | null> {
    const key = articleKey(id);
    let held: Held<Article | null>;
    try {
      held = await this.#cache.get(key);
    } catch (error) {
      this.#report(error);
      return (await select(this.#primary, id)).article;
    }
    if (held.kind === 'value') return held.value;
    if (held.kind === 'miss') {
      const copied = await select(this.#replica, id);
      if ((await this.#store(key, copied)) !== 'refused') return copied.article;
    }
    const current = await select(this.#primary, id);
    void this.#store(key, current);
    return current.article;
  }

  update(id: number, title: string): Promise<Version | null> {
    return this.#write(id, 'UPDATE articles SET title = ?, version = version + 1 WHERE id = ?', [title, id]);
  }

  remove(id: number): Promise<Version | null> {
    return this.#write(id, 'UPDATE articles SET deleted_at = NOW(3), version = version + 1 WHERE id = ?', [
      id,
    ]);
  }

  async #store(key: string, { version, article }: Known): Promise<'stored' | 'refused' | 'unknown'> {
    try {
      return (await this.#cache.setIfNewer(key, version, article)) ? 'stored' : 'refused';
    } catch (error) {
      this.#report(error);
      return 'unknown';
    }
  }

  async #write(id: number, sql: string, params: (string | number)[]): Promise<Version | null> {
    const key = articleKey(id);
    let version: Version | null;
    try {
      version = await transaction(this.#primary, async (connection) => {
        const [rows] = await connection.query<never[]>(
          'SELECT 1 FROM articles WHERE id = ? AND deleted_at IS NULL FOR UPDATE',
          [id],
        );
        if (rows.length === 0) return null;
        await connection.query(sql, params);
        return (await select(connection, id)).version;
      });
    } catch (error) {
      const mayBeCommitted = error instanceof CommitUnknownError ? error.version : null;
      if (mayBeCommitted !== null) await this.#cache.raise(key, mayBeCommitted).catch(this.#report);
      throw error;
    }
    if (version === null) return null;
    try {
      await this.#cache.raise(key, version);
    } catch (error) {
      throw new UnfencedWriteError(key, version, error);
    }
    return version;
  }
}

export const createArticles = (options: ArticlesOptions) => new Articles(options);
