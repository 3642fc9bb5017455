import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';

/** Where the value of a key lives, as JSON. The braces keep it in one cluster slot with its lease. */
export const valueKey = (key: string): string => `leased:value:{${key}}`;

/** Holds the token of the one who may store the value of a key. */
export const leaseKey = (key: string): string => `leased:lease:{${key}}`;

/** The load took longer than its lease lives. */
export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

/** Redis did not confirm an invalidation: the old value may still be there. `cause` says why. */
export class InvalidationError extends Error {
  override readonly name = 'InvalidationError';

  constructor(key: string, cause: unknown) {
    super(`the invalidation of ${key} was not confirmed: try it again until it is`, { cause });
  }
}

export interface LeaseCacheOptions {
  /** It has a `commandTimeout`: each of its commands settles in bounded time. */
  readonly redis: Redis;
  /** From 0 (inclusive) to 1 (exclusive), for the pauses. */
  readonly random?: () => number;
  /** Told each failure of Redis that no caller is told. What it throws is ignored. */
  readonly onCacheError?: (error: unknown, key: string) => void;
}

/** All in whole milliseconds. */
export interface Times {
  /** The life of a stored value. */
  readonly ttlMs: number;
  /** The life of a lease, and how long any load may take. Longer than the slowest load that is to succeed. */
  readonly leaseMs: number;
  /** How long this call waits for a value that another caller is loading; 0 for not at all. */
  readonly waitMs: number;
}

export interface LeaseCache {
  /**
   * A call that begins after an {@link invalidate} of the key has resolved, in whatever process, never gets a value
   * whose load began before `invalidate` was called. One step in Redis (a GET before it is allowed) decides what the
   * call does:
   * - There is a value: returns it; its PX goes on. What cannot be parsed as JSON is none: the next fill replaces it.
   * - No value, and no lease: the call gets {@link leaseKey}, with a token by `randomUUID` and leaseMs as its PX, in
   *   the same step. It loads and then fills: if the lease still holds its token, the value is stored for ttlMs and the
   *   lease removed, in one step. Otherwise the fill is refused: nothing is stored, another's lease stays as it is, and
   *   the caller gets the value that it has loaded all the same. A load that fails gives its lease back, if it still
   *   holds its token. Redis has answered the fill, or the giving back, before the call settles. (A client whose
   *   connection broke before the answer asks again by itself: a lease with the token of the call is its own.)
   * - No value, and the lease is another's: pauses for {@link pauseMs}, the last time for what is left of waitMs, and
   *   looks again, until there is a value, or the lease is free and its own, or waitMs has passed. Then it loads for
   *   itself alone, and stores nothing.
   * - Redis fails or does not answer: loads, and stores nothing. (It may have granted the lease all the same: nobody
   *   uses that lease, and it ends by its PX.) A fill or a giving back that fails is told to onCacheError, and the
   *   caller gets what it has loaded, or the error of its load.
   *
   * Callers share no object: each gets what JSON makes of the value, after a load too.
   * @param load asks the source; what JSON can hold, null when there is no such thing. It may take leaseMs from when it
   *   begins, with the lease or without, however late that was granted; then its `signal` is aborted
   * @throws what `load` throws; {@link LoadTimeoutError}; a TypeError for what JSON cannot hold (undefined, a bigint):
   *   that is a load that has failed
   */
  getOrLoad<V>(key: string, load: (signal: AbortSignal) => Promise<V>, times: Times): Promise<V>;
  /**
   * Call it when the change is committed. Deletes value and lease, so that no fill can come between: what is being
   * loaded now will be refused. Resolves when Redis has confirmed it.
   * @throws InvalidationError when Redis has not; the writer leaves it to an outbox (lesson 3.2) then
   */
  invalidate(key: string): Promise<void>;
}

/** Whether there is a value in these bytes. Provided. */
export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** How long to pause before the next look (ms): 5 to 10 at attempt 0, then twice as long each time, up to 160. Provided. */
export function pauseMs(attempt: number, random: () => number): number {
  const longest = Math.min(10 * 2 ** attempt, 160);
  return (longest / 2) * (1 + random());
}

