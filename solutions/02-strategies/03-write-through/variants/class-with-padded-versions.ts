import type { Redis } from 'ioredis';
import type { Pool, PoolConnection } from 'mysql2/promise';
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
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  readonly cacheDeadlineMs?: number;
  readonly onCacheError?: (error: unknown) => void;
}

/** BIGINT UNSIGNED has twenty digits at most: padded with zeros, the order of the texts is that of the numbers. */
const DIGITS = 20;

const STORE = `
  local held = redis.call('GETRANGE', KEYS[1], 0, ${DIGITS - 1})
  if held < ARGV[1] then redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3]) end`;

/** The entry is one string: the padded version, then the row. */
class WriteThroughUsers {
  readonly #redis: Redis;
  readonly #db: Pool;
  readonly #deadlineMs: number;
  readonly #report: (error: unknown) => void;

  constructor({ redis, db, cacheDeadlineMs = CACHE_DEADLINE_MS, onCacheError = () => {} }: Options) {
    this.#redis = redis;
    this.#db = db;
    this.#deadlineMs = cacheDeadlineMs;
    this.#report = onCacheError;
  }

  async find(id: number): Promise<User | null> {
    assertId(id);
    const text = await this.#try(this.#redis.get(userKey(id)));
    if (text) {
      try {
        return decode(text.slice(DIGITS));
      } catch (error) {
        this.#report(error);
        await this.#try(this.#redis.del(userKey(id)));
      }
    }
    const user = await selectUser(this.#db, id);
    // `undefined`: Redis has not answered, and would not answer the fill.
    if (user && text !== undefined) await this.#store(user);
    return user;
  }

  async create(data: UserData): Promise<User> {
    const user = await this.#write((connection) => insertUser(connection, data));
    if (!user) throw new Error('the row is gone');
    return user;
  }

  async update(id: number, changes: Partial<UserData>): Promise<User | null> {
    assertId(id);
    const columns = Object.keys(changes);
    for (const column of columns) assertWritable(column, changes);
    try {
      return await this.#write(async (connection) => {
        const set = ['version = version + 1', ...columns.map((column) => `${column} = :${column}`)];
        await connection.query({
          sql: `UPDATE users SET ${set.join(', ')} WHERE id = :id`,
          values: { ...changes, id },
          namedPlaceholders: true,
        });
        return id;
      });
    } catch (error) {
      await this.#try(this.#redis.unlink(userKey(id)));
      throw error;
    }
  }

  async #write(change: (connection: PoolConnection) => Promise<number>): Promise<User | null> {
    const user = await transaction(this.#db, async (connection) =>
      selectUser(connection, await change(connection)),
    );
    if (user && !(await this.#store(user))) await this.#try(this.#redis.unlink(userKey(user.id)));
    return user;
  }

  async #store(user: User): Promise<boolean> {
    const version = user.version.padStart(DIGITS, '0');
    const stored = this.#redis.eval(STORE, 1, userKey(user.id), version, encode(user), USER_TTL_MS);
    return (await this.#try(stored)) !== undefined;
  }

  /** What Redis answers; undefined when it fails. */
  async #try<T>(answer: Promise<T>): Promise<T | undefined> {
    try {
      return await withDeadline(answer, this.#deadlineMs);
    } catch (error) {
      this.#report(error);
      return undefined;
    }
  }
}

export const createUsers = (options: Options) => new WriteThroughUsers(options);

function assertId(id: unknown): asserts id is number {
  if (!Number.isSafeInteger(id) || Number(id) < 1) throw new InvalidIdError(id);
}

function assertWritable(column: string, changes: Partial<UserData>): void {
  const open = WRITABLE.find((name) => name === column);
  if (!open || typeof changes[open] !== 'string') throw new InvalidChangeError(column);
}
