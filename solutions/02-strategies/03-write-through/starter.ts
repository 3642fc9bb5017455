import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';

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
  throw new Error('not implemented');
}
