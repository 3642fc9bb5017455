import type { RowDataPacket } from 'mysql2/promise';

/** How long the entry of a product lives (ms). */
export const PRODUCT_TTL_MS = 10 * 60_000;

/** How long the entry "there is no such product" lives (ms). */
export const ABSENT_TTL_MS = 30_000;

/** In production: the largest number of ids in one MGET or one SELECT. */
export const MAX_BATCH = 100;

/** In production: how long a request waits for Redis (ms). */
export const DEADLINE_MS = 400;

export interface Product {
  readonly id: number;
  readonly name: string;
  /** DECIMAL as text: `'12.90'`. */
  readonly price: string;
  readonly stock: number;
  readonly updatedAt: Date;
}

export type ProductRow = Product & RowDataPacket;

/** `db.query<ProductRow[]>(SELECT_PRODUCTS, [ids])`: the array becomes `1, 2, 3`. An empty array is a syntax error. */
export const SELECT_PRODUCTS =
  'SELECT id, name, price, stock, updated_at AS updatedAt FROM products WHERE id IN (?)';

export class InvalidIdError extends TypeError {
  override readonly name = 'InvalidIdError';

  constructor(id: unknown) {
    super(`a product id is a positive safe integer, not ${String(id)}`);
  }
}

/** @throws InvalidIdError */
export function requireId(id: number): void {
  if (!Number.isSafeInteger(id) || id < 1) throw new InvalidIdError(id);
}

export const productKey = (id: number): string => `product:${id}`;

/** A client replaces bytes that are not UTF-8 by this character. */
const NOT_UTF_8 = '\uFFFD';

/** The text of an entry. `encode(null)` is the entry that says "there is no such product". */
export const encode = (product: Product | null): string =>
  JSON.stringify(product).replaceAll(NOT_UTF_8, '\\ufffd');

/** The reverse of `encode`. @throws TypeError or SyntaxError when the text is not an entry */
export function decode(text: string): Product | null {
  const entry: Partial<Record<keyof Product, unknown>> | null = JSON.parse(text);
  if (entry === null) return null;
  const updatedAt = new Date(String(entry.updatedAt));
  const { id, name, price, stock } = entry;
  if (
    typeof id !== 'number' ||
    typeof name !== 'string' ||
    typeof price !== 'string' ||
    typeof stock !== 'number' ||
    Number.isNaN(updatedAt.getTime()) ||
    text.includes(NOT_UTF_8)
  ) {
    throw new TypeError('not the entry of a product');
  }
  return { id, name, price, stock, updatedAt };
}
