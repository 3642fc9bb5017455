import type { Redis } from 'ioredis';
import { parseJson } from '#kit/given';

export interface Options {
  /** In production: each of its commands has a deadline. */
  readonly redis: Redis;
  /** How long a stored value lives (ms). */
  readonly ttlMs: number;
  /** Default 1. */
  readonly beta?: number;
  /** As Math.random. */
  readonly random?: () => number;
  /** Milliseconds. */
  readonly now?: () => number;
  /** In production: how long a load may take (ms). */
  readonly loadDeadlineMs: number;
  /** In production: called with each error that no caller gets: of Redis, of `decode`, of a refresh. It never throws. */
  readonly onError?: (error: unknown) => void;
}

/** Asks the source; null when there is no such thing. In production: `signal` aborts at the deadline. */
export type Load<V> = (signal?: AbortSignal) => Promise<V>;

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

/** The braces keep the entry of a key and its lock in one slot of a cluster. */
export const entryKey = (key: string): string => `early:entry:{${key}}`;

/** In production: held by the process that refreshes the entry of a key. */
export const lockKey = (key: string): string => `early:lock:{${key}}`;

/** In production: how long a lock lives (ms). A load has ended by then, by its own deadline. */
export const lockTtlMs = (loadDeadlineMs: number): number => Math.ceil(2 * loadDeadlineMs);

/** What an entry holds. */
export interface Entry<V> {
  readonly value: V;
  /** How long its load took, by `now`. */
  readonly deltaMs: number;
  /** By `now`. */
  readonly expiresAt: number;
}

/** What a client makes of bytes that are not UTF-8. */
const NOT_UTF_8 = '\uFFFD';

/** The text of an entry. @throws TypeError for a value that JSON cannot hold */
export function encode(entry: Entry<unknown>): string {
  if (JSON.stringify(entry.value) === undefined) {
    throw new TypeError(`JSON cannot hold a value of type ${typeof entry.value}`);
  }
  return JSON.stringify(entry).replaceAll(NOT_UTF_8, '\\ufffd');
}

/** The reverse of `encode`. @throws TypeError when the bytes are not an entry */
export function decode<V>(bytes: Uint8Array): Entry<V> {
  const entry: unknown = parseJson(bytes);
  if (!isEntry(entry) || Buffer.from(bytes).includes(NOT_UTF_8)) throw new TypeError('not an entry');
  return entry as Entry<V>;
}

const isEntry = (entry: unknown): entry is Entry<unknown> =>
  typeof entry === 'object' &&
  entry !== null &&
  'value' in entry &&
  'deltaMs' in entry &&
  'expiresAt' in entry &&
  Number.isFinite(entry.deltaMs) &&
  Number.isFinite(entry.expiresAt);
