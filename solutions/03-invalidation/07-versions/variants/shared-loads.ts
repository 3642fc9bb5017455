import type { Redis } from 'ioredis';
import type { Pool, ResultSetHeader } from 'mysql2/promise';
import { InFlight } from '#kit/given';
import {
  type Article,
  articleKey,
  decode,
  encode,
  entryKey,
  fenceKey,
  type Held,
  type Known,
  select,
  UnfencedWriteError,
  type Version,
} from '../given';

const LIB = `
  local function newer(a, b)
    if not a or not b then return a and true end
    if #a ~= #b then return #a > #b end
    return a > b
  end
  local entry = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+)')
  local fence = redis.call('GET', KEYS[2])`;

interface CacheOptions {
  readonly redis: Redis;
  readonly ttlMs: number;
  readonly fenceMs: number;
  readonly onCacheError?: (error: unknown) => void;
}

export function createVersionedCache<V>({ redis, ttlMs, fenceMs, onCacheError }: CacheOptions) {
  const run = (body: string, key: string, ...args: (string | number)[]) =>
    redis.eval(LIB + body, 2, entryKey(key), fenceKey(key), ...args);

  return {
    async get(key: string): Promise<Held<V>> {
      const replies = await redis.multi().get(entryKey(key)).get(fenceKey(key)).exec();
      const [entry, fence] = (replies ?? []).map(([, reply]) => reply);
      if (typeof entry === 'string') {
        try {
          const { version, value } = decode<V>(entry);
          return { kind: 'value', version, value };
        } catch (error) {
          onCacheError?.(error);
        }
      }
      return typeof fence === 'string' ? { kind: 'fence', version: fence } : { kind: 'miss' };
    },

    setIfNewer: async (key: string, version: Version, value: V): Promise<boolean> =>
      Boolean(
        await run(
          `if newer(entry, ARGV[1]) or newer(fence, ARGV[1]) then return nil end
           return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])`,
          key,
          version,
          encode(version, value),
          ttlMs,
        ),
      ),

    async raise(key: string, version: Version): Promise<void> {
      await run(
        `local high = newer(fence, ARGV[1]) and fence or ARGV[1]
         redis.call('SET', KEYS[2], high, 'PX', ARGV[2])
         if newer(high, entry) then redis.call('DEL', KEYS[1]) end`,
        key,
        version,
        fenceMs,
      );
    },
  };
}

interface ArticlesOptions {
  readonly primary: Pool;
  readonly replica?: Pool;
  readonly cache: ReturnType<typeof createVersionedCache<Article | null>>;
  readonly onCacheError?: (error: unknown) => void;
}

/** Finds that Redis has told a miss share one load. A commit without an answer is followed by a read of the row. */
export function createArticles({
  primary,
  replica = primary,
  cache,
  onCacheError = () => {},
}: ArticlesOptions) {
  const misses = new InFlight<Article | null>();

  async function find(id: number): Promise<Article | null> {
    const key = articleKey(id);
    const held = await cache.get(key).catch((error: unknown) => void onCacheError(error));
    if (!held) return (await select(primary, id)).article;
    if (held.kind === 'value') return held.value;
    if (held.kind === 'fence') return loadCurrent(id, key);
    // After a write there is a fence: no find that begins later is told a miss, and joins.
    const article = await misses.run(key, () => load(id, key));
    return article && { ...article };
  }

  async function load(id: number, key: string): Promise<Article | null> {
    const copied = await select(replica, id);
    return (await store(key, copied)) === false ? loadCurrent(id, key) : copied.article;
  }

  async function loadCurrent(id: number, key: string): Promise<Article | null> {
    const current = await select(primary, id);
    await store(key, current);
    return current.article;
  }

  const store = async (key: string, { version, article }: Known) =>
    cache.setIfNewer(key, version, article).catch((error: unknown) => void onCacheError(error));

  /** One statement that commits by itself. The version stays in the session, where no other write sees it. */
  async function write(id: number, change: string, params: string[]): Promise<Version | null> {
    const key = articleKey(id);
    const connection = await primary.getConnection();
    try {
      const [{ affectedRows }] = await connection.execute<ResultSetHeader>(
        `UPDATE articles SET ${change}, version = (@committed := version + 1) WHERE id = ? AND deleted_at IS NULL`,
        [...params, id],
      );
      if (affectedRows === 0) return null;
      const [rows] = await connection.query<never[]>('SELECT CAST(@committed AS CHAR) AS version');
      const version = String(Object(rows[0]).version);
      await cache.raise(key, version).catch((error: unknown) => {
        throw new UnfencedWriteError(key, version, error);
      });
      return version;
    } catch (error) {
      if (error instanceof UnfencedWriteError) throw error;
      const { version } = await select(primary, id);
      await cache.raise(key, version).catch(onCacheError);
      throw error;
    } finally {
      connection.release();
    }
  }

  return {
    find,
    update: (id: number, title: string) => write(id, 'title = ?', [title]),
    remove: (id: number) => write(id, 'deleted_at = NOW(3)', []),
  };
}
