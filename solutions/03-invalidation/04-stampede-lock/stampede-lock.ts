import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';

/** Where the value of a key lives, as JSON. The braces keep it in one cluster slot with its lock. */
export const entryKey = (key: string): string => `locked:entry:{${key}}`;

/** Holds the token of the one who loads the value of a key. */
export const lockKey = (key: string): string => `locked:lock:{${key}}`;

/** The first pause of a waiter, and the longest (ms), before chance takes up to half of each. */
export const FIRST_PAUSE_MS = 10;
export const LONGEST_PAUSE_MS = 160;

/** The load took longer than its lock lives. */
export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than its lock, ${ms} ms`);
  }
}

/** Another process is still loading, and this caller would not wait longer. */
export class WaitTimeoutError extends Error {
  override readonly name = 'WaitTimeoutError';

  constructor(key: string, ms: number) {
    super(`no value of ${key} within ${ms} ms: another process is loading it`);
  }
}

export interface LockedCacheOptions {
  /** It has a `commandTimeout`: each of its commands settles in bounded time. */
  readonly redis: Redis;
  /** From 0 (inclusive) to 1 (exclusive), for the pauses. */
  readonly random?: () => number;
  /**
   * Told what no caller is told: that Redis has failed (a look, a store, a release), and why a load in the background
   * has, LoadTimeoutError included. What it throws is ignored.
   */
  readonly onCacheError?: (error: unknown, key: string) => void;
}

/** All in whole milliseconds. */
export interface Times {
  /** How long a stored value is fresh. */
  readonly freshMs: number;
  /** For how long after that it is still served, while somebody refreshes it; 0 for not at all. */
  readonly staleMs: number;
  /** The life of the lock, and of the load behind it. Longer than the slowest load that is to succeed. */
  readonly lockMs: number;
  /** How long this call waits while another process is loading, counted from the call; 0 for one look and no more. */
  readonly waitMs: number;
}

export interface LockedCache {
  /**
   * The entry's PX is freshMs + staleMs. It is fresh while more than staleMs is left of that, by the clock of Redis;
   * no other clock counts.
   * - Fresh: the value from Redis.
   * - Nothing there: whoever gets {@link lockKey} loads, stores and releases, over all processes; one who gets the
   *   lock when another has just stored a fresh value does not load. The others look again after {@link pauseMs}, and
   *   then again, until there is a value (fresh or stale), or the lock is free and theirs, or their own waitMs is
   *   over. What cannot be parsed as JSON is nothing, and is replaced.
   * - Stale: the stale value at once, for everybody. Whoever gets the lock loads in the background; nobody joins that
   *   load. Who finds nothing meanwhile waits for it as for another process's: a writer may have made it old.
   * - Redis fails or does not answer: as if it was not there. Loads, without a lock, and stores nothing; nobody waits
   *   for Redis longer than for the command that failed.
   *
   * Calls of one key that meet in this process share what they do: one look, one load, one pause; with the `load` and
   * the times of the one who began it, but for waitMs, which is each caller's own. They share no object: each gets
   * what JSON makes of the value. A call looks before it pauses, also while others already pause. waitMs bounds
   * neither a look nor a load of this process that callers wait for: it has begun, so whoever waits for it gets its value or its error.
   * When all who waited have given up, nothing goes on for them: no load begins.
   *
   * The lock holds a token, a new `randomUUID` for each time it is taken, and is never without an expiry, not even
   * between two commands. A load may take lockMs; then its signal is aborted, and its lock is left to expire: no other
   * load begins before that.
   * Value and release are one step, taken only if the lock is still that of this load: who has lost it, to another
   * or to nobody, neither stores nor releases, even when it is lost just before the last command. Its callers still
   * get the value, when the step has been answered. A load that fails while callers wait for it releases its lock at once; one in the background
   * leaves it, as the pause before the next try.
   * @param load asks the source; what JSON can hold, null when there is no such thing. `signal` is aborted after lockMs
   * @throws what `load` throws, to all who wait for it here, and it is forgotten then; {@link LoadTimeoutError}, to
   *   the same; {@link WaitTimeoutError}; a TypeError for what JSON cannot hold (undefined, a bigint), never stored
   */
  getOrLoad<V>(key: string, load: (signal: AbortSignal) => Promise<V>, times: Times): Promise<V>;
  /**
   * Resolves when no call of this object and no load in the background is going on (a load that is late is not waited
   * for): await it before its client is closed. Never rejects.
   */
  settled(): Promise<void>;
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

/** What is running for this key, else what `start` starts; forgotten when it has settled. Provided. */
export function once<T>(running: Map<string, Promise<T>>, key: string, start: () => Promise<T>): Promise<T> {
  const already = running.get(key);
  if (already) return already;
  const started = start().finally(() => running.delete(key));
  running.set(key, started);
  return started;
}

/** The promise, or the error of `late` when it has not settled after `ms`. Provided. */
export function withDeadline<T>(promise: Promise<T>, ms: number, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

// #region pause
/**
 * How long a waiter pauses before its next look (ms): FIRST_PAUSE_MS for attempt 0, twice as long for each further
 * one, never more than LONGEST_PAUSE_MS; of that, at least half, and a random share of the other half.
 */
export function pauseMs(attempt: number, random: () => number): number {
  const longest = Math.min(FIRST_PAUSE_MS * 2 ** attempt, LONGEST_PAUSE_MS);
  return (longest / 2) * (1 + random());
}
// #endregion

// #region enter
/**
 * Looks, and takes the lock if there is need to, in one step: nobody stores a value in between.
 * KEYS: entry, lock. ARGV: token, lockMs, staleMs, '1' to take the entry for nothing.
 */
const ENTER = `
  local text = ARGV[4] ~= '1' and redis.call('GET', KEYS[1])
  if text and redis.call('PTTL', KEYS[1]) > tonumber(ARGV[3]) then return {'fresh', text} end
  if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'mine', text} end
  return {'taken', text}`;
// #endregion

// #region finish
/** KEYS: entry, lock. ARGV: token, then the value and its PX, if there is one. */
const FINISH = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
  redis.call('DEL', KEYS[2])
  if ARGV[2] then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
  return 1`;
