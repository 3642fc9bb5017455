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
  throw new Error('not implemented');
}

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
  throw new Error('not implemented');
}
