import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { Article, Held, Version } from './given';

/** Each method rejects when Redis fails. */
export interface VersionedCache<V> {
  /** The value; if there is none, the fence. An entry that `decode` refuses counts as no value. */
  get(key: string): Promise<Held<V>>;
  /** Stores the value for ttlMs, unless entry or fence is newer than `version`. @returns whether it was stored */
  setIfNewer(key: string, version: Version, value: V): Promise<boolean>;
  /**
   * Called after the commit of `version`. Deletes an older entry, and leaves a fence for fenceMs: nothing older than
   * it is stored. A raise may come late: it never lowers the fence, but starts its fenceMs again.
   */
  raise(key: string, version: Version): Promise<void>;
}

export interface CacheOptions {
  readonly redis: Redis;
  /** How long a value lives (ms). */
  readonly ttlMs: number;
  /** How long a fence lives (ms). */
  readonly fenceMs: number;
  /** Called with the error of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** Values with versions. Keys and the codec are in `given.ts`. */
export function createVersionedCache<V>({
  redis,
  ttlMs,
  fenceMs,
  onCacheError = () => {},
}: CacheOptions): VersionedCache<V> {
  throw new Error('not implemented');
}

/** In production: a find that begins after a write has resolved answers this version or a newer one. */
export interface Articles {
  /**
   * In production: the article, or null when there is none, which is cached too. Each database is asked once at most.
   * @throws what MySQL says when a query fails
   */
  find(id: number): Promise<Article | null>;
  /**
   * In production: changes the title. @returns the version that this write has committed; null when there is no such
   * article. @throws UnfencedWriteError; what MySQL says when the write fails
   */
  update(id: number, title: string): Promise<Version | null>;
  /** In production: as update, and the article is gone. */
  remove(id: number): Promise<Version | null>;
}

export interface ArticlesOptions {
  /** In production: takes the writes. A read of it sees every commit. */
  readonly primary: Pool;
  /** In production: takes the reads after a miss. It may lag, or show an old snapshot. */
  readonly replica?: Pool;
  readonly cache: VersionedCache<Article | null>;
  /** In production: called with each error of Redis that no caller gets. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** In production: articles from a replica that may lag. The table, its SELECT and the transaction are in `given.ts`. */
export function createArticles({
  primary,
  replica = primary,
  cache,
  onCacheError = () => {},
}: ArticlesOptions): Articles {
  throw new Error('not implemented');
}
