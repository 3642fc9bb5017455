import type { Pool, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/** Posts on a page. */
export const PAGE = 10;

/** Posts of a feed that Redis keeps: the newest. */
export const WINDOW = 40;

/** How long a feed lives in Redis, from its build (ms). */
export const FEED_TTL_MS = 10 * 60_000;

/** How long a post lives in Redis (ms). */
export const POST_TTL_MS = 60 * 60_000;

/** In production: how long a build may take, at most (ms). */
export const BUILD_MS = 10_000;

export interface Post {
  readonly id: number;
  readonly authorId: number;
  /** 13 digits. If two posts have the same time, the one with the larger id is newer. */
  readonly createdMs: number;
  readonly text: string;
}

export type Position = Pick<Post, 'createdMs' | 'id'>;

/** Reads `'1763600000000:42'`. The id may have leading zeros. Returns undefined for any other text. */
export function parsePosition(text = ''): Position | undefined {
  const [, createdMs, id] = /^(\d{13}):(\d{1,16})$/.exec(text) ?? [];
  return id === undefined ? undefined : { createdMs: Number(createdMs), id: Number(id) };
}

export interface Page {
  /** Newest first. */
  readonly posts: readonly Post[];
  /** The cursor of the next page; null after the last one. */
  readonly next: string | null;
}

/** The first PAGE posts as a page. If `posts` has more, there is a next page. */
export const toPage = (posts: readonly Post[], cursorOf: (post: Post) => string): Page => {
  const last = posts.length > PAGE ? posts[PAGE - 1] : undefined;
  return { posts: posts.slice(0, PAGE), next: last ? cursorOf(last) : null };
};

/** The key of a feed, a sorted set. */
export const feedKey = (userId: number): string => `feed:${userId}`;

/** In production: the key of a celebrity's own posts, a sorted set. */
export const authorKey = (authorId: number): string => `author:${authorId}`;

/** The key of a post, as `encode` writes it. */
export const postKey = (id: number): string => `post:${id}`;

/** A client replaces bytes that are not UTF-8 by this character. */
const NOT_UTF_8 = '\uFFFD';

export const encode = (post: Post): string => JSON.stringify(post).replaceAll(NOT_UTF_8, '\\ufffd');

/** Undefined when the text is not a post. */
export function decode(text: string): Post | undefined {
  if (text.includes(NOT_UTF_8)) return undefined;
  try {
    const { id, authorId, createdMs, text: words }: Partial<Record<keyof Post, unknown>> = JSON.parse(text);
    const isPost =
      typeof id === 'number' &&
      typeof authorId === 'number' &&
      typeof createdMs === 'number' &&
      typeof words === 'string';
    return isPost ? { id, authorId, createdMs, text: words } : undefined;
  } catch {
    return undefined;
  }
}

// The tests create and fill them.
export const CREATE_TABLES = [
  'CREATE TABLE IF NOT EXISTS authors (id INT PRIMARY KEY, is_celebrity BOOLEAN NOT NULL)',
  `CREATE TABLE IF NOT EXISTS follows (user_id INT, author_id INT, PRIMARY KEY (user_id, author_id), INDEX (author_id))`,
  `CREATE TABLE IF NOT EXISTS posts (
    id INT AUTO_INCREMENT PRIMARY KEY,
    author_id INT NOT NULL,
    created_ms BIGINT NOT NULL,
    text VARCHAR(500) NOT NULL,
    INDEX (author_id, created_ms, id)
  )`,
];

export interface Window {
  readonly posts: readonly Post[];
  /** In production: the celebrities whom the user follows. */
  readonly celebrities: readonly number[];
}

export type Source = () => Promise<Window>;

const COLUMNS = 'p.id, p.author_id AS authorId, p.created_ms AS createdMs, p.text';
const NEWEST_FIRST = 'ORDER BY p.created_ms DESC, p.id DESC LIMIT ?';
const NEWER_THAN_ALL: Position = { createdMs: Number.MAX_SAFE_INTEGER, id: 0 };

/** Posts come newest first. A write resolves after its commit. */
export class FeedDatabase {
  readonly #pool: Pool;

  constructor(pool: Pool) {
    this.#pool = pool;
  }

  /** In production: a page of the user's feed: the posts that are older than `before`. */
  page(userId: number, limit: number, before = NEWER_THAN_ALL): Promise<Post[]> {
    return this.#posts(
      `FROM follows f JOIN posts p ON p.author_id = f.author_id
       WHERE f.user_id = ? AND (p.created_ms < ? OR p.created_ms = ? AND p.id < ?) ${NEWEST_FIRST}`,
      [userId, before.createdMs, before.createdMs, before.id, limit],
    );
  }

  /** The newest posts of a feed. In production: without the posts of celebrities. */
  async window(userId: number, limit: number): Promise<Window> {
    const posts = await this.#posts(
      `FROM follows f JOIN authors a ON a.id = f.author_id JOIN posts p ON p.author_id = a.id
       WHERE f.user_id = ? AND NOT a.is_celebrity ${NEWEST_FIRST}`,
      [userId, limit],
    );
    const celebrities = await this.#ids(
      'SELECT a.id FROM follows f JOIN authors a ON a.id = f.author_id WHERE f.user_id = ? AND a.is_celebrity',
      userId,
    );
    return { posts, celebrities };
  }

  /** In production: the newest posts of one author. */
  async author(authorId: number, limit: number): Promise<Window> {
    const posts = await this.#posts(`FROM posts p WHERE p.author_id = ? ${NEWEST_FIRST}`, [authorId, limit]);
    return { posts, celebrities: [] };
  }

  /** In production: the posts that have these ids and are not deleted, in any order. */
  async posts(ids: readonly number[]): Promise<Post[]> {
    return ids.length === 0 ? [] : this.#posts('FROM posts p WHERE p.id IN (?)', [ids]);
  }

  /** In production: whether the author has too many followers for a fan-out. */
  async isCelebrity(authorId: number): Promise<boolean> {
    return (await this.#ids('SELECT id FROM authors WHERE id = ? AND is_celebrity', authorId)).length > 0;
  }

  followers(authorId: number): Promise<number[]> {
    return this.#ids('SELECT user_id AS id FROM follows WHERE author_id = ?', authorId);
  }

  async insertPost(authorId: number, text: string): Promise<Post> {
    const createdMs = Date.now();
    const [{ insertId }] = await this.#pool.query<ResultSetHeader>(
      'INSERT INTO posts (author_id, created_ms, text) VALUES (?, ?, ?)',
      [authorId, createdMs, text],
    );
    return { id: insertId, authorId, createdMs, text };
  }

  async deleteFollow(userId: number, authorId: number): Promise<void> {
    await this.#pool.query('DELETE FROM follows WHERE user_id = ? AND author_id = ?', [userId, authorId]);
  }

  /** In production. */
  async deletePost(id: number): Promise<void> {
    await this.#pool.query('DELETE FROM posts WHERE id = ?', [id]);
  }

  async #posts(sql: string, values: unknown[]): Promise<Post[]> {
    const [rows] = await this.#pool.query<(Post & RowDataPacket)[]>(`SELECT ${COLUMNS} ${sql}`, values);
    return rows.map((row) => ({ ...row }));
  }

  async #ids(sql: string, id: number): Promise<number[]> {
    const [rows] = await this.#pool.query<RowDataPacket[]>(sql, [id]);
    return rows.map((row) => Number(row.id));
  }
}
