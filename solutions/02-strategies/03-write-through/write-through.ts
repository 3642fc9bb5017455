import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/**
 * The longest that an entry lives (ms): what bounds an old value that nothing else has ended. Keep it short, and set it
 * in the step that stores the row: a crash between two steps leaves an entry that never ends.
 */
export const USER_TTL_MS = 60_000;

/** How long one Redis command may take (ms) before the store goes on without it. */
export const CACHE_DEADLINE_MS = 50;

/** The columns that a caller may write, and no others. */
export const WRITABLE = ['email', 'name', 'locale'] as const;

/** What a caller may write. */
export type UserData = Readonly<Record<(typeof WRITABLE)[number], string>>;

export interface User extends UserData {
  readonly id: number;
  readonly createdAt: Date;
  /** BIGINT UNSIGNED in decimal, as text: a number is exact up to 2^53 only. Rises by one with each update. */
  readonly version: string;
}

export class InvalidChangeError extends TypeError {
  override readonly name = 'InvalidChangeError';

  constructor(column: string) {
    super(`${JSON.stringify(column)} must be a text in one of the columns ${WRITABLE.join(', ')}`);
  }
}

/**
 * The name of a user's entry.
 * @throws {RangeError} unless the id is a positive safe integer. Provided.
 */
export function userKey(id: number): string {
  if (!Number.isSafeInteger(id) || id < 1) throw new RangeError(`no user id: ${id}`);
  return `user:${id}`;
}

/** The whole row of a user, with the version as text. Provided. */
export const SELECT_USER = `
  SELECT id, email, name, locale, created_at AS createdAt, CAST(version AS CHAR) AS version
  FROM users WHERE id = ?`;

/** A user as text, for the cache. Provided. */
export const encode = (user: User): string => JSON.stringify(user);

/** @throws when the text is no user. Provided. */
export function decode(text: string): User {
  const user = JSON.parse(text) as User;
  const createdAt = new Date(user.createdAt);
  if (Number.isNaN(createdAt.getTime())) throw new TypeError('no user');
  return { ...user, createdAt };
}

