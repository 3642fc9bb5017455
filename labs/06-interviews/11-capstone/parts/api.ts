import type { Redis, RedisOptions } from 'ioredis';
import type { Cached } from './codec';

export interface Cache {
  /** The value of the key: cached, or what `load` gives. @throws what `load` throws; TypeError for undefined */
  get<V>(key: string, load: Load<V>, policy: Policy): Promise<Cached<V>>;
  /**
   * Called after the commit. Once it has resolved, no call of this process gets a value that was loaded before it, and
   * Redis gives it to none; the L1 of another process drops it when its message comes, at the latest after maxSilenceMs.
   */
  invalidate(key: string): Promise<void>;
  /** As invalidate, for all values with the tag. */
  invalidateTag(tag: string): Promise<void>;
  /** Ends connections and timers. In production, @throws PendingInvalidationError for what is lost now */
  close(): Promise<void>;
}

/** Asks the source. In production: `signal` is aborted when the load has taken too long. */
export type Load<V> = (signal: AbortSignal) => Promise<V>;

/** Times are in whole milliseconds. */
export interface Policy {
  /** How long a value is fresh, from its fill. */
  readonly ttlMs: number;
  /**
   * In production: how long after that it is still given, while one call loads it again. Longer than loadDeadlineMs: a
   * refresh that has failed is tried again after that time.
   */
  readonly staleMs?: number;
  /** What it depends on: the same in each call of a key. */
  readonly tags?: readonly string[];
}

export interface Options {
  /** Without braces. Caches of two names share nothing. */
  readonly name: string;
  /** Opens a connection to Redis. */
  readonly connect: (options: RedisOptions) => Redis;
  /** In production: called with each failure that no caller gets. It never throws. */
  readonly onError: (error: unknown) => void;
  /** In production: the bounds of L1, of a load (and of the wait for one), of a command, of a silence of Redis. */
  readonly maxKeys?: number;
  readonly loadDeadlineMs?: number;
  readonly redisDeadlineMs?: number;
  readonly maxSilenceMs?: number;
}

export type Settings = Required<Options>;
export const DEFAULTS = { maxKeys: 10_000, loadDeadlineMs: 5_000, redisDeadlineMs: 50, maxSilenceMs: 1_000 };
