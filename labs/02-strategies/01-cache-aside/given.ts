import type { Pool, ResultSetHeader, RowDataPacket } from 'mysql2/promise';

/** How long the entry of a product lives (ms). */
export const PRODUCT_TTL_MS = 10 * 60_000;

/** How long the entry that says "there is no such product" lives (ms). */
export const ABSENT_TTL_MS = 30_000;

/** In production: how long one Redis command may take (ms). */
export const DEADLINE_MS = 50;

/** In production: the shortest pause before a failed DEL is tried again (ms); about a second is the longest. */
export const RETRY_MS = 25;

export interface Product {
  readonly id: number;
  readonly name: string;
  /** DECIMAL as text: `'12.90'`. */
  readonly price: string;
  readonly stock: number;
  readonly updatedAt: Date;
}

export type Changes = Pick<Product, 'name' | 'price' | 'stock'>;

export class InvalidIdError extends TypeError {
  override readonly name = 'InvalidIdError';

  constructor(id: unknown) {
    super(`a product id is a positive safe integer, not ${String(id)}`);
  }
}

export const productKey = (id: number): string => `product:${id}`;

/** What a client makes of bytes that are not UTF-8. */
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

/** The row, or null when there is none. @throws when MySQL cannot be asked */
export async function selectProduct(db: Pool, id: number): Promise<Product | null> {
  const [rows] = await db.query<(Product & RowDataPacket)[]>(
    'SELECT id, name, price, stock, updated_at AS updatedAt FROM products WHERE id = ?',
    [id],
  );
  return rows[0] ? { ...rows[0] } : null;
}

/** Resolves after the commit: true, or false when there is no such product. @throws when no answer arrives */
export async function updateProduct(db: Pool, id: number, changes: Changes): Promise<boolean> {
  const [{ affectedRows }] = await db.query<ResultSetHeader>(
    'UPDATE products SET name = ?, price = ?, stock = ?, updated_at = NOW(3) WHERE id = ?',
    [changes.name, changes.price, changes.stock, id],
  );
  return affectedRows > 0;
}
