import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';

/** Where the entry of a key lives. The braces keep it in one cluster slot with its lock. */
export const entryKey = (key: string): string => `early:entry:{${key}}`;

/** Holds the token of the one who refreshes the entry of a key. */
export const lockKey = (key: string): string => `early:lock:{${key}}`;

/** What lies in Redis, as JSON. All times in milliseconds, fractions included. */
export interface Entry<V> {
  readonly value: V;
  /** What the load of the value took, by `now`. */
  readonly deltaMs: number;
  /** When the value is not served any more, by `now`. */
  readonly expiresAt: number;
}

/** @throws a TypeError for a value that JSON cannot hold (undefined, a bigint). Provided. */
export function encode(entry: Entry<unknown>): string {
  if (JSON.stringify(entry.value) === undefined)
    throw new TypeError(`JSON cannot hold what was loaded: ${typeof entry.value}`);
  return JSON.stringify(entry);
}

/** Each call gives an entry of its own; undefined when there is none in this text. Provided. */
export function decode<V>(text: string | null): Entry<V> | undefined {
  try {
    const entry = JSON.parse(text ?? 'null');
    const whole = 'value' in entry && Number.isFinite(entry.deltaMs) && Number.isFinite(entry.expiresAt);
    return whole ? entry : undefined;
  } catch {
    return undefined;
  }
}

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
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

/** What one hit knows when it draws. Times in milliseconds, fractions included. */
export interface Draw {
  readonly now: number;
  readonly expiresAt: number;
  /** What the load of the value took; 0 or more. */
  readonly deltaMs: number;
  /** 1 as a rule. Greater: earlier. 0: never before the expiry. */
  readonly beta: number;
  /** From 0 (inclusive) to 1 (exclusive), as Math.random gives it. */
  readonly random: () => number;
}

// #region draw
/**
 * XFetch: whether this hit refreshes the value. It does if and only if
 *
 *     now − Δ · β · ln(rand()) ≥ expiresAt
 *
 * with Δ = deltaMs, and one rand() above 0 and up to 1: it may be 1 − random(). At a gap g = expiresAt − now above 0
 * that has probability e^(−g / (Δβ)). At the expiry and after it the answer is true, whatever Δ, β and random() are.
 * What random() gives may be 0; the answer is a sound one then too: false when the expiry is 1,000 · Δ · β away.
 *
 * A. Vattani, F. Chierichetti, K. Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.
 */
export function shouldRefresh({ now, expiresAt, deltaMs, beta, random }: Draw): boolean {
  // From 1 down to, but not including, 0: the logarithm of 0 is -Infinity, and 0 · -Infinity is no number.
  const rand = 1 - random();
  return now - deltaMs * beta * Math.log(rand) >= expiresAt;
}
// #endregion

export interface EarlyCacheOptions {
  /** It has a `commandTimeout`: each of its commands settles in bounded time. */
  readonly redis: Redis;
  /** No value is served whose load began longer ago than this (ms). Longer than loadDeadlineMs. */
  readonly ttlMs: number;
  /** For {@link shouldRefresh}. Default 1. */
  readonly beta?: number;
  /** How long one load may take (ms). */
  readonly loadDeadlineMs: number;
  /** From 0 (inclusive) to 1 (exclusive). */
  readonly random?: () => number;
  /** Milliseconds, with fractions or without; the same in all processes up to the skew of their clocks. */
  readonly now?: () => number;
  /** Told why a refresh has failed, whether Redis or the load did. What it throws is ignored; it returns no promise. */
  readonly onRefreshError?: (error: unknown, key: string) => void;
}

export interface EarlyCache {
  /**
   * - An entry whose expiresAt, by `now`, is still to come is a hit: its value is returned at once, whatever the draw.
   *   Each hit draws once, by {@link shouldRefresh} with the entry's own deltaMs; true starts a refresh in the
   *   background.
   * - No entry, one that has expired by `now` (whatever its PTTL says), or a text that {@link decode} refuses: waits
   *   for a load, stores its value over what is there, and returns it, also when it cannot be stored.
   * - Redis fails or does not answer: as if there was no entry, but nothing is stored, not even when Redis is back by
   *   the end of the load.
   *
   * An entry, of a miss or of a refresh: deltaMs is the time from the beginning of its load to the end, by `now`,
   * never below 0; expiresAt is ttlMs after the beginning; its PX is what is left until then, in whole milliseconds.
   * Value and PX are one command.
   *
   * A refresh: one of a key at a time, over all processes. Whoever refreshes holds {@link lockKey}: a token by
   * `randomUUID`, one for each refresh, with an expiry from the command that takes it on: 1.5 to 3 times
   * loadDeadlineMs. Who does not get it does nothing. Who gets it and finds that the entry is no longer the one whose
   * hit drew, be it replaced or deleted, releases it and does not load. Value and release are one step, taken only if
   * the lock is still this refresh's own: who has lost it, to another or to nobody, stores nothing and releases
   * nothing, even when it is lost just before the last command. A refresh has a load of its own, which no miss joins.
   * So a writer that deletes entry and lock together cancels a refresh.
   * A refresh that fails leaves entry and lock as they are: until the lock expires there is no other.
   *
   * Calls of one key that wait in this object share a load, with the `load` of the one who began it, and no object:
   * each gets what JSON makes of the value.
   * @param load asks the source; what JSON can hold, null when there is no such thing. `signal` is aborted after
   *   loadDeadlineMs, in a refresh too
   * @throws while it waits for a load only: what `load` throws, a TypeError of {@link encode}, or
   *   {@link LoadTimeoutError}; all forgotten with the load
   */
  get<V>(key: string, load: (signal: AbortSignal) => Promise<V>): Promise<V>;
  /**
   * Resolves when no refresh of this object is going on, those included that begin while it waits: await it before
   * its client is closed. Never rejects.
   */
  settled(): Promise<void>;
}

