import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { backoffMs, parseJson, withDeadline } from '#kit/given';
import {
  type Clock,
  encode,
  type Load,
  LoadTimeoutError,
  leaseKey,
  systemClock,
  type Times,
  valueKey,
} from './given';

export interface LeaseCache {
  /**
   * The value of the key: from Redis, or from `load`, which one caller runs while all others wait. A miss gives what a
   * hit gives: what JSON makes of the value.
   * @throws what `load` throws. In production: LoadTimeoutError, leaseMs after the load has begun
   */
  getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V>;
  /**
   * Called after the commit. A load that began before it stores nothing.
   * @throws unless Redis has confirmed it
   */
  invalidate(key: string): Promise<void>;
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
/** KEYS: value, lease. ARGV: token, leaseMs, '1' to pass over the value. @returns the value, 1: granted, nil: held */
const ASK = `
  local value = ARGV[3] ~= '1' and redis.call('GET', KEYS[1])
  if value then return value end
  local holder = redis.call('GET', KEYS[2])
  -- Our own token: the client has lost the connection before the answer, and sent the command again.
  if holder and holder ~= ARGV[1] then return nil end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return 1`;

/** KEYS: value, lease. ARGV: token, text, ttlMs. */
const FILL = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  redis.call('DEL', KEYS[2])`;

/** KEYS: lease. ARGV: token. */
const RELEASE = `
  if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`;
// #endregion

type Answer = { readonly kind: 'value'; readonly value: unknown } | { readonly kind: 'granted' | 'held' };

/** A cache in which an invalidation cancels the fills in flight. Keys, times and the codec are in `given.ts`. */
export function createLeaseCache({
  redis,
  clock = systemClock,
  onCacheError = () => {},
}: Options): LeaseCache {
  // #region ask
  async function ask(key: string, token: string, leaseMs: number, ignoreValue = false): Promise<Answer> {
    const args = [token, leaseMs, ignoreValue ? 1 : 0];
    const answer = await redis.callBuffer('EVAL', ASK, 2, valueKey(key), leaseKey(key), ...args);
    if (!(answer instanceof Buffer)) return { kind: answer === 1 ? 'granted' : 'held' };
    const value = parseJson(answer);
    if (value !== undefined) return { kind: 'value', value };
    onCacheError(new TypeError(`the value of ${key} is not JSON`));
    return ask(key, token, leaseMs, true);
  }

  /** Looks until there is a value or the lease is granted, for waitMs at most. */
  async function waitForAnswer(key: string, token: string, { leaseMs, waitMs }: Times): Promise<Answer> {
    const giveUpAt = clock.now() + waitMs;
    for (let attempt = 0; ; attempt++) {
      const answer = await ask(key, token, leaseMs);
      const leftMs = giveUpAt - clock.now();
      if (answer.kind !== 'held' || leftMs <= 0) return answer;
      await clock.sleep(Math.min(backoffMs(attempt), leftMs));
    }
  }
  // #endregion

  // #region hold
  async function loadAndFill(key: string, load: Load<unknown>, token: string, times: Times): Promise<string> {
    let text: string;
    try {
      text = await loadText(key, load, times.leaseMs);
    } catch (error) {
      await redis.eval(RELEASE, 1, leaseKey(key), token).catch(onCacheError);
      throw error;
    }
    // Stored or refused: the caller asked before the invalidation was acknowledged, so it may have this value.
    await redis.eval(FILL, 2, valueKey(key), leaseKey(key), token, text, times.ttlMs).catch(onCacheError);
    return text;
  }
  // #endregion

  return {
    // #region get
    async getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V> {
      const token = randomUUID();
      const answer = await waitForAnswer(key, token, times).catch((error: unknown): Answer => {
        onCacheError(error);
        // The lease may be granted later, and an invalidation may come before that: nobody may use it.
        return { kind: 'held' };
      });
      if (answer.kind === 'value') return answer.value as V;
      return JSON.parse(
        answer.kind === 'granted'
          ? await loadAndFill(key, load, token, times)
          : await loadText(key, load, times.leaseMs),
      );
    },
    // #endregion

    // #region invalidate
    async invalidate(key: string): Promise<void> {
      await redis.del(valueKey(key), leaseKey(key));
    },
    // #endregion
  };
}

// #region load
async function loadText(key: string, load: Load<unknown>, ms: number): Promise<string> {
  const abort = new AbortController();
  const loading = (async () => load(abort.signal))();
  const value = await withDeadline(loading, ms, () => {
    const error = new LoadTimeoutError(key, ms);
    abort.abort(error);
    return error;
  });
  return encode(value);
}
// #endregion
