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

// #region key
/**
 * The one name of a question, for reads and for invalidations: the same whatever the order of the arguments.
 * @throws {RangeError} for a number that is not finite
 */
export function cacheKey(name: string, args: Args): string {
  const unnamed = Object.values(args).find((value) => typeof value === 'number' && !Number.isFinite(value));
  // JSON writes NaN and Infinity alike.
  if (unnamed !== undefined) throw new RangeError(`${unnamed} cannot be part of a key`);
  // It keeps 1 and '1' apart, and no text can end its place early.
  return `${name}:${JSON.stringify(Object.entries(args).sort(([a], [b]) => (a < b ? -1 : 1)))}`;
}
// #endregion

interface Flight {
  readonly bytes: Promise<Buffer>;
  readonly abort: AbortController;
  waiters: number;
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
  const flights = new Map<string, Flight>();
  /** Keys whose DEL Redis has not confirmed, oldest first. */
  const owed = new Set<string>();

  const ask = <T>(command: Promise<T>): Promise<T> => orAbort(command, AbortSignal.timeout(cacheDeadlineMs));

  // #region flight
  function depart(key: string, args: A): Flight {
    const abort = new AbortController();
    const isCurrent = () => flights.get(key) === flight;
    const land = () => {
      if (isCurrent()) flights.delete(key);
    };
    const flight: Flight = { bytes: fetch(key, args, abort, isCurrent), abort, waiters: 0 };
    flights.set(key, flight);
    // Forgotten when it has settled, well or badly: a failure is the answer of those who waited for it only.
    flight.bytes.then(land, land);
    return flight;
  }

  async function join(key: string, flight: Flight, signal: AbortSignal | undefined): Promise<V> {
    flight.waiters++;
    try {
      // Bytes are shared, values are not.
      return decode<V>(await orAbort(flight.bytes, signal));
    } finally {
      if (--flight.waiters === 0) {
        flight.abort.abort(new Error('every caller has left'));
        // Whoever comes now must not join what has just been aborted.
        if (flights.get(key) === flight) flights.delete(key);
      }
    }
  }
  // #endregion

  // #region fetch
  async function fetch(
    key: string,
    args: A,
    abort: AbortController,
    isCurrent: () => boolean,
  ): Promise<Buffer> {
    const cached = await read(key);
    if (typeof cached === 'object') return cached;
    // All may have left during the GET.
    abort.signal.throwIfAborted();
    const timer = setTimeout(() => abort.abort(new LoadTimeoutError(key, loadDeadlineMs)), loadDeadlineMs);
    let bytes: Buffer;
    try {
      const loading = (async () => load(args, abort.signal))();
      bytes = encode(await orAbort(loading, abort.signal));
    } finally {
      clearTimeout(timer);
    }
    // Invalidated meanwhile, it is no longer current: what it has loaded may be old.
    if (cached === 'miss' && isCurrent()) await ask(redis.set(key, bytes, 'PX', ttlMs)).catch(() => {});
    return bytes;
  }

  async function read(key: string): Promise<Buffer | 'miss' | 'failed'> {
    if (owed.has(key) && !(await remove(key))) return 'failed';
    try {
      const bytes = await ask(redis.getBuffer(key));
      if (bytes === null) return 'miss';
      decode(bytes);
      return bytes;
    } catch {
      return 'failed';
    }
  }
  // #endregion

  // #region invalidate
  async function remove(key: string): Promise<boolean> {
    try {
      await ask(redis.del(key));
      owed.delete(key);
      return true;
    } catch {
      owed.add(key);
      for (const oldest of owed) {
        if (owed.size <= OWED_AT_MOST) break;
        owed.delete(oldest);
      }
      return false;
    }
  }
  // #endregion

  return {
    // #region get
    async get(args, { signal } = {}) {
      signal?.throwIfAborted();
      const key = cacheKey(name, args);
      // Nothing is awaited between the look and the departure.
      return join(key, flights.get(key) ?? depart(key, args), signal);
    },
    // #endregion
    async invalidate(args) {
      const key = cacheKey(name, args);
      // Its callers get what they came for; nobody joins it any more, and it stores nothing.
      flights.delete(key);
      return remove(key);
    },
  };
}

/** The promise, or the signal's reason if that comes first. */
function orAbort<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const leave = () => reject(signal.reason);
    if (signal.aborted) leave();
    signal.addEventListener('abort', leave, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave));
  });
}
