import { randomUUID } from 'node:crypto';
import { InFlight, withDeadline } from '#kit/given';
import {
  decode,
  type Entry,
  encode,
  entryKey,
  LoadTimeoutError,
  lockKey,
  lockTtlMs,
  type Options,
} from './given';

export interface Swr<V> {
  /**
   * - Fresh: the value from Redis.
   * - Stale, stored more than softTtlMs ago: the value from Redis at once, and one refresh in the background.
   * - Missing: waits for a load, which concurrent calls share, and stores its value.
   * @throws while it waits for a load: what `load` throws, or LoadTimeoutError
   */
  get(key: string): Promise<V | undefined>;
  /** In production: resolves when nothing of this object runs in the background. Never rejects. */
  onIdle(): Promise<void>;
}

// #region finish
/** KEYS: lock, entry. ARGV: the token of the owner, then a command on the entry, if anything is to change. */
const FINISH = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  redis.call('DEL', KEYS[1])
  if ARGV[2] then redis.call(ARGV[2], KEYS[2], unpack(ARGV, 3)) end
  return 1`;
// #endregion

/** A cache over Redis that returns the old value while it loads the new one. Options and codec are in `given.ts`. */
export function createSwr<V>({
  redis,
  softTtlMs,
  hardTtlMs,
  load,
  now = Date.now,
  loadDeadlineMs,
  cacheDeadlineMs,
  onError = () => {},
}: Options<V>): Swr<V> {
  /** What callers wait for: stored after a miss, and not stored when Redis has failed. */
  const fills = new InFlight<Buffer | undefined>();
  const loads = new InFlight<Buffer | undefined>();
  const refreshes = new Map<string, Promise<void>>();

  const inTime = <T>(command: Promise<T>): Promise<T> => withDeadline(command, cacheDeadlineMs);
  const isStale = ({ storedAt }: Entry<V>) => now() - storedAt >= softTtlMs;

  // #region get
  async function get(key: string): Promise<V | undefined> {
    const cached = await lookup(key);
    if (cached === 'miss') return valueIn(await fills.run(key, () => loadAndStore(key)));
    if (cached === 'unusable') return valueIn(await loads.run(key, () => loadEntry(key)));
    if (isStale(cached)) startRefresh(key);
    return cached.value;
  }

  async function lookup(key: string): Promise<Entry<V> | 'miss' | 'unusable'> {
    let bytes: Buffer | null;
    try {
      bytes = await inTime(redis.getBuffer(entryKey(key)));
    } catch (error) {
      onError(error);
      // A SET would wait for Redis too, and arrive late, over what others have stored.
      return 'unusable';
    }
    try {
      return bytes === null ? 'miss' : decode(bytes);
    } catch (error) {
      onError(error);
      return 'miss';
    }
  }
  // #endregion

  // #region load
  async function loadAndStore(key: string): Promise<Buffer | undefined> {
    const entry = await loadEntry(key);
    if (entry) await inTime(redis.set(entryKey(key), entry, 'PX', hardTtlMs)).catch(onError);
    return entry;
  }

  /** The new entry; undefined when there is no such thing. */
  async function loadEntry(key: string): Promise<Buffer | undefined> {
    const abort = new AbortController();
    const value = await withDeadline(load(key, abort.signal), loadDeadlineMs, () => {
      const error = new LoadTimeoutError(key, loadDeadlineMs);
      abort.abort(error);
      return error;
    });
    return value === undefined ? undefined : encode({ value, storedAt: now() });
  }

  /** Bytes are shared, so that no two callers share an object. */
  const valueIn = (entry: Buffer | undefined) => entry && decode<V>(entry).value;
  // #endregion

  // #region refresh
  function startRefresh(key: string): void {
    if (refreshes.has(key)) return;
    const refreshed = refresh(key)
      .catch(onError)
      .finally(() => refreshes.delete(key));
    refreshes.set(key, refreshed);
  }

  async function refresh(key: string): Promise<void> {
    const token = randomUUID();
    const ttlMs = lockTtlMs({ loadDeadlineMs, cacheDeadlineMs });
    if (!(await inTime(redis.set(lockKey(key), token, 'PX', ttlMs, 'NX')))) return;
    // Since the entry was read, another process may have refreshed it and released the lock.
    const cached = await lookup(key);
    if (typeof cached === 'object' && !isStale(cached)) return finish(key, token);
    // Not shared with a miss, which stores without the lock. When it fails, the lock stays: it is the pause.
    const entry = await loadEntry(key);
    await (entry ? finish(key, token, 'SET', entry, 'PX', hardTtlMs) : finish(key, token, 'DEL'));
  }

  async function finish(key: string, token: string, ...change: (string | Buffer | number)[]): Promise<void> {
    await inTime(redis.eval(FINISH, 2, lockKey(key), entryKey(key), token, ...change));
  }
  // #endregion

  async function onIdle(): Promise<void> {
    while (refreshes.size > 0) await Promise.all(refreshes.values());
  }

  return { get, onIdle };
}
