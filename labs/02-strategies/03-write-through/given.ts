import type { Pool, PoolConnection, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/** How long an entry lives (ms). */
export const USER_TTL_MS = 60_000;

/** In production: how long one Redis command may take (ms). */
export const CACHE_DEADLINE_MS = 50;

/** The columns that a caller may write. */
export const WRITABLE = ['email', 'name', 'locale'] as const;

export type UserData = Readonly<Record<(typeof WRITABLE)[number], string>>;

export interface User extends UserData {
  readonly id: number;
  readonly createdAt: Date;
  /** BIGINT UNSIGNED as decimal text: `'2'`. */
  readonly version: string;
}

export class InvalidIdError extends TypeError {
  override readonly name = 'InvalidIdError';

  constructor(id: unknown) {
    super(`a user id is a positive safe integer, not ${String(id)}`);
  }
}

export class InvalidChangeError extends TypeError {
  override readonly name = 'InvalidChangeError';

  constructor(column: string) {
    super(`${JSON.stringify(column)} must be a text in one of the columns ${WRITABLE.join(', ')}`);
  }
}

export const userKey = (id: number): string => `user:${id}`;

/** What a client makes of bytes that are not UTF-8. */
const NOT_UTF_8 = '\uFFFD';

/** A user as text, for Redis. */
export const encode = (user: User): string => JSON.stringify(user).replaceAll(NOT_UTF_8, '\\ufffd');

/** The reverse of `encode`. @throws TypeError or SyntaxError when the text is not a user */
export function decode(text: string): User {
  const entry: Partial<Record<keyof User, unknown>> = Object(JSON.parse(text));
  const createdAt = new Date(String(entry.createdAt));
  const { id, email, name, locale, version } = entry;
  if (
    typeof id !== 'number' ||
    typeof email !== 'string' ||
    typeof name !== 'string' ||
    typeof locale !== 'string' ||
    typeof version !== 'string' ||
    Number.isNaN(createdAt.getTime()) ||
    text.includes(NOT_UTF_8)
  ) {
    throw new TypeError('not the entry of a user');
  }
  return { id, email, name, locale, createdAt, version };
}

/** The row, or null when there is none. */
export async function selectUser(db: Pool | PoolConnection, id: number): Promise<User | null> {
  const [rows] = await db.execute<(User & RowDataPacket)[]>(
    `SELECT id, email, name, locale, created_at AS createdAt, CAST(version AS CHAR) AS version
     FROM users WHERE id = ?`,
    [id],
  );
  return rows[0] ? { ...rows[0] } : null;
}

/** Inserts a user, in version 1. @returns its id */
export async function insertUser(db: Pool | PoolConnection, data: UserData): Promise<number> {
  const [{ insertId }] = await db.execute<ResultSetHeader>(
    'INSERT INTO users (email, name, locale, created_at) VALUES (?, ?, ?, NOW(3))',
    [data.email, data.name, data.locale],
  );
  return insertId;
}