/** Rejects when `answer` takes longer than `ms`; what becomes of it later is nobody's concern. Provided. */
export async function withDeadline<T>(answer: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const expiry = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Redis has not answered within ${ms} ms`)), ms);
  });
  return Promise.race([answer, expiry]).finally(() => clearTimeout(timer));
}

export interface Users {
  /**
   * The user, or null when there is none. From Redis when it is there, else from MySQL, and then stored in Redis unless
   * Redis failed or holds a newer version. An absence is not stored. Never fails because of Redis: an entry that `decode`
   * refuses is a miss, and the row from MySQL takes its place.
   * @throws {RangeError} when `userKey` refuses the id: nothing is sent then; what MySQL answers when the query fails
   */
  find(id: number): Promise<User | null>;
  /**
   * Inserts a user and, once MySQL has committed, stores the whole row in Redis. Resolves with that row.
   * `created_at` has no default: the INSERT sends NOW(3).
   * @throws {InvalidChangeError} when `data` has a key that is not in WRITABLE, lacks one, or holds what is no text:
   * nothing is sent then; what MySQL answers when the insert fails
   */
  create(data: UserData): Promise<User>;
  /**
   * Changes columns and raises the version by one, in one transaction. Once MySQL has committed, stores the whole row
   * in Redis, unless Redis holds a newer version. Resolves with the row as this update has committed it, whatever others
   * commit next, or with null when there is no such user. No changes (`{}`), or the values that are there already, are an update like any other.
   *
   * After the commit nothing is a failure: when Redis does not take the row, or does not say in time that it has, its
   * entry is deleted; when Redis does not even take the DEL, USER_TTL_MS ends the old value. Redis delays the answer by two deadlines at most.
   *
   * When the update rejects, the entry is deleted too: a COMMIT whose answer was lost may have happened.
   * @throws {RangeError} when `userKey` refuses the id, {@link InvalidChangeError} when `changes` has a key that is not in
   * WRITABLE or holds what is no text: nothing is sent then; what MySQL answers when the update fails
   */
  update(id: number, changes: Partial<UserData>): Promise<User | null>;
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

/**
 * Users by write-through: MySQL first, then Redis, in the order of the row's version.
 * @param redis with any options: the store itself waits no longer than `cacheDeadlineMs` (ms) for each command
 * @param onCacheError hears of each failure of Redis and of each entry that `decode` refuses; it must not throw
 */
export function createUsers({
  redis,
  db,
  cacheDeadlineMs = CACHE_DEADLINE_MS,
  onCacheError = () => {},
}: {
  readonly redis: Redis;
  readonly db: Pool;
  readonly cacheDeadlineMs?: number;
  readonly onCacheError?: (error: unknown) => void;
}): Users {
  const bounded = <T>(answer: Promise<T>) => withDeadline(answer, cacheDeadlineMs);

  // #region store
  async function store(user: User): Promise<void> {
    const key = userKey(user.id);
    await bounded(redis.eval(SET_IF_NEWER, 1, key, user.version, encode(user), USER_TTL_MS)).catch(
      async (error: unknown) => {
        onCacheError(error);
        await forget(key);
      },
    );
  }

  /** What Redis does not take either, the TTL ends. */
  async function forget(key: string): Promise<void> {
    await bounded(redis.del(key)).catch(onCacheError);
  }
  // #endregion

  async function lookUp(key: string): Promise<User | 'miss' | 'failed'> {
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
      // Its version may be good, and would keep the row from taking its place.
      await forget(key);
      return 'miss';
    }
  }

  return {
    // #region find
    async find(id) {
      const cached = await lookUp(userKey(id));
      if (typeof cached === 'object') return cached;
      const user = await select(db, id);
      if (user && cached === 'miss') await store(user);
      return user;
    },
    // #endregion

    async create(data) {
      const columns = allowed(data);
      const absent = WRITABLE.find((column) => !columns.has(column));
      if (absent) throw new InvalidChangeError(absent);
      const user = await transaction(db, async (connection) => {
        const [{ insertId }] = await connection.execute<ResultSetHeader>(
          `INSERT INTO users (${[...columns.keys()].join(', ')}, created_at) VALUES (?, ?, ?, NOW(3))`,
          [...columns.values()],
        );
        // Read back: what the database made of it is what a miss will read.
        return select(connection, insertId);
      });
      if (!user) throw new Error('MySQL lost the row that it has just inserted');
      await store(user);
      return user;
    },

    // #region update
    async update(id, changes) {
      const key = userKey(id);
      const columns = allowed(changes);
      const assignments = [...columns.keys()].map((column) => `${column} = ?, `).join('');
      try {
        const user = await transaction(db, async (connection) => {
          await connection.execute(`UPDATE users SET ${assignments}version = version + 1 WHERE id = ?`, [
            ...columns.values(),
            id,
          ]);
          // The UPDATE holds the row: this is the very row that belongs to the version.
          return select(connection, id);
        });
        if (user) await store(user);
        return user;
      } catch (error) {
        // Rolled back, or committed with the answer lost: nobody knows.
        await forget(key);
        throw error;
      }
    },
    // #endregion
  };
}

// #region allowed
/** Names cannot be bound as values can: each must be one of ours before it becomes SQL. */
function allowed(changes: Partial<UserData>): Map<string, string> {
  const names: readonly string[] = WRITABLE;
  const entries = Object.entries(changes);
  for (const [column, value] of entries) {
    if (!names.includes(column) || typeof value !== 'string') throw new InvalidChangeError(column);
  }
  return new Map(entries);
}
// #endregion

async function select(db: Pool | PoolConnection, id: number): Promise<User | null> {
  const [rows] = await db.execute<(User & RowDataPacket)[]>(SELECT_USER, [id]);
  return rows[0] ? { ...rows[0] } : null;
}

async function transaction<T>(db: Pool, work: (connection: PoolConnection) => Promise<T>): Promise<T> {
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