// #endregion

interface Call extends Times {
  readonly key: string;
  readonly load: (signal: AbortSignal) => Promise<unknown>;
}

/** What a look has found. */
interface Seen {
  /** `fresh`: no lock is needed; `mine`: taken by this look; `taken`: by another before it. */
  readonly lock: 'fresh' | 'mine' | 'taken';
  readonly text: string | undefined;
}

/** A cache over Redis in which one load of a key runs at a time, over all processes. */
export function createLockedCache({
  redis,
  random = Math.random,
  onCacheError = () => {},
}: LockedCacheOptions): LockedCache {
  /** A look, and the load behind it if somebody waits for that. Text is shared, values are not. */
  const visits = new Map<string, Promise<string | undefined>>();
  const pauses = new Map<string, Promise<void>>();
  /** Calls, and loads in the background. */
  const going = new Set<Promise<unknown>>();

  function track<T>(work: Promise<T>): Promise<T> {
    going.add(work);
    const end = () => void going.delete(work);
    work.then(end, end);
    return work;
  }

  function tell(error: unknown, key: string): void {
    try {
      onCacheError(error, key);
    } catch {}
  }

  // #region visit
  /** @returns the text of the value; undefined when there is none and another process is loading it */
  function visit(call: Call): Promise<string | undefined> {
    return once(visits, call.key, async () => {
      const token = randomUUID();
      // Counted from before the lock is taken: the load ends sooner than the lock.
      const endsAt = performance.now() + call.lockMs;
      let seen: Seen;
      try {
        seen = await enter(call, token);
      } catch (error) {
        tell(error, call.key);
        return loadText(call, call.lockMs);
      }
      if (seen.lock !== 'mine') return seen.text;
      if (seen.text === undefined) return hold(call, token, endsAt, true);
      void track(hold(call, token, endsAt, false).catch((error) => tell(error, call.key)));
      return seen.text;
    });
  }

  async function enter(call: Call, token: string, ignoreEntry = false): Promise<Seen> {
    const keys = [entryKey(call.key), lockKey(call.key)];
    const args = [token, call.lockMs, call.staleMs, ignoreEntry ? 1 : 0];
    const [lock, text] = (await redis.eval(ENTER, 2, ...keys, ...args)) as [Seen['lock'], string | null];
    if (text === null || isJson(text)) return { lock, text: text ?? undefined };
    return lock === 'fresh' ? enter(call, token, true) : { lock, text: undefined };
  }
  // #endregion

  // #region hold
  /** What the owner of the lock does. */
  async function hold(call: Call, token: string, endsAt: number, callersWait: boolean): Promise<string> {
    const { key, freshMs, staleMs } = call;
    const finish = (...entry: (string | number)[]) =>
      redis.eval(FINISH, 2, entryKey(key), lockKey(key), token, ...entry).catch((error) => tell(error, key));
    const abort = new AbortController();
    let text: string;
    try {
      text = await loadText(call, endsAt - performance.now(), abort);
    } catch (error) {
      // Late: what it has begun may go on, and nobody else begins before the lock has expired.
      // In the background nobody waits: a source that has just failed gets as long a pause.
      if (callersWait && !abort.signal.aborted) await finish();
      throw error;
    }
    await finish(text, freshMs + staleMs);
    return text;
  }
  // #endregion

  // #region wait
  /** Looks until there is a text; each caller by its own deadline, each look and each pause with all who wait. */
  async function look(call: Call): Promise<string> {
    const { key, waitMs } = call;
    const endsAt = performance.now() + waitMs;
    const late = () => new WaitTimeoutError(key, waitMs);
    for (let attempt = 0; ; attempt++) {
      const text = await visit(call);
      if (text !== undefined) return text;
      const leftMs = endsAt - performance.now();
      if (leftMs <= 0) throw late();
      const pause = once(pauses, key, () => sleep(pauseMs(attempt, random)));
      await withDeadline(pause, leftMs, late).catch((error) => {
        // Another caller is at it, and may have begun to load: waitMs is not for a load of this process.
        if (!visits.has(key)) throw error;
      });
    }
  }
  // #endregion

  return {
    // #region get
    async getOrLoad(key, load, times) {
      return JSON.parse(await track(look({ ...times, key, load })));
    },
    // #endregion
    async settled() {
      while (going.size > 0) await Promise.allSettled(going);
    },
  };
}

// #region load
/** @throws LoadTimeoutError after `ms` */
async function loadText(
  { key, load, lockMs }: Call,
  ms: number,
  abort = new AbortController(),
): Promise<string> {
  const loading = (async () => load(abort.signal))();
  const value = await withDeadline(loading, ms, () => {
    const error = new LoadTimeoutError(key, lockMs);
    abort.abort(error);
    return error;
  });
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined)
    throw new TypeError(`the load of ${key} gave ${typeof value}, which JSON cannot hold`);
  return text;
}
// #endregion
