import type { Redis } from 'ioredis';
import type { Draw, Entry, Local, Options } from './given';

export interface TtlPolicy {
  /** The deadline of a value that is loaded now: in `baseMs`, ±spread. In production: @throws RangeError */
  deadline(baseMs: number, draw: Draw): number;
  /** The deadline of a value that is made of parts: that of the first one to end. In production: @throws RangeError */
  earliest(...deadlines: number[]): number;
  /**
   * Keeps the value and its deadline in Redis; what is left of its time is the TTL. Returns whether it was stored.
   * In production: rejects with a RangeError when the deadline is not finite, and returns false when no time is left.
   */
  store(redis: Redis, key: string, value: unknown, deadline: number): Promise<boolean>;
  /** The entry as it was stored, or undefined. */
  read<V>(redis: Redis, key: string): Promise<Entry<V> | undefined>;
  /** The same from `local`, else from Redis, and then keeps a copy in `local`. Removes a copy that has ended. */
  readNear<V>(local: Local, redis: Redis, key: string): Promise<Entry<V> | undefined>;
  /** In production: stores each entry with its own deadline. Rejects when Redis refuses one. */
  storeAll?(
    redis: Redis,
    entries: Iterable<readonly [key: string, value: unknown]>,
    baseMs: number,
    draw: Draw,
  ): Promise<void>;
}

/** Decides how long entries live, the same in each layer. The codec is in `given.ts`. */
export function createTtlPolicy({
  random = Math.random,
  now = Date.now,
  onCacheError = () => {},
}: Options = {}): TtlPolicy {
  throw new Error('not implemented');
}
