/** A Redis key. Each part is encoded, so that a user's text cannot look like a separator. */
export const keyOf = (...parts: readonly (string | number)[]): string =>
  parts.map((part) => encodeURIComponent(part)).join(':');

export interface Product {
  readonly id: number;
  name: string;
  price: { cents: number; currency: string };
  badges: string[];
}

export interface Customer {
  readonly isMember: boolean;
}

/** Users of different tenants may have the same id. */
export interface Visitor {
  readonly tenant: string;
  readonly userId: string;
  readonly name: string;
  readonly locale: string;
}

export const HOLD_MS = 15 * 60_000;
export const CALLS_A_MINUTE = 5;
/** The channel. Each message is the id of a product whose price has changed. */
export const PRICE_CHANGED = 'price-changed';
