import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { transaction, withDeadline } from '#kit/given';
import {
  CACHE_DEADLINE_MS,
  decode,
  encode,
  InvalidChangeError,
  InvalidIdError,
  insertUser,
  selectUser,
  USER_TTL_MS,
  type User,
  type UserData,
  userKey,
  WRITABLE,
} from './given';

export interface Users {
  /**
   * The user, or null when there is none: from Redis, or on a miss from MySQL. An absence need not be cached.
   * @throws what the query of MySQL throws
   */
  find(id: number): Promise<User | null>;
  /** Inserts a user and stores its row in Redis. @throws what MySQL throws */
  create(data: UserData): Promise<User>;
  /**
   * Changes columns and stores the row in Redis, unless Redis has a newer version. Each update raises `version` by one,
   * also when `changes` is empty. Null when there is no such user.
   * @throws what MySQL throws
   */
  update(id: number, changes: Partial<UserData>): Promise<User | null>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** In production: how long one Redis command may take (ms). */
  readonly cacheDeadlineMs?: number;
  /** In production: called with each error of Redis and of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

// #region set-if-newer
/**
 * KEYS: the entry. ARGV: the version, the row, the TTL in ms. Sets the entry unless it is as new already.
 * A longer number is a larger one; of equal length, text order is number order. tonumber() would round beyond 2^53.
 */
const SET_IF_NEWER = `
  local held, new = redis.call('HGET', KEYS[1], 'version'), ARGV[1]
  if held and (#held > #new or (#held == #new and held >= new)) then return 0 end
  redis.call('HSET', KEYS[1], 'version', new, 'row', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 1`;
// #endregion

/** Users by write-through: MySQL first, then Redis, in the order of the versions. */
export function createUsers({
  redis,
  db,
  cacheDeadlineMs = CACHE_DEADLINE_MS,
  onCacheError = () => {},
}: Options): Users {
  const bounded = <T>(answer: Promise<T>) => withDeadline(answer, cacheDeadlineMs);

  // #region store
  async function store(user: User): Promise<void> {
    const key = userKey(user.id);
    try {
      await bounded(redis.eval(SET_IF_NEWER, 1, key, user.version, encode(user), USER_TTL_MS));
    } catch (error) {
      onCacheError(error);
      await remove(key);
    }
  }

  /** Never rejects. An old entry that Redis does not delete ends with its TTL. */
  async function remove(key: string): Promise<void> {
    await bounded(redis.del(key)).catch(onCacheError);
  }
  // #endregion

  // #region find
  async function find(id: number): Promise<User | null> {
    requireId(id);
    const cached = await lookup(userKey(id));
    if (typeof cached === 'object') return cached;
    const user = await selectUser(db, id);
    if (user && cached === 'miss') await store(user);
    return user;
  }

  async function lookup(key: string): Promise<User | 'miss' | 'failed'> {
    let text: string | null;
    try {
      text = await bounded(redis.hget(key, 'row'));
    } catch (error) {
      onCacheError(error);
      return 'failed';
    }
    try {
      return text === null ? 'miss' : decode(text);
    } catch (error) {
      onCacheError(error);
      // Its version may be good, and would keep the row from replacing it.
      await remove(key);
      return 'miss';
    }
  }
  // #endregion

  // #region write
  async function create(data: UserData): Promise<User> {
    const user = await transaction(db, async (connection) =>
      // Read back: what MySQL has made of the data is what a miss will read.
      selectUser(connection, await insertUser(connection, data)),
    );
    if (!user) throw new Error('MySQL has lost the row that it has just inserted');
    await store(user);
    return user;
  }

  async function update(id: number, changes: Partial<UserData>): Promise<User | null> {
    requireId(id);
    const allowed = allowedEntries(changes);
    const assignments = [...allowed.map(([column]) => `${column} = ?`), 'version = version + 1'];
    const values = [...allowed.map(([, value]) => value), id];
    try {
      const user = await transaction(db, async (connection) => {
        await connection.execute(`UPDATE users SET ${assignments.join(', ')} WHERE id = ?`, values);
        // The UPDATE holds the row: nobody can change it before this SELECT.
        return selectUser(connection, id);
      });
      if (user) await store(user);
      return user;
    } catch (error) {
      // Rolled back, or committed with the answer lost: this process cannot know.
      await remove(userKey(id));
      throw error;
    }
  }
  // #endregion

  return { find, create, update };
}

function requireId(id: number): void {
  if (!Number.isSafeInteger(id) || id < 1) throw new InvalidIdError(id);
}

// #region allowed
/** A value can be bound, the name of a column cannot: each must be in the list before it becomes SQL. */
function allowedEntries(changes: Partial<UserData>): [string, string][] {
  const names: readonly string[] = WRITABLE;
  const entries = Object.entries(changes);
  for (const [column, value] of entries) {
    if (!names.includes(column) || typeof value !== 'string') throw new InvalidChangeError(column);
  }
  return entries;
}
// #endregion
