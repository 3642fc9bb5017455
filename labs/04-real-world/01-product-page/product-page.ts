import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { type Address, type Listed, LOAD_MS, type Page, type Review, type Search } from './given';

export interface Shop {
  /** The page, or null when there is no such product in this category. */
  page(address: Address): Promise<Page | null>;
  /** Products whose name contains the text, the most viewed first. In production: @throws InvalidSearchError */
  search(search: Search): Promise<readonly Listed[]>;
  /** When a write resolves, the parts that show it are gone from Redis. */
  setPrice(product: number, price: string): Promise<void>;
  addReview(product: number, review: Review): Promise<void>;
  /** Moves it to another category. */
  move(product: number, category: number): Promise<void>;
  /** Takes `pieces`, a whole number from 1. When fewer are left, it takes nothing and returns false. */
  buy(product: number, pieces: number): Promise<boolean>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** In production: called with each error of Redis and of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
  /** In production: how long MySQL may take to load a part, or to search (ms). */
  readonly loadMs?: number;
}

/** Product pages whose parts are cached separately. `given.ts` has the parts, keys, TTLs, codec and SQL. */
export function createShop({ redis, db, onCacheError = () => {}, loadMs = LOAD_MS }: Options): Shop {
  throw new Error('not implemented');
}
