import type { Redis, RedisOptions } from 'ioredis';
import type { Pool } from 'mysql2/promise';

/** The longest that any entry of a product lives (ms): what bounds every staleness that nothing else has ended. */
export const PRODUCT_TTL_MS = 10 * 60_000;

/** How long "there is no such product" is believed (ms). */
export const ABSENT_TTL_MS = 30_000;

/** Invalidations that Redis has not confirmed are remembered for this many products; the TTL ends what is older. */
export const OWED_AT_MOST = 10_000;

/** How long to wait before an owed invalidation is tried again (ms). */
export const RETRY_MS = 100;

export interface Product {
  readonly id: number;
  readonly name: string;
  /** DECIMAL as text, with all of its digits. */
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

/** The bytes of an entry; null is the knowledge that there is no such product. Provided. */
export const encode = (product: Product | null): string => JSON.stringify(product);

/** @throws when the text is no entry. Provided. */
export function decode(text: string): Product | null {
  const entry: unknown = JSON.parse(text);
  if (entry === null) return null;
  if (typeof entry !== 'object' || !('id' in entry) || !('updatedAt' in entry))
    throw new TypeError('no entry');
  return { ...(entry as Product), updatedAt: new Date(String(entry.updatedAt)) };
}

export interface Products {
  /**
   * The product, or null when there is none. One query on a miss, none on a hit. Whatever Redis does or fails to do,
   * the answer is MySQL's or at most PRODUCT_TTL_MS old; Redis can delay it by its deadline, once for the GET and
   * once for the SET. After a GET that failed, nothing is stored. The SET may be awaited or left to itself; it sets
   * value and TTL in one command.
   * @param id rejects with {@link InvalidIdError} unless a positive safe integer; nothing is sent then
   * @throws what MySQL answers when the query fails: a failure is no absence
   */
  find(id: number): Promise<Product | null>;
  /**
   * Writes the changes and updated_at (now) to MySQL, then deletes the entry. Resolves when MySQL has committed and the
   * DEL is confirmed or has failed: with true, whatever became of the DEL; with false when there is no such product. An
   * update to the values that the row has already is true.
   * A DEL that Redis did not confirm, for whatever reason, is owed: it is tried again every RETRY_MS, and until it is
   * confirmed this repository neither reads nor fills that entry. The DEL of one update does not settle the debt of a
   * later one.
   * @throws {@link InvalidIdError}, or what MySQL answers when the update fails; the entry is deleted then too, because
   *   an update whose answer was lost (the connection broke) may have been committed
   */
  update(id: number, changes: Changes): Promise<boolean>;
  /** Ends the retries. What is still owed is left to the TTL. */
  close(): void;
}

/**
 * Options under which a Redis that is away costs a caller no more than `deadlineMs` a command, and under which the
 * client keeps nothing to send later: ioredis would else queue commands while it is offline, and send unanswered ones
 * again. What has reached the network may still be executed after its deadline. Before the first connection is up,
 * each command fails at once.
 * @param deadlineMs how long one command may take, in ms
 */
export function cacheClientOptions(deadlineMs = 50): RedisOptions {
  throw new Error('not implemented');
}

/**
 * Products by cache-aside, from the table `products` (id, name, price, stock, updated_at; it has other columns, too).
 * @param redis made with {@link cacheClientOptions}: every command settles within its deadline
 * @param onCacheError hears of each failure of Redis; it must not throw
 */
export function createProducts({
  redis,
  db,
  onCacheError = () => {},
}: {
  readonly redis: Redis;
  readonly db: Pool;
  readonly onCacheError?: (error: unknown) => void;
}): Products {
  throw new Error('not implemented');
}
