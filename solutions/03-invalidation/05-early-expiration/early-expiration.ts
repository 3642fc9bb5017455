import { randomUUID } from 'node:crypto';
import { InFlight, withDeadline } from '#kit/given';
import {
  decode,
  type Entry,
  encode,
  entryKey,
  type Load,
  LoadTimeoutError,
  lockKey,
  lockTtlMs,
  type Options,
} from './given';

/** What one hit knows when it rolls. */
export interface Roll {
  readonly now: number;
  readonly expiresAt: number;
  readonly deltaMs: number;
  readonly beta: number;
  /** As Math.random: 0 is possible, 1 is not. */
  readonly random: () => number;
}

// #region roll
/**
 * XFetch: whether this hit fires, which means that it starts a refresh. At a gap of expiresAt − now it does so with
 * probability e^(−gap / (deltaMs · beta)).
 */
export function shouldRefresh({ now, expiresAt, deltaMs, beta, random }: Roll): boolean {
  // From 1 down to, but not including, 0: the logarithm of 0 is −Infinity.
  const rand = 1 - random();
  return now - deltaMs * beta * Math.log(rand) >= expiresAt;
}
// #endregion

export interface EarlyCache {
  /**
   * A hit returns the cached value at once. If it fires, it also starts a load in the background, which replaces the
   * entry. A miss waits for a load, which concurrent calls share. Each call gets its own copy of what JSON makes of the
   * value.
   * @throws on a miss: what `load` throws. In production: LoadTimeoutError
   */
  get<V>(key: string, load: Load<V>): Promise<V>;
}

// #region finish
/** KEYS: lock, entry. ARGV: the token of the owner, then the new entry and its PX, if there is one. */
const FINISH = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return end
  redis.call('DEL', KEYS[1])
  if ARGV[2] then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end`;
// #endregion

type Cached<V> = { readonly bytes: Buffer; readonly entry: Entry<V> } | 'miss' | 'unusable';

/** A cache whose values are refreshed before they expire. Options, keys and the codec are in `given.ts`. */
export function createEarlyCache({
  redis,
  ttlMs,
  beta = 1,
  random = Math.random,
  now = Date.now,
  loadDeadlineMs,
  onError = () => {},
}: Options): EarlyCache {
  /** What callers wait for: stored after a miss, and not stored when Redis has failed. Text, so that no two share an object. */
  const fills = new InFlight<string>();
  const loads = new InFlight<string>();
  const refreshes = new InFlight<void>();

  // #region get
  async function get<V>(key: string, load: Load<V>): Promise<V> {
    const cached = await lookup<V>(key);
    if (cached === 'miss') return valueIn(await fills.run(key, () => loadAndStore(key, load)));
    if (cached === 'unusable') return valueIn(await loads.run(key, () => loadEntry(key, load)));
    const { value, deltaMs, expiresAt } = cached.entry;
    if (shouldRefresh({ now: now(), expiresAt, deltaMs, beta, random })) {
      void refreshes.run(key, () => refresh(key, load, cached.bytes).catch(onError));
    }
    return value;
  }

  async function lookup<V>(key: string): Promise<Cached<V>> {
    let bytes: Buffer | null;
    try {
      bytes = await redis.getBuffer(entryKey(key));
    } catch (error) {
      onError(error);
      // A SET would wait for Redis too, and arrive late, over what others have stored.
      return 'unusable';
    }
    if (bytes === null) return 'miss';
    try {
      const entry = decode<V>(bytes);
      // A SET that came late has brought a whole PX to an old value.
      return now() >= entry.expiresAt ? 'miss' : { bytes, entry };
    } catch (error) {
      onError(error);
      return 'miss';
    }
  }
  // #endregion

  // #region load
  async function loadAndStore(key: string, load: Load<unknown>): Promise<string> {
    const text = await loadEntry(key, load);
    await redis.set(entryKey(key), text, 'PX', ttlMs).catch(onError);
    return text;
  }

  async function loadEntry(key: string, load: Load<unknown>): Promise<string> {
    const abort = new AbortController();
    const startedAt = now();
    // An async function: an error that `load` throws at once is a rejection too.
    const loading = (async () => load(abort.signal))();
    const value = await withDeadline(loading, loadDeadlineMs, () => {
      const error = new LoadTimeoutError(key, loadDeadlineMs);
      abort.abort(error);
      return error;
    });
    const endedAt = now();
    return encode({ value, deltaMs: endedAt - startedAt, expiresAt: endedAt + ttlMs });
  }
  // #endregion

  // #region refresh
  /** @param seen the entry whose hit fired */
  async function refresh(key: string, load: Load<unknown>, seen: Buffer): Promise<void> {
    const token = randomUUID();
    if (!(await redis.set(lockKey(key), token, 'PX', lockTtlMs(loadDeadlineMs), 'NX'))) return;
    // Since the entry was read, another process may have refreshed it and released the lock.
    const current = await redis.getBuffer(entryKey(key));
    if (!current?.equals(seen)) return finish(key, token);
    // Not shared with a miss, which stores without the lock. When it fails, the lock stays: it is the pause.
    await finish(key, token, await loadEntry(key, load), ttlMs);
  }

  async function finish(key: string, token: string, ...entry: (string | number)[]): Promise<void> {
    await redis.eval(FINISH, 2, lockKey(key), entryKey(key), token, ...entry);
  }
  // #endregion

  return { get };
}

const valueIn = (text: string) => JSON.parse(text).value;
