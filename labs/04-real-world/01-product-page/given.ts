import type { RedisOptions } from 'ioredis';
import type { Pool, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { parseJson, transaction } from '#kit/given';

export interface Core {
  readonly id: number;
  readonly name: string;
  /** DECIMAL as text: `'12.90'`. */
  readonly price: string;
  readonly description: string;
  readonly brand: string | null;
  readonly categoryId: number;
}

export interface Category {
  readonly id: number;
  readonly name: string;
}

export interface Rating {
  readonly average: number | null;
  readonly count: number;
}

export interface Stock {
  readonly left: number;
  readonly views: number;
}

export interface Listed {
  readonly id: number;
  readonly name: string;
  readonly price: string;
}

/** The parts of a page. */
export interface Parts {
  readonly core: Core | null;
  readonly category: Category | null;
  readonly rating: Rating;
  readonly stock: Stock | null;
  readonly list: readonly Listed[];
}

export type Part = keyof Parts;
export type Value = Parts[Part];
export const PARTS: readonly Part[] = ['core', 'category', 'rating', 'stock', 'list'];

/** The page's address: `/categories/1/products/7`. */
export interface Address {
  readonly category: number;
  readonly product: number;
}

/** The id that a part belongs to: all pages of a category share its `category` and its `list`. */
export const idOf = (part: Part, { category, product }: Address): number =>
  part === 'category' || part === 'list' ? category : product;

/** `page:core:7`, `page:list:1` */
export const partKey = (part: Part, id: number): string => `page:${part}:${id}`;

/** How long each part lives; `absent`: a part that is null. */
export const TTL_MS = {
  core: 600_000,
  category: 3_600_000,
  rating: 300_000,
  stock: 20_000,
  /** Search results too. */
  list: 120_000,
  absent: 30_000,
  // In production: the TTL of a stock below LOW_STOCK, and of the stock of a product with more than POPULAR_VIEWS.
  lowStock: 6_000,
  popularStock: 60_000,
} as const;

/** In production: an optional part is null when MySQL does not give it in time. */
export interface Page {
  readonly core: Core;
  readonly stock: Stock;
  readonly category: Category | null;
  readonly rating: Rating | null;
  readonly list: readonly Listed[] | null;
}

/** Null when there is no such product in this category. */
export function toPage({ category: id }: Address, parts: Partial<Record<Part, Value>>): Page | null {
  const { core, stock, category = null, rating = null, list = null } = parts as Partial<Parts>;
  return core && stock && core.categoryId === id ? { core, stock, category, rating, list } : null;
}

export interface Search {
  readonly text: string;
  /** From 1. */
  readonly page: number;
  readonly size: number;
}

/** The first part of the search query. */
export const SELECT_FOUND = 'SELECT id, name, price FROM products WHERE name LIKE ?';

/** In production: the options of the Redis client. Each command resolves or rejects within DEADLINE_MS. */
export const CACHE_CLIENT: RedisOptions = {
  commandTimeout: 50,
  connectTimeout: 1000,
  socketTimeout: 500,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  retryStrategy: (attempt) => Math.min(attempt * 50, 1000),
};
export const DEADLINE_MS = 50;

/** In production: how long MySQL may take to load a part, or to search (ms). */
export const LOAD_MS = 1000;

/** In production: a page is worth showing without these. */
export const OPTIONAL: ReadonlySet<Part> = new Set<Part>(['category', 'rating', 'list']);

/** In production: a stock with fewer pieces is low. */
export const LOW_STOCK = 10;

/** In production: a product with more views is popular. */
export const POPULAR_VIEWS = 10_000;

/** In production: the largest search that is answered; `text` in UTF-16 units. */
export const LARGEST = { text: 100, page: 20, size: 50 };

export class InvalidSearchError extends RangeError {
  override readonly name = 'InvalidSearchError';
}

export const encode = (value: Value): string => JSON.stringify(value);

/** @throws TypeError for bytes that do not hold this part */
export function decode(part: Part, bytes: Uint8Array): Value {
  const value = parseJson(bytes);
  if (!isPart[part](value)) throw new TypeError(`not the ${part} of a product page`);
  return value as Value;
}

type Types = Readonly<Record<string, string>>;
const fits = (value: unknown, types: Types): boolean =>
  Object(value) === value &&
  Object.entries(types).every(([name, type]) => typeof Object(value)[name] === type);
const orNull = (types: Types) => (value: unknown) => value === null || fits(value, types);

const isPart: Readonly<Record<Part, (value: unknown) => boolean>> = {
  core: orNull({
    id: 'number',
    name: 'string',
    price: 'string',
    description: 'string',
    categoryId: 'number',
  }),
  category: orNull({ id: 'number', name: 'string' }),
  rating: (value) => fits(value, { count: 'number' }),
  stock: orNull({ left: 'number', views: 'number' }),
  list: (value) =>
    Array.isArray(value) &&
    value.every((each) => fits(each, { id: 'number', name: 'string', price: 'string' })),
};

const LIST_SIZE = 8;

const QUERIES: Readonly<Record<Part, string>> = {
  core: `SELECT p.id, p.name, p.price, p.description, b.name AS brand, p.category_id AS categoryId
    FROM products p LEFT JOIN brands b ON b.id = p.brand_id WHERE p.id = ?`,
  category: 'SELECT id, name FROM categories WHERE id = ?',
  rating:
    'SELECT CAST(AVG(rating) AS DOUBLE) AS average, COUNT(*) AS count FROM reviews WHERE product_id = ?',
  stock: 'SELECT stock AS `left`, view_count AS views FROM products WHERE id = ?',
  list: `SELECT id, name, price FROM products WHERE category_id = ?
    ORDER BY view_count DESC, id LIMIT ${LIST_SIZE}`,
};

/** Loads one part with one query. */
export async function loadPart(db: Pool, part: Part, id: number): Promise<Value> {
  const [rows] = await db.query<RowDataPacket[]>(QUERIES[part], [id]);
  const values = rows.map((row) => ({ ...row }));
  return (part === 'list' ? values : (values[0] ?? null)) as Value;
}

/** Resolves after the commit to the category of the product, or null when there is none. */
export const updatePrice = (db: Pool, product: number, price: string): Promise<number | null> =>
  updateProduct(db, product, 'price', price);

/** Resolves after the commit to the category that the product came from, or null when there is none. */
export const updateCategory = (db: Pool, product: number, category: number): Promise<number | null> =>
  updateProduct(db, product, 'category_id', category);

const updateProduct = (db: Pool, id: number, column: 'price' | 'category_id', value: string | number) =>
  transaction(db, async (connection) => {
    const [rows] = await connection.query<({ category: number } & RowDataPacket)[]>(
      'SELECT category_id AS category FROM products WHERE id = ? FOR UPDATE',
      [id],
    );
    await connection.query(`UPDATE products SET ${column} = ?, updated_at = NOW(3) WHERE id = ?`, [
      value,
      id,
    ]);
    return rows[0]?.category ?? null;
  });

export interface Review {
  readonly user: number;
  readonly rating: number;
  readonly body: string;
}

export async function insertReview(db: Pool, product: number, { user, rating, body }: Review): Promise<void> {
  await db.query<ResultSetHeader>(
    'INSERT INTO reviews (product_id, user_id, rating, body, created_at) VALUES (?, ?, ?, ?, NOW(3))',
    [product, user, rating, body],
  );
}
