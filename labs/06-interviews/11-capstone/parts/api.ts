import type { Redis, RedisOptions } from 'ioredis';
import type { Cached } from './codec';

export interface Cache {
  /** The value of the key: cached, or the result of `load`. @throws the error of `load`; TypeError for undefined */
  get<V>(key: string, load: Load<V>, policy: Policy): Promise<Cached<V>>;
  /**
   * Called after the commit. After it has resolved, this process and Redis return no value that was loaded before it.
   * The L1 of another process drops the value when its message comes, at most maxSilenceMs later.
   */
  invalidate(key: string): Promise<void>;
  /** As invalidate, for all values with the tag. */
  invalidateTag(tag: string): Promise<void>;
  /** Ends connections and timers. In production, @throws PendingInvalidationError if invalidations are lost */
  close(): Promise<void>;
}

/** Asks the source. In production: `signal` is aborted when the load has taken too long. */
export type Load<V> = (signal: AbortSignal) => Promise<V>;

/** Times are in whole milliseconds. */
export interface Policy {
  /** How long a value is fresh, from its fill. */
  readonly ttlMs: number;
  /**
   * In production: how long after that it may still be returned, while one call loads it again. Longer than
   * loadDeadlineMs, because a failed refresh is tried again after that time.
   */
  readonly staleMs?: number;
  /** What the value depends on. Pass the same tags in each call for a key. */
  readonly tags?: readonly string[];
}

export interface Options {
  /** Must have no braces. Caches with different names share nothing. */
  readonly name: string;
  /** Opens a connection to Redis. */
  readonly connect: (options: RedisOptions) => Redis;
  /** In production: called with each error that reaches no caller. It never throws. */
  readonly onError: (error: unknown) => void;
  /** In production: the limits of L1, of a load (and of the wait for one), of a command, of a silent channel. */
  readonly maxKeys?: number;
  readonly loadDeadlineMs?: number;
  readonly redisDeadlineMs?: number;
  readonly maxSilenceMs?: number;
}

export type Settings = Required<Options>;
export const DEFAULTS = { maxKeys: 10_000, loadDeadlineMs: 5_000, redisDeadlineMs: 50, maxSilenceMs: 1_000 };