// #region finish
/** KEYS: lock, entry. ARGV: the owner's token, then the new entry and its PX, if there is one. */
const FINISH = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  redis.call('DEL', KEYS[1])
  if ARGV[2] then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
  return 1`;
// #endregion

interface Loaded {
  /** The entry. Text is shared, values are not. */
  readonly text: string;
  readonly expiresAt: number;
}

/** A cache over Redis whose values are refreshed before they expire, the earlier the longer their load takes. */
export function createEarlyCache({
  redis,
  ttlMs,
  beta = 1,
  loadDeadlineMs,
  random = Math.random,
  now = Date.now,
  onRefreshError = () => {},
}: EarlyCacheOptions): EarlyCache {
  // The lock is held for the second look, the load and the script. When Redis is so slow that this takes longer, the
  // lock is lost, and with it what was loaded.
  const lockMs = 2 * Math.ceil(loadDeadlineMs);
  const loads = new Map<string, Promise<Loaded>>();
  const fills = new Map<string, Promise<Loaded>>();
  const refreshes = new Map<string, Promise<void>>();

  // #region load
  const loadOnce = (key: string, load: (signal: AbortSignal) => Promise<unknown>): Promise<Loaded> =>
    once(loads, key, () => loadNow(key, load));

  async function loadNow(key: string, load: (signal: AbortSignal) => Promise<unknown>): Promise<Loaded> {
    const abort = new AbortController();
    const startedAt = now();
    // An async function: what `load` throws at once is a rejection too.
    const loading = (async () => load(abort.signal))();
    const value = await withDeadline(loading, loadDeadlineMs, () => {
      const error = new LoadTimeoutError(key, loadDeadlineMs);
      abort.abort(error);
      return error;
    });
    // A clock that is set back while we load must not turn the draw round.
    const deltaMs = Math.max(0, now() - startedAt);
    // A value is as old as the question: a write that comes while the source is answering may not be in it.
    const expiresAt = startedAt + ttlMs;
    return { text: encode({ value, deltaMs, expiresAt }), expiresAt };
  }

  /** PX takes whole milliseconds above 0. */
  const pxOf = ({ expiresAt }: Loaded) => Math.max(1, Math.floor(expiresAt - now()));

  function fillOnce(key: string, load: (signal: AbortSignal) => Promise<unknown>): Promise<Loaded> {
    return once(fills, key, async () => {
      const loaded = await loadOnce(key, load);
      await redis.set(entryKey(key), loaded.text, 'PX', pxOf(loaded)).catch(() => {});
      return loaded;
    });
  }
  // #endregion

  // #region refresh
  /** Never rejects: nobody waits for it. @param seen the entry whose hit drew */
  function refreshOnce(
    key: string,
    load: (signal: AbortSignal) => Promise<unknown>,
    seen: string,
  ): Promise<void> {
    return once(refreshes, key, async () => {
      const token = randomUUID();
      const finish = (...entry: (string | number)[]) =>
        redis.eval(FINISH, 2, lockKey(key), entryKey(key), token, ...entry);
      try {
        if (!(await redis.set(lockKey(key), token, 'PX', lockMs, 'NX'))) return;
        // Since it was read, another process may have refreshed the entry and released the lock.
        if ((await redis.get(entryKey(key))) !== seen) return void (await finish());
        // Not shared with a miss, which stores without the lock: a writer may cancel this load.
        const loaded = await loadNow(key, load);
        await finish(loaded.text, pxOf(loaded));
      } catch (error) {
        // The lock stays: near the expiry nearly every hit draws, and the source has just failed.
        try {
          onRefreshError(error, key);
        } catch {}
      }
    });
  }
  // #endregion

  return {
    // #region get
    async get<V>(key: string, load: (signal: AbortSignal) => Promise<V>): Promise<V> {
      let text: string | null;
      try {
        text = await redis.get(entryKey(key));
      } catch {
        return valueIn(await loadOnce(key, load));
      }
      const entry = decode<V>(text);
      const at = now();
      if (text === null || !entry || at >= entry.expiresAt) return valueIn(await fillOnce(key, load));
      const { deltaMs, expiresAt } = entry;
      if (shouldRefresh({ now: at, expiresAt, deltaMs, beta, random })) void refreshOnce(key, load, text);
      return entry.value;
    },
    // #endregion
    async settled() {
      while (refreshes.size > 0) await Promise.all(refreshes.values());
    },
  };
}

const valueIn = ({ text }: Loaded) => JSON.parse(text).value;