/** The promise, or the error of `late` when it has not settled after `ms`. Provided. */
export function withDeadline<T>(promise: Promise<T>, ms: number, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

// #region ask
/** KEYS: value, lease. ARGV: token, leaseMs, '1' to take the value for none. */
const ASK = `
  local value = ARGV[3] ~= '1' and redis.call('GET', KEYS[1])
  if value then return {'value', value} end
  local holder = redis.call('GET', KEYS[2])
  -- Ours already: the client lost the connection before the answer, and has sent the command again.
  if holder and holder ~= ARGV[1] then return {'held'} end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return {'granted'}`;
// #endregion

// #region fill
/** KEYS: value, lease. ARGV: token, then the value and its PX, if there is one. */
const FILL = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
  redis.call('DEL', KEYS[2])
  if ARGV[2] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
  return 1`;
// #endregion

type Answer = readonly ['value', text: string] | readonly ['granted'] | readonly ['held'];

type Load = (signal: AbortSignal) => Promise<unknown>;

/** A cache over Redis whose invalidations reach the fills in flight. */
export function createLeaseCache({
  redis,
  random = Math.random,
  onCacheError = () => {},
}: LeaseCacheOptions): LeaseCache {
  function tell(error: unknown, key: string): void {
    try {
      onCacheError(error, key);
    } catch {}
  }

  async function ask(key: string, token: string, leaseMs: number, ignoreValue = false): Promise<Answer> {
    const args = [token, leaseMs, ignoreValue ? 1 : 0];
    const answer = (await redis.eval(ASK, 2, valueKey(key), leaseKey(key), ...args)) as Answer;
    const unreadable = answer[0] === 'value' && !isJson(answer[1]);
    return unreadable ? ask(key, token, leaseMs, true) : answer;
  }

  // #region hold
  /** What the holder of the lease does. */
  async function loadAndFill(key: string, load: Load, token: string, times: Times) {
    const finish = (...entry: (string | number)[]) =>
      redis.eval(FILL, 2, valueKey(key), leaseKey(key), token, ...entry).catch((error) => tell(error, key));
    let text: string;
    try {
      // The whole of leaseMs, however late the lease was granted: a fill that comes too late is refused.
      text = await loadText(key, load, times.leaseMs);
    } catch (error) {
      await finish();
      throw error;
    }
    // Stored or refused: it is the answer to the caller, who asked before the invalidation was acknowledged.
    await finish(text, times.ttlMs);
    return text;
  }
  // #endregion

  return {
    // #region get
    async getOrLoad(key, load, times) {
      const { leaseMs, waitMs } = times;
      const token = randomUUID();
      const giveUpAt = performance.now() + waitMs;
      for (let attempt = 0; ; attempt++) {
        let answer: Answer;
        try {
          answer = await ask(key, token, leaseMs);
        } catch (error) {
          tell(error, key);
          break;
        }
        if (answer[0] === 'value') return JSON.parse(answer[1]);
        if (answer[0] === 'granted') return JSON.parse(await loadAndFill(key, load, token, times));
        const leftMs = giveUpAt - performance.now();
        if (leftMs <= 0) break;
        await sleep(Math.min(pauseMs(attempt, random), leftMs));
      }
      return JSON.parse(await loadText(key, load, leaseMs));
    },
    // #endregion
    // #region invalidate
    async invalidate(key) {
      try {
        await redis.del(valueKey(key), leaseKey(key));
      } catch (error) {
        throw new InvalidationError(key, error);
      }
    },
    // #endregion
  };
}

// #region load
/** @throws LoadTimeoutError after `ms` */
async function loadText(key: string, load: Load, ms: number): Promise<string> {
  const abort = new AbortController();
  const loading = (async () => load(abort.signal))();
  const value = await withDeadline(loading, ms, () => {
    const error = new LoadTimeoutError(key, Math.round(ms));
    abort.abort(error);
    return error;
  });
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined)
    throw new TypeError(`the load of ${key} gave ${typeof value}, which JSON cannot hold`);
  return text;
}
// #endregion
