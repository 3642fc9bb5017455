import type { Pool, RowDataPacket } from 'mysql2/promise';

export interface Entry {
  readonly value: string;
  /** Ms since the epoch. At this moment the entry has expired. */
  readonly expiresAt: number;
}

export interface Source {
  readonly name: string;
  /** In production: how long a lookup waits for one answer of this layer (ms). */
  readonly timeoutMs: number;
  /** Undefined when the key does not exist. */
  get(key: string): Promise<Entry | undefined>;
}

/** A cache. Its `get` may return an entry that has expired. */
export interface Layer extends Source {
  set(key: string, entry: Entry): Promise<void>;
}

export interface Found extends Entry {
  /** The name of the layer that had the entry. */
  readonly layer: string;
}

export type Lookup = (key: string) => Promise<Found | undefined>;

/** In production: a layer did not answer within its `timeoutMs`. */
export class LayerTimeoutError extends Error {
  override readonly name = 'LayerTimeoutError';

  constructor(layer: Source) {
    super(`${layer.name} did not answer within ${layer.timeoutMs} ms`);
  }
}

/** A Map, or an LRU cache with the same two methods. */
interface MapLike {
  get(key: string): Entry | undefined;
  set(key: string, entry: Entry): unknown;
}

/** The memory of the process. In production: pass an LRU cache (lesson 1.4), because a Map grows without bound. */
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

/** MySQL as the source: the value of `product:1` is row 1 as JSON. */
export function productSource({
  db,
  ttlMs,
  timeoutMs,
}: {
  db: Pool;
  ttlMs: number;
  timeoutMs: number;
}): Source {
  return {
    name: 'mysql',
    timeoutMs,
    async get(key) {
      const id = /^product:([1-9]\d{0,15})$/.exec(key)?.[1];
      if (!id) return undefined;
      const expiresAt = Date.now() + ttlMs;
      const [rows] = await db.execute<RowDataPacket[]>(
        'SELECT id, name, price, stock FROM products WHERE id = ?',
        [id],
      );
      return rows[0] && { value: JSON.stringify(rows[0]), expiresAt };
    },
  };
}

export interface LayerStats {
  readonly name: string;
  /** Share of the lookups in this layer that it answers, 0 to 1. */
  readonly hitRate: number;
  /** Mean time of these lookups, hits and misses (ms). */
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
  /** Mean time of a request (ms). */
  readonly effectiveMs: number;
  readonly funnel: readonly Share[];
  /** Share of all requests that no layer answers. */
  readonly absent: number;
}
