import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { backoffMs, parseJson, withDeadline } from '#kit/given';
import {
  type Clock,
  encode,
  entryKey,
  type Load,
  LoadTimeoutError,
  lockKey,
  systemClock,
  type Times,
  WaitTimeoutError,
} from './given';

export interface LockedCache {
  /**
   * The value of the key: from Redis, or from `load`, which one caller of all processes runs while the others wait. A
   * miss gives what a hit gives: what JSON makes of the value.
   * @throws what `load` throws; WaitTimeoutError. In production: LoadTimeoutError, when the lock of a load has ended
   */
  getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V>;
}

export interface Options {
  /** In production: each of its commands has a deadline. */
  readonly redis: Redis;
  /** In production: the clock and the pauses of a waiting call. */
  readonly clock?: Clock;
  /** In production: called with each failure that no caller gets. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

// #region scripts
/** KEYS: entry, lock. ARGV: token, lockMs, staleMs, and bytes that count as nothing. @returns whether the lock is ours, the entry */
const LOOK_OR_LOCK = `
  local entry = redis.call('GET', KEYS[1])
  if ARGV[4] and entry == ARGV[4] then entry = false end
  if entry and redis.call('PTTL', KEYS[1]) > tonumber(ARGV[3]) then return {0, entry} end
  local ours = redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2])
  return {ours and 1 or 0, entry}`;

/** KEYS: entry, lock. ARGV: token, text, its PX. */
const STORE_AND_RELEASE = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  redis.call('DEL', KEYS[2])`;

/** KEYS: lock. ARGV: token. */
const RELEASE = `
  if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`;
// #endregion

/** What a look has found. With `refresh` and `granted` the lock is ours. */
type Found =
  | { readonly kind: 'value' | 'refresh'; readonly value: unknown }
  | { readonly kind: 'granted' | 'locked' | 'unanswered' };

/** A cache in which one load of a key runs at a time. Keys, times, errors and the codec are in `given.ts`. */
export function createLockedCache({
  redis,
  clock = systemClock,
  onCacheError = () => {},
}: Options): LockedCache {
  // #region look
  async function lookOrLock(key: string, token: string, times: Times, damaged?: Buffer): Promise<Found> {
    const args = [token, times.lockMs, times.staleMs ?? 0, ...(damaged ? [damaged] : [])];
    const answer = await redis.callBuffer('EVAL', LOOK_OR_LOCK, 2, entryKey(key), lockKey(key), ...args);
    const [ours, bytes] = answer as [0 | 1, Buffer | null];
    if (bytes === null) return { kind: ours ? 'granted' : 'locked' };
    const value = parseJson(bytes);
    if (value !== undefined) return { kind: ours ? 'refresh' : 'value', value };
    onCacheError(new TypeError(`the entry of ${key} is not JSON`));
    return ours ? { kind: 'granted' } : lookOrLock(key, token, times, bytes);
  }
  // #endregion

  // #region hold
  /** What the holder of the lock does. Its deadline began before the lock did, so the load ends first. */
  async function loadAndStore(key: string, load: Load<unknown>, token: string, times: Times, endsAt: number) {
    const text = await loadText(key, load, times.lockMs, endsAt - performance.now());
    const px = times.freshMs + (times.staleMs ?? 0);
    await redis.eval(STORE_AND_RELEASE, 2, entryKey(key), lockKey(key), token, text, px).catch(onCacheError);
    return text;
  }

  async function releaseAfter(error: unknown, key: string, token: string): Promise<never> {
    // A load that is late may still be at work: until its lock has expired, no other load begins.
    if (!(error instanceof LoadTimeoutError)) {
      await redis.eval(RELEASE, 1, lockKey(key), token).catch(onCacheError);
    }
    throw error;
  }
  // #endregion

  return {
    // #region get
    async getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V> {
      const token = randomUUID();
      const giveUpAt = clock.now() + times.waitMs;
      for (let attempt = 0; ; attempt++) {
        const lockEndsAt = performance.now() + times.lockMs;
        const found = await lookOrLock(key, token, times).catch((error: unknown): Found => {
          onCacheError(error);
          return { kind: 'unanswered' };
        });
        const loadUnderLock = () => loadAndStore(key, load, token, times, lockEndsAt);
        switch (found.kind) {
          case 'refresh':
            // After a failure the lock stays: the pause before the next try.
            loadUnderLock().catch(onCacheError);
            return found.value as V;
          case 'value':
            return found.value as V;
          case 'granted':
            return JSON.parse(
              await loadUnderLock().catch((error: unknown) => releaseAfter(error, key, token)),
            );
          case 'unanswered':
            // The lock may be granted later, to nobody: store nothing.
            return JSON.parse(await loadText(key, load, times.lockMs));
        }
        const leftMs = giveUpAt - clock.now();
        if (leftMs <= 0) throw new WaitTimeoutError(key, times.waitMs);
        await clock.sleep(Math.min(backoffMs(attempt), leftMs));
      }
    },
    // #endregion
  };
}

// #region load
/** @throws LoadTimeoutError after `leftMs` */
async function loadText(key: string, load: Load<unknown>, lockMs: number, leftMs = lockMs): Promise<string> {
  const abort = new AbortController();
  const loading = (async () => load(abort.signal))();
  const value = await withDeadline(loading, leftMs, () => {
    const error = new LoadTimeoutError(key, lockMs);
    abort.abort(error);
    return error;
  });
  return encode(value);
}
// #endregion
