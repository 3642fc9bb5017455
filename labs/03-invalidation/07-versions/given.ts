import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';

/** The Redis key of an entry. The braces keep it in one cluster slot with its fence. */
export const entryKey = (key: string): string => `versions:entry:{${key}}`;

/** The Redis key of its fence. The fence is a version. */
export const fenceKey = (key: string): string => `versions:fence:{${key}}`;

/** A BIGINT UNSIGNED as text, without leading zeros. A number of JavaScript or Lua is exact up to 2^53 only. */
export type Version = string;

/** What a client makes of bytes that are not UTF-8. */
const NOT_UTF_8 = '\uFFFD';

/** The text of an entry: the version, a blank, the value as JSON. Lua finds the version with `^%d+`. */
export const encode = (version: Version, value: unknown): string =>
  `${version} ${JSON.stringify(value)}`.replaceAll(NOT_UTF_8, '\\ufffd');

/** @throws when the text is not an entry */
export function decode<V>(text: string): { readonly version: Version; readonly value: V } {
  const [, version, json] = /^(\d+) (.+)$/s.exec(text) ?? [];
  if (version === undefined || json === undefined || text.includes(NOT_UTF_8)) {
    throw new TypeError('not an entry');
  }
  return { version, value: JSON.parse(json) };
}

/** What Redis holds for a key. */
export type Held<V> =
  | { readonly kind: 'value'; readonly version: Version; readonly value: V }
  /** No value, and nothing older than `version` may be stored. */
  | { readonly kind: 'fence'; readonly version: Version }
  | { readonly kind: 'miss' };

export interface Article {
  readonly id: number;
  readonly title: string;
  readonly version: Version;
}

/** In production: @throws RangeError unless the id is a positive safe integer */
export function articleKey(id: number): string {
  if (!Number.isSafeInteger(id) || id < 1) throw new RangeError(`an article id is not ${String(id)}`);
  return `article:${id}`;
}

/**
 * The table: articles (id BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(200), version BIGINT UNSIGNED, deleted_at
 * DATETIME(3) NULL). A row is inserted with version 1.
 */
const SELECT_ARTICLE = `
  SELECT id, title, CAST(version AS CHAR) AS version, deleted_at IS NOT NULL AS removed
  FROM articles WHERE id = ?`;

/** In production: what a database returns for an article. */
export interface Known {
  /** In production: null when it was removed, or has never been there. */
  readonly article: Article | null;
  /** In production: '0' when there is no row. An absence is older than every row. */
  readonly version: Version;
}

/** In production: reads from a database, or in a transaction from its connection. */
export async function select(db: Pick<Pool | PoolConnection, 'execute'>, id: number): Promise<Known> {
  const [[row]] = await db.execute<RowDataPacket[]>(SELECT_ARTICLE, [id]);
  if (!row) return { article: null, version: '0' };
  const { title, version } = row;
  return { article: row.removed ? null : { id, title, version }, version };
}

/** In production: COMMIT was sent and its answer is not known. MySQL may have committed `version`. */
export class CommitUnknownError extends Error {
  override readonly name = 'CommitUnknownError';

  constructor(
    readonly version: Version | null,
    cause: unknown,
  ) {
    super('the answer to COMMIT is not known: the change may be committed', { cause });
  }
}

/** In production: MySQL has committed, and Redis has not confirmed the fence. */
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
 * In production: runs `work` in a transaction and commits; the version that `work` gives is the result.
 * @throws CommitUnknownError when COMMIT fails; what else has failed, after a rollback
 */
export async function transaction(
  db: Pool,
  work: (connection: PoolConnection) => Promise<Version | null>,
): Promise<Version | null> {
  const connection = await db.getConnection();
  try {
    await connection.beginTransaction();
    const version = await work(connection);
    await connection.commit().catch((error: unknown) => {
      throw new CommitUnknownError(version, error);
    });
    connection.release();
    return version;
  } catch (error) {
    // A connection that cannot roll back is closed: the server rolls back then.
    await connection.rollback().then(
      () => connection.release(),
      () => connection.destroy(),
    );
    throw error;
  }
}
