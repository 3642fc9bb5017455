import { randomUUID } from 'node:crypto';
import { deserialize, serialize } from 'node:v8';
import type { Redis } from 'ioredis';

/** Where the entry of a key lives. The braces keep it in one cluster slot with its lock. */
export const entryKey = (key: string): string => `swr:entry:{${key}}`;

/** Held by the one who refreshes the entry of a key. */
export const lockKey = (key: string): string => `swr:lock:{${key}}`;

/** What lies in Redis. */
export interface Entry<V> {
  readonly value: V;
  /** When the load of the value began, by `now` (ms). */
  readonly loadedAt: number;
}

/** An entry as bytes, and back. A Date comes back as a Date. Provided. */
export const encode = <V>(entry: Entry<V>): Buffer => serialize(entry);

/** Each call gives a value of its own. @throws when the bytes are no entry. Provided. */
export function decode<V>(bytes: Buffer): Entry<V> {
  const entry: unknown = deserialize(bytes);
  if (typeof entry !== 'object' || entry === null || !('loadedAt' in entry)) throw new TypeError('no entry');
  return entry as Entry<V>;
}

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

export class CacheTimeoutError extends Error {
  override readonly name = 'CacheTimeoutError';

  constructor(ms: number) {
    super(`Redis did not answer within ${ms} ms`);
  }
}

export interface SwrOptions<V> {
  readonly redis: Redis;
  /** A value is fresh until this long after its load began (ms). */
  readonly softTtlMs: number;
  /**
   * A value is gone this long after its load began (ms): the PX of its entry is what is left of that. An entry that
   * is older by `now` is a miss too. Longer than softTtlMs.
   */
  readonly hardTtlMs: number;
  /** Asks the source; undefined when there is no such thing. `signal` aborts at the deadline, in a refresh too. */
  readonly load: (key: string, signal: AbortSignal) => Promise<V | undefined>;
  /** How long one load may take (ms). */
  readonly loadDeadlineMs: number;
  /** How long one command to Redis may take (ms), whatever the client's own options are. */
  readonly cacheDeadlineMs: number;
  /** Milliseconds, the same in all processes up to the skew of their clocks. */
  readonly now?: () => number;
  /** Told why a refresh has failed, whether Redis or the load did. What it throws is ignored. */
  readonly onRefreshError?: (error: unknown, key: string) => void;
}

export interface Swr<V> {
  /**
   * - Fresh: the value from Redis; nothing is loaded.
   * - Soft-expired: the stale value from Redis at once, and a refresh in the background. There is one refresh of a key
   *   at a time, over all processes: who refreshes holds {@link lockKey}. Whoever gets the lock when another has
   *   just refreshed the entry does not load. The owner releases the lock when it is done, and nobody else does; by
   *   itself it expires no sooner than loadDeadlineMs + 3 × cacheDeadlineMs, the longest that a refresh can take, and
   *   no later than twice that. It is never without an expiry, not even between two commands.
   *   Who has lost the lock, to another or to nobody, stores nothing and releases nothing, even when it is lost just
   *   before the last command. A refresh has a load of its own, which no miss joins. So a writer that deletes entry
   *   and lock together cancels a refresh.
   *   When the load gives undefined, the entry is deleted. When the load fails or is late, the entry stays as it is,
   *   with the time it has left, and the lock stays too: there is no other refresh before it has expired.
   * - Missing, hard-expired, or bytes that {@link decode} refuses: waits for a load, which all callers of this object
   *   that wait share, and stores its value over them; undefined is not stored. A value that cannot be stored is returned too.
   * - Redis fails, or does not answer in time: as if missing, and nothing is stored, not even when Redis is back by
   *   the end of the load.
   *
   * Callers share no object.
   * @throws while it waits for a load only: what `load` throws, or {@link LoadTimeoutError}; forgotten with the load
   */
  get(key: string): Promise<V | undefined>;
  /** Resolves when nothing of this object is going on in the background: await it before its clients are closed. Never rejects. */
  settled(): Promise<void>;
}

