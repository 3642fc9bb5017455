import { parseJson } from '#kit/given';

export interface Product {
  readonly id: number;
  readonly name: string;
}

/** How long a product stays in Redis. */
export const TTL_MS = 60_000;

/** In production: how long a Redis command may take (ms). In the tests a reader leaves after 250 ms. */
export const REDIS_DEADLINE_MS = 100;

/** In production: how many failed loads in a row open the breaker, if the options do not say. */
export const FAILURES_TO_OPEN = 5;

/** In production: how long the breaker then stays open (ms), if the options do not say. */
export const OPEN_MS = 1000;

export const productKey = (id: number): string => `product:${id}`;

export const encode = (product: Product): string => JSON.stringify(product);

/** Undefined if there are no bytes, or they are not a product. */
export function decode(bytes: Buffer | null): Product | undefined {
  const value = bytes === null ? undefined : parseJson(bytes);
  return typeof value === 'object' && value !== null && 'id' in value && 'name' in value
    ? (value as Product)
    : undefined;
}

/** Thrown at once, without a query to the database. */
export class OverloadedError extends Error {
  override readonly name = 'OverloadedError';

  constructor(why = 'too many loads are under way') {
    super(`not loaded: ${why}. Try again later`);
  }
}
