import { deserialize, serialize } from 'node:v8';
import type { Redis } from 'ioredis';

/** The arguments of a read: `{ category: 4, page: 1 }`. Their order does not matter, and numbers are finite. */
export type Args = Readonly<Record<string, string | number | boolean>>;

export interface Options<A extends Args, V> {
  readonly redis: Redis;
  /** The prefix of this cache's keys. No two caches on one Redis share a name. */
  readonly name: string;
  /** Asks the source. In production: `signal` aborts at the deadline, or when every caller has left. */
  readonly load: (args: A, signal: AbortSignal) => Promise<V>;
  /** How long an entry lives (ms). */
  readonly ttlMs: number;
  /** In production: how long a load may take (ms). */
  readonly loadDeadlineMs: number;
  /** In production: how long a Redis command may take (ms), whatever the options of the client are. */
  readonly cacheDeadlineMs: number;
  /** In production: called with each error of Redis and of `decode` that a `get` survives. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

/** A value as bytes. A Date, a Map, a bigint, null and undefined come back as what they were. */
export const encode = (value: unknown): Buffer => serialize(value);

/** The first byte of what `encode` makes. */
const FORMAT = 0xff;

/** The reverse of `encode`: a new copy at each call. @throws when the bytes are not an entry */
export function decode<V>(bytes: Buffer): V {
  if (bytes[0] !== FORMAT) throw new TypeError('not an entry of this cache');
  return deserialize(bytes) as V;
}

/** The promise; or, if `signal` aborts first, `leave` is called and the reason of the signal thrown. */
export function orAbort<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  leave = () => {},
): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const abort = () => {
      leave();
      reject(signal.reason);
    };
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
