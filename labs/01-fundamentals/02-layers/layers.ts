import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';

/** A value and how long it may be believed. What the text means is the next lesson's matter. */
export interface Entry {
  readonly value: string;
  /** Deadline in ms since the epoch. A copy keeps it: time spent in one layer is not given back by the next. */
  readonly expiresAt: number;
}

/** Where the data lives. What it does not have exists nowhere. */
export interface Source {
  readonly name: string;
  /** How long the lookup waits for one answer, in ms. */
  readonly timeoutMs: number;
  /** `undefined` when the key is not there. */
  get(key: string): Promise<Entry | undefined>;
}

/** A cache. Its `get` may return an entry whose deadline has passed: the lookup counts that as a miss. */
export interface Layer extends Source {
  /** Stores a copy, to be gone at `entry.expiresAt`. The lookup waits for it no longer than `timeoutMs` either. */
  set(key: string, entry: Entry): Promise<void>;
}

export interface Found extends Entry {
  /** Name of the cache or source that answered. */
  readonly layer: string;
  /** Resolves when the fills have ended, well or badly; never rejects. A caller that only wants the value ignores it. */
  readonly filled: Promise<void>;
}

export type Lookup = (key: string) => Promise<Found | undefined>;

export interface LookupOptions {
  /** The clock, in ms since the epoch. Default: `Date.now`. */
  readonly now?: () => number;
  /** Told of each cache that failed or was late, in a read or in a fill: nobody else hears of it. What it throws is dropped. */
  readonly onFailure?: (layer: string, error: unknown) => void;
}

export class LayerTimeoutError extends Error {
  constructor(layer: Source) {
    super(`${layer.name} did not answer within ${layer.timeoutMs} ms`);
    this.name = 'LayerTimeoutError';
  }
}

/**
 * A lookup through `caches`, nearest first, down to `source`.
 *
 * - The first cache that holds a live entry (`expiresAt` after now) answers. Nothing below it is asked.
 * - The caches above it that missed are filled with the entry as it is; no other cache is written to.
 *   The reader does not wait for the fills.
 * - A cache that throws, rejects, or takes longer than its `timeoutMs` is passed over, reported to `onFailure`,
 *   and not filled in this lookup.
 * - The source has the last word: its entry is returned even past its deadline (a fill with it does no harm: it is
 *   a miss at once), its `undefined` means that the key exists nowhere (and fills nothing), and its error is the
 *   reader's. A cached entry past its deadline is not returned in its place.
 * - A deadline that was met leaves no timer behind.
 *
 * @throws the source's own error, or LayerTimeoutError when the source is late (from the lookup, not from here)
 */
export function createLookup(
  caches: readonly Layer[],
  source: Source,
  { now = Date.now, onFailure = () => {} }: LookupOptions = {},
): Lookup {
  throw new Error('not implemented');
}

/**
 * Redis as a layer: keys as they come, values as strings.
 *
 * - `get` gives the deadline that Redis itself keeps: now, read before asking, plus the key's remaining time (PTTL).
 *   Value and remaining time belong together even when somebody overwrites the key between two commands.
 *   A key without a time to live comes out as expired.
 * - `set` gives Redis the time that is left of the entry, in whole ms rounded down (PX), in the command that stores
 *   the value. With less than 1 ms left it sends nothing.
 * - Only time left crosses the wire, never a deadline: the clock of Redis may not agree with `now`.
 *
 * @throws what the client throws; a reply that is an error counts as one
 */
export function redisLayer(options: {
  redis: Redis;
  timeoutMs: number;
  now?: () => number;
  name?: string;
}): Layer {
  throw new Error('not implemented');
}

/** What a Map, or an LRU cache with the same two methods, has to offer. */
export interface MapLike {
  get(key: string): Entry | undefined;
  set(key: string, entry: Entry): unknown;
}

/** The process's own memory as a layer. A bare Map grows without bound: in production pass an LRU (lesson 1.4). Provided. */
export function mapLayer(map: MapLike, name = 'map'): Layer {
  return {
    name,
    timeoutMs: 1000,
    get: async (key) => map.get(key),
    async set(key, entry) {
      map.set(key, entry);
    },
  };
}

/**
 * MySQL as the source: `product:1` is that row as JSON, to be believed for `ttlMs` from before the SELECT.
 * Any other shape of key is absent and never reaches SQL. Provided.
 */
export function productSource(options: {
  db: Pool;
  ttlMs: number;
  timeoutMs: number;
  now?: () => number;
}): Source {
  const { db, ttlMs, timeoutMs, now = Date.now } = options;
  return {
    name: 'mysql',
    timeoutMs,
    async get(key) {
      const id = /^product:([1-9]\d{0,15})$/.exec(key)?.[1];
      if (!id) return undefined;
      const expiresAt = now() + ttlMs;
      const [rows] = await db.execute<RowDataPacket[]>(
        'SELECT id, name, price, stock FROM products WHERE id = ?',
        [id],
      );
      return rows[0] && { value: JSON.stringify(rows[0]), expiresAt };
    },
  };
}

/** What was measured at one layer. */
export interface LayerStats {
  readonly name: string;
  /** Share of the lookups that reach this layer which it answers, 0 to 1; 1 for a source that has every key. */
  readonly hitRate: number;
  /** Mean time of one lookup in this layer, hit or miss, in ms; ≥ 0. */
  readonly latencyMs: number;
}

export interface Share {
  readonly name: string;
  /** Share of all requests that ask this layer. */
  readonly reached: number;
  /** Share of all requests that this layer answers. */
  readonly served: number;
}

export interface Prediction {
  /** Mean time of a lookup through all layers, in ms. */
  readonly effectiveMs: number;
  /** In the order of the layers. The `served` and `absent` sum to 1. */
  readonly funnel: readonly Share[];
  /** Share of all requests that no layer answers. */
  readonly absent: number;
}

/**
 * What the layers cost together, from what was measured at each of them; nearest layer first.
 *
 * @throws RangeError for a rate outside 0 to 1 (a rate in percent, NaN from 0 of 0) or a latency below 0 or not finite
 */
export function predict(layers: readonly LayerStats[]): Prediction {
  throw new Error('not implemented');
}
