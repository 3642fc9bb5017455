import type { Row } from '../../kit/data/schema';
import { seeded } from '../../kit/random';
import { zipf } from '../../kit/workload';

export type Random = () => number;

/** Rows of the large data set. */
export const SIZES = {
  users: 2_000,
  brands: 120,
  products: 10_000,
  reviews: 50_000,
  orders: 8_000,
  posts: 8_000,
  follows: 30_000,
  likes: 20_000,
  comments: 10_000,
  events: 200_000,
};

const START = Date.UTC(2025, 0, 1);
export const YEAR_MS = 365 * 86_400_000;

export const below = (random: Random, n: number) => Math.floor(random() * n);
export const pick = <T>(random: Random, from: readonly T[]): T => from[below(random, from.length)] as T;
export const ids = (n: number) => Array.from({ length: n }, (_, index) => index + 1);
export const money = (cents: number) => (cents / 100).toFixed(2);
const dateTime = (ms: number) => new Date(ms).toISOString().replace('T', ' ').slice(0, 23);

/** Times spread over the year 2025 that rise with the id. */
export const risingTime = (random: Random, index: number, of: number) =>
  dateTime(START + Math.floor(((index + random()) / of) * YEAR_MS));

/** Some time of that year. */
export const anyTime = (random: Random) => risingTime(random, 0, 1);

/** Ids by popularity. A step that shares no factor with `n` spreads the popular ones over all ids. */
export function popular(n: number, skew: number, step: number, random: Random): () => number {
  const rank = zipf({ n, skew, random });
  return () => ((rank() * step) % n) + 1;
}

export const popularProduct = (random: Random, skew: number) => popular(SIZES.products, skew, 7919, random);
export const popularUser = (random: Random, skew: number) => popular(SIZES.users, skew, 769, random);
export const anyUser = (random: Random) => () => below(random, SIZES.users) + 1;

/** Pairs of two different ids, none of them twice. */
export function* distinctPairs(
  count: number,
  left: () => number,
  right: () => number,
  random: Random,
): Iterable<Row> {
  const seen = new Set<number>();
  while (seen.size < count) {
    const pair: [number, number] = [left(), right()];
    const key = pair[0] * 100_000 + pair[1];
    if (pair[0] === pair[1] || seen.has(key)) continue;
    seen.add(key);
    yield [...pair, risingTime(random, seen.size - 1, count)];
  }
}

/** What other tables repeat of a product. */
const basics = (() => {
  const random = seeded(100);
  return Array.from({ length: SIZES.products }, () => ({
    // Most things cost little: from 2 to 900, half of them under 42.
    cents: Math.round(200 * 450 ** random()),
    stock: random() < 0.05 ? 0 : below(random, 400),
  }));
})();
export const centsOf = (product: number) => basics[product - 1]?.cents ?? 0;
export const stockOf = (product: number) => basics[product - 1]?.stock ?? 0;
