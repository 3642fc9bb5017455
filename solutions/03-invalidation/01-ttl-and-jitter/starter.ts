import type { Redis } from 'ioredis';

/** What a layer keeps under a key, as its JSON text: in Redis as in the process. */
export interface Entry<V = unknown> {
  /** JSON data. */
  readonly value: V;
  /** When it ends: ms since the epoch, by `now`. It travels with the value, so a copy ends with the original. */
  readonly deadline: number;
}

export interface Draw {
  /** How far a lifetime may lie from its base, as a share of it: 0.1 is ±10 %. From 0, below 1. */
  readonly spread: number;
  /** When the load began (whole ms since the epoch): a value is as old as the question. Default: now. */
  readonly since?: number;
}

/** A cache in the process: a Map, or the LRU of lesson 1.4, which bounds what it holds. */
export type Local = Pick<Map<string, string>, 'get' | 'set' | 'delete'>;

export interface TtlPolicyOptions {
  /** From 0, below 1, evenly. */
  readonly random?: () => number;
  /** Whole ms since the epoch, the same in all processes up to the skew of their clocks. Redis's clock need not agree. */
  readonly now?: () => number;
}

/** Each Redis client has a `commandTimeout`: its commands settle in bounded time. Those that fail make the method reject. */
export interface TtlPolicy {
  /**
   * A point in time, in whole ms since the epoch: `baseMs` after `since`, give or take up to `spread` of it, never
   * more. Each whole millisecond within that is as likely as any other.
   * @param baseMs whole ms, from 1
   * @throws RangeError when `baseMs` or `spread` is out of its range, or NaN
   */
  deadline(baseMs: number, draw: Draw): number;

  /**
   * When a value ends that was made of parts: with the first of them.
   * @throws RangeError when there is no part, or when one is NaN or infinite
   */
  earliest(...deadlines: number[]): number;

  /**
   * Keeps the {@link Entry} in Redis. What is left of its time, by `now`, is the TTL, set by the command that stores
   * it: Redis counts it by its own clock. With less than a millisecond left nothing is stored, and what the key held
   * before is removed: it may be older still.
   * @returns whether it was stored
   * @throws RangeError (as a rejection, with nothing sent) when the deadline is not a finite number
   */
  store(redis: Redis, key: string, value: unknown, deadline: number): Promise<boolean>;

  /**
   * Like {@link store} for each [key, value], in one round trip and with a deadline drawn for each.
   * @throws (as rejections) RangeError like {@link deadline}, with nothing sent; the first error of a command, when others may
   *   be stored
   */
  storeAll(
    redis: Redis,
    entries: Iterable<readonly [key: string, value: unknown]>,
    baseMs: number,
    draw: Draw,
  ): Promise<void>;

  /**
   * The entry with the deadline that it was stored with. Undefined when there is none, when its deadline has come by
   * `now` after Redis has answered (Redis may still hold it: a SET can arrive late), or when the text is no entry.
   */
  read<V>(redis: Redis, key: string): Promise<Entry<V> | undefined>;

  /**
   * The same, from `local` if it has the entry, and then Redis is not asked; else from Redis, with a copy in `local`
   * under the same key. A copy whose deadline has come is removed from `local` by the next call for its key, whatever
   * Redis answers; no other is touched. Callers share no object.
   */
  readNear<V>(local: Local, redis: Redis, key: string): Promise<Entry<V> | undefined>;
}

/** Decides how long entries live, and keeps to it in every layer. */
export function createTtlPolicy({ random = Math.random, now = Date.now }: TtlPolicyOptions = {}): TtlPolicy {
  throw new Error('not implemented');
}
