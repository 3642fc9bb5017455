import { withDeadline } from '#kit/given';
import { type Args, decode, encode, LoadTimeoutError, type Options, orAbort } from './given';

export interface ReadThrough<A extends Args, V> {
  /**
   * The value from Redis, or on a miss from `load`. Concurrent calls of one key share one load.
   * In production: no two calls share an object. `signal` ends this call only.
   * @throws what `load` throws; LoadTimeoutError; the reason of `signal`
   */
  get(args: A, options?: { readonly signal?: AbortSignal }): Promise<V>;
  /**
   * Deletes the entry. Call it after the commit.
   * In production: from the moment of this call, a `get` of this object returns nothing that was loaded before it. That
   * holds even if the DEL fails: then `get` loads, until Redis has confirmed a DEL or ttlMs is over.
   * @throws when Redis has not confirmed the DEL
   */
  invalidate(args: A): Promise<void>;
}

/** The key of a read, for `get` and for `invalidate`. The order of the arguments does not matter. */
export function cacheKey(name: string, args: Args): string {
  const sorted = Object.entries(args).sort(([a], [b]) => (a < b ? -1 : 1));
  // JSON keeps 1 and '1' apart, and a text cannot end its place early.
  return `${name}:${JSON.stringify(sorted)}`;
}

/** One GET and, on a miss, one load, for all who ask meanwhile. */
class Flight {
  /** Callers that have not left. */
  waiting = 0;
  readonly #abort = new AbortController();
  readonly signal = this.#abort.signal;
  /** Bytes are shared, so that no two callers share an object. */
  readonly bytes: Promise<Buffer>;

  constructor(start: (flight: Flight) => Promise<Buffer>) {
    this.bytes = start(this);
  }

  abort(reason: Error): void {
    this.#abort.abort(reason);
  }
}

/** A read-through cache over Redis. Options, codec and errors are in `given.ts`. */
export function createReadThrough<A extends Args, V>({
  redis,
  name,
  load,
  ttlMs,
  loadDeadlineMs,
  cacheDeadlineMs,
  onCacheError = () => {},
}: Options<A, V>): ReadThrough<A, V> {
  const inFlight = new Map<string, Flight>();
  /** Keys whose DEL is unconfirmed, each with its last invalidation. */
  const unconfirmed = new Map<string, symbol>();

  // #region flight
  async function get(args: A, { signal }: { readonly signal?: AbortSignal } = {}): Promise<V> {
    signal?.throwIfAborted();
    const key = cacheKey(name, args);
    // Nothing is awaited between the look into the map and the entry in it.
    const flight = inFlight.get(key) ?? startFlight(key, args);
    flight.waiting++;
    return decode(await orAbort(flight.bytes, signal, () => leave(key, flight)));
  }

  function startFlight(key: string, args: A): Flight {
    const flight = new Flight((self) => readOrLoad(key, args, self));
    inFlight.set(key, flight);
    const end = () => forget(key, flight);
    // Not by finally(): the promise that it makes would reject too, and nobody would catch it.
    flight.bytes.then(end, end);
    return flight;
  }

  /** A load begun before an invalidation must not take a newer one out of the map. */
  function forget(key: string, flight: Flight): void {
    if (inFlight.get(key) === flight) inFlight.delete(key);
  }

  function leave(key: string, flight: Flight): void {
    if (--flight.waiting > 0) return;
    forget(key, flight);
    flight.abort(new Error('every caller has left'));
  }
  // #endregion

  // #region load
  async function readOrLoad(key: string, args: A, flight: Flight): Promise<Buffer> {
    const cached = await lookup(key);
    if (cached instanceof Buffer) return cached;
    // Every caller may have left during the GET.
    flight.signal.throwIfAborted();
    const bytes = encode(await loadInTime(key, args, flight));
    // After an invalidation the flight is out of the map, and its value may be old.
    if (cached === 'miss' && inFlight.get(key) === flight) await fill(key, bytes);
    return bytes;
  }

  async function loadInTime(key: string, args: A, flight: Flight): Promise<V> {
    const timer = setTimeout(() => flight.abort(new LoadTimeoutError(key, loadDeadlineMs)), loadDeadlineMs);
    try {
      return await orAbort(load(args, flight.signal), flight.signal);
    } finally {
      clearTimeout(timer);
    }
  }
  // #endregion

  // #region redis
  const inTime = <T>(command: Promise<T>): Promise<T> => withDeadline(command, cacheDeadlineMs);

  async function lookup(key: string): Promise<Buffer | 'miss' | 'unusable'> {
    let bytes: Buffer | null;
    try {
      if (unconfirmed.has(key)) await deleteEntry(key);
      bytes = await inTime(redis.getBuffer(key));
    } catch (error) {
      onCacheError(error);
      // Without an answer, a SET would only cost a second deadline.
      return 'unusable';
    }
    if (bytes === null) return 'miss';
    try {
      decode(bytes);
      return bytes;
    } catch (error) {
      onCacheError(error);
      return 'miss';
    }
  }

  async function fill(key: string, bytes: Buffer): Promise<void> {
    await inTime(redis.set(key, bytes, 'PX', ttlMs)).catch(onCacheError);
  }
  // #endregion

  // #region invalidate
  async function invalidate(args: A): Promise<void> {
    const key = cacheKey(name, args);
    // Its callers get what they asked for. Nobody joins it any more, and it stores nothing.
    inFlight.delete(key);
    // Noted before the DEL: a read may come while the DEL is on its way.
    const invalidation = Symbol();
    unconfirmed.set(key, invalidation);
    try {
      await deleteEntry(key);
    } catch (error) {
      // By then, each entry from before the invalidation has expired.
      setTimeout(() => confirm(key, invalidation), ttlMs).unref();
      throw error;
    }
  }

  async function deleteEntry(key: string): Promise<void> {
    const sentFor = unconfirmed.get(key);
    await inTime(redis.del(key));
    confirm(key, sentFor);
  }

  /** An invalidation that came after this DEL was sent needs a DEL of its own. */
  function confirm(key: string, invalidation: symbol | undefined): void {
    if (unconfirmed.get(key) === invalidation) unconfirmed.delete(key);
  }
  // #endregion

  return { get, invalidate };
}
