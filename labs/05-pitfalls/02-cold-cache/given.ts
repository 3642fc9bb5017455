import { parseJson } from '#kit/given';

export interface Product {
  readonly id: number;
  readonly name: string;
}

/** How long a product stays in Redis. */
export const TTL_MS = 60_000;

/** In production: how long a command of Redis may take. Shorter than a reader of the tests stays: 250 ms. */
export const REDIS_DEADLINE_MS = 100;

/** In production: so many loads that fail in a row open the breaker, where the options do not say. */
export const FAILURES_TO_OPEN = 5;

/** In production: how long the breaker then stays open (ms), where the options do not say. */
export const OPEN_MS = 1000;

export const productKey = (id: number): string => `product:${id}`;

export const encode = (product: Product): string => JSON.stringify(product);

/** Undefined where there is no product, or the bytes are not one. */
export function decode(bytes: Buffer | null): Product | undefined {
  const value = bytes === null ? undefined : parseJson(bytes);
  return typeof value === 'object' && value !== null && 'id' in value && 'name' in value
    ? (value as Product)
    : undefined;
}

/** The database is not asked: the reader gets an answer at once. */
export class OverloadedError extends Error {
  override readonly name = 'OverloadedError';

  constructor(why = 'too many loads are under way') {
    super(`not loaded: ${why}. Try again later`);
  }
}
