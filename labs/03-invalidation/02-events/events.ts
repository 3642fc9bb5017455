import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  type Changes,
  cached,
  categoryKey,
  type Product,
  pauseFor,
  productKey,
  selectCategory,
  selectProduct,
} from './given';

export interface Catalogue {
  /** Both reads are given: by cache-aside. */
  product(id: number): Promise<Product | null>;
  category(categoryId: number): Promise<Product[]>;
  /**
   * In one `transaction` of `#kit/given`: changes the row, and writes one event for each key that is old then, of the product
   * and of the lists that show it or have shown it. False when there is no such product.
   * @throws what MySQL throws
   */
  update(id: number, changes: Changes): Promise<boolean>;
}

export function createCatalogue({ redis, db }: { readonly redis: Redis; readonly db: Pool }): Catalogue {
  return {
    product: (id) => cached(redis, productKey(id), () => selectProduct(db, id)),
    category: (categoryId) => cached(redis, categoryKey(categoryId), () => selectCategory(db, categoryId)),
    update(id, changes) {
      throw new Error('not implemented');
    },
  };
}

export interface Relay {
  /**
   * Takes the oldest events, up to `batchSize`. Deletes their keys from Redis, then the events from the outbox.
   * @returns the number of events that it has deleted
   * @throws what Redis or MySQL throws; then all events stay. In production: also after `deadlineMs`
   */
  pass(): Promise<number>;
  /** Passes until the signal aborts: at once after a pass that had work, else after `pauseMs`. */
  run(signal: AbortSignal): Promise<void>;
}

export interface RelayOptions {
  readonly redis: Redis;
  readonly db: Pool;
  readonly batchSize?: number;
  readonly pauseMs?: number;
  /** In production: the pause after a failure is `pauseMs`, and doubles with each further one up to this. Jitter may halve it. */
  readonly longestPauseMs?: number;
  /** In production: how long a pass may take. */
  readonly deadlineMs?: number;
  /** In production: called with the error of each pass of `run` that fails. It never throws. */
  readonly onError?: (error: unknown) => void;
  /** In production: makes all pauses of `run`. */
  readonly pause?: typeof pauseFor;
}

/** Moves the events of the outbox to Redis. In production: several may run at once. */
export function createRelay({
  redis,
  db,
  batchSize = 100,
  pauseMs = 20,
  longestPauseMs = 5000,
  deadlineMs = 5000,
  onError = () => {},
  pause = pauseFor,
}: RelayOptions): Relay {
  throw new Error('not implemented');
}
