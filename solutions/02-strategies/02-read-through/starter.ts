import { deserialize, serialize } from 'node:v8';
import type { Redis } from 'ioredis';

/** Invalidations that Redis has not confirmed are remembered for this many keys; the TTL ends what is older. */
export const OWED_AT_MOST = 10_000;

/** What a question is about, by name. The order of the names means nothing. */
export type Args = Readonly<Record<string, string | number | boolean>>;

/** Values as bytes, and back. A Date, a Map, a bigint and undefined come back as what they were. Provided. */
export const encode = (value: unknown): Buffer => serialize(value);
/** Each call gives a value of its own. @throws when the bytes are no value. Provided. */
export const decode = <V>(bytes: Buffer): V => deserialize(bytes) as V;

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

export interface ReadThroughOptions<A extends Args, V> {
  readonly redis: Redis;
  /** Of the question: the namespace of its keys. No two caches on one Redis share a name. */
  readonly name: string;
  /** Asks the source. `signal` aborts when the deadline has passed, or when nobody waits any more. */
  readonly load: (args: A, signal: AbortSignal) => Promise<V>;
  /** How long a value is served from Redis (ms). */
  readonly ttlMs: number;
  /** How long one load may take (ms). */
  readonly loadDeadlineMs: number;
  /** How long one command to Redis may take (ms), whatever the client's own options are. */
  readonly cacheDeadlineMs: number;
}

export interface ReadThrough<A extends Args, V> {
  /**
   * The value from Redis, else from `load`. Calls of one key that meet share one load, and each gets a copy of its
   * own. A failure of Redis, or bytes that `decode` refuses, are never the caller's: each command costs cacheDeadlineMs
   * at most. After a GET that failed, nothing is stored.
   * @param args must not be changed while the call goes on
   * @param signal ends this call only, at once if it has aborted already; when every caller of a load has left, the
   *   load is aborted, or not begun
   * @throws what `load` throws, to all who share it, and it is forgotten then; {@link LoadTimeoutError}; the reason
   *   of `signal`
   */
  get(args: A, options?: { readonly signal?: AbortSignal }): Promise<V>;
  /**
   * Call it after the commit. A `get` of this object that begins after this call, even before it has resolved, does
   * not see what it had loaded before: neither from Redis nor from a load still going on, which will not be stored.
   * Other processes do not hear of it: they still join and store a load begun before it (leases, lesson 3.6).
   * @returns whether Redis confirmed it; if not, this object asks Redis for it again before it uses the entry
   */
  invalidate(args: A): Promise<boolean>;
}

/**
 * The one name of a question, for reads and for invalidations: the same whatever the order of the arguments.
 * @throws {RangeError} for a number that is not finite
 */
export function cacheKey(name: string, args: Args): string {
  throw new Error('not implemented');
}

/** A read-through cache of one question over Redis, with one load a key at a time in this process. */
export function createReadThrough<A extends Args, V>({
  redis,
  name,
  load,
  ttlMs,
  loadDeadlineMs,
  cacheDeadlineMs,
}: ReadThroughOptions<A, V>): ReadThrough<A, V> {
  throw new Error('not implemented');
}