// #region finish
/** KEYS: lock, entry. ARGV: the owner's token, then what to do with the entry, if anything. */
const FINISH = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  redis.call('DEL', KEYS[1])
  if ARGV[2] then redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3)) end
  return 1`;
// #endregion

interface Loaded {
  /** The entry; undefined when there is no such thing. Bytes are shared, values are not. */
  readonly bytes: Buffer | undefined;
  readonly loadedAt: number;
}

/** A cache over Redis that answers with the old value while it fetches the new one. */
export function createSwr<V>({
  redis,
  softTtlMs,
  hardTtlMs,
  load,
  loadDeadlineMs,
  cacheDeadlineMs,
  now = Date.now,
  onRefreshError = () => {},
}: SwrOptions<V>): Swr<V> {
  /** By then the owner's load and its three commands have ended, by their own deadlines. */
  const lockTtlMs = Math.ceil(loadDeadlineMs + 3 * cacheDeadlineMs);
  const loads = new Map<string, Promise<Loaded>>();
  const fills = new Map<string, Promise<Loaded>>();
  const refreshes = new Map<string, Promise<void>>();

  const ask = <T>(command: Promise<T>): Promise<T> =>
    withDeadline(command, cacheDeadlineMs, () => new CacheTimeoutError(cacheDeadlineMs));
  const isFresh = (entry: Entry<V>) => now() - entry.loadedAt < softTtlMs;

  // #region read
  /** Undefined when there is nothing that may be served. @throws when Redis fails */
  async function read(key: string): Promise<Entry<V> | undefined> {
    const bytes = await ask(redis.getBuffer(entryKey(key)));
    if (bytes === null) return undefined;
    try {
      const entry = decode<V>(bytes);
      // PX counts from the arrival of a SET, which may have waited in some client's queue until Redis was back.
      return now() - entry.loadedAt < hardTtlMs ? entry : undefined;
    } catch {
      return undefined;
    }
  }
  // #endregion

  // #region load
  const loadOnce = (key: string) => once(loads, key, () => loadNow(key));

  async function loadNow(key: string): Promise<Loaded> {
    const abort = new AbortController();
    // A value is as old as the question: a write that comes while the source is answering may not be in it.
    const loadedAt = now();
    const value = await withDeadline(load(key, abort.signal), loadDeadlineMs, () => {
      const error = new LoadTimeoutError(key, loadDeadlineMs);
      abort.abort(error);
      return error;
    });
    return { bytes: value === undefined ? undefined : encode({ value, loadedAt }), loadedAt };
  }

  /** What to do with the entry after a load: a command and its arguments behind the key. */
  function change({ bytes, loadedAt }: Loaded): [command: string, ...args: (string | Buffer | number)[]] {
    const leftMs = Math.floor(loadedAt + hardTtlMs - now());
    return bytes && leftMs > 0 ? ['SET', bytes, 'PX', leftMs] : ['DEL'];
  }

  const fillOnce = (key: string) =>
    once(fills, key, async () => {
      const loaded = await loadOnce(key);
      const [command, ...args] = change(loaded);
      await ask(redis.call(command, entryKey(key), ...args)).catch(() => {});
      return loaded;
    });
  // #endregion

  // #region refresh
  /** Never rejects: nobody waits for it. */
  const refreshOnce = (key: string) =>
    once(refreshes, key, async () => {
      const token = randomUUID();
      const finish = (...args: (string | Buffer | number)[]) =>
        ask(redis.eval(FINISH, 2, lockKey(key), entryKey(key), token, ...args));
      try {
        if (!(await ask(redis.set(lockKey(key), token, 'PX', lockTtlMs, 'NX')))) return;
        // Since we read it, another process may have taken the lock, refreshed the entry and released the lock.
        const entry = await read(key);
        if (entry && isFresh(entry)) await finish();
        // Not shared with a miss, which stores without the lock: a writer may cancel this load.
        else await finish(...change(await loadNow(key)));
      } catch (error) {
        // The lock stays: until it expires, nobody asks a source again that has just failed.
        try {
          onRefreshError(error, key);
        } catch {}
      }
    });
  // #endregion

  const valueIn = ({ bytes }: Loaded) => bytes && decode<V>(bytes).value;

  return {
    // #region get
    async get(key) {
      let entry: Entry<V> | undefined;
      try {
        entry = await read(key);
      } catch {
        return valueIn(await loadOnce(key));
      }
      if (!entry) return valueIn(await fillOnce(key));
      if (!isFresh(entry)) void refreshOnce(key);
      return entry.value;
    },
    // #endregion
    async settled() {
      while (refreshes.size > 0) await Promise.all(refreshes.values());
    },
  };
}

// #region once
/** What is running for this key, else what `start` starts. */
function once<T>(running: Map<string, Promise<T>>, key: string, start: () => Promise<T>): Promise<T> {
  const already = running.get(key);
  if (already) return already;
  const started = start().finally(() => running.delete(key));
  running.set(key, started);
  return started;
}

/** The promise, or the error of `late` when it has not settled after `ms`. */
function withDeadline<T>(promise: Promise<T>, ms: number, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
// #endregion
