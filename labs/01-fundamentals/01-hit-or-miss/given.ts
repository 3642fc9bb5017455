import { inspect } from 'node:util';
import type { RowDataPacket } from 'mysql2/promise';

/** How long the entry of a profile lives (ms). */
export const PROFILE_TTL_MS = 10 * 60_000;

/** How long the entry that says "there is no such user" lives (ms). */
export const ABSENT_TTL_MS = 30_000;

/** In production: percentiles are those of the last 1000 latencies. */
export const WINDOW = 1000;

export interface Profile {
  readonly id: number;
  readonly email: string;
  readonly name: string;
  readonly locale: string;
}

/** A row of `SELECT id, email, name, locale FROM users`. */
export type ProfileRow = Profile & RowDataPacket;

/**
 * How a lookup ended. `hit`: Redis had the profile. `negative`: Redis had the entry that says "there is no such user".
 * `miss`: Redis had no entry, and MySQL answered. `error`: Redis or MySQL failed.
 */
export type Outcome = 'hit' | 'negative' | 'miss' | 'error';

/** The number of lookups by outcome. */
export interface Stats extends Readonly<Record<Outcome, number>> {
  /** In production: by outcome, and of all lookups together. */
  readonly latencies?: Readonly<Record<Outcome | 'all', Percentiles>>;
  /**
   * In production: the time that the hits, negatives and misses would have taken without Redis, minus the time that
   * they took (ms). Without Redis a lookup takes the mean time of a load: a query that MySQL has answered. 0 before the
   * first load.
   */
  readonly savedMs?: number;
  /** In production: entries that `decode` has refused. */
  readonly damaged?: number;
}

/**
 * In production: by nearest rank, of the last {@link WINDOW} latencies. A latency is the time from the call of `get` until
 * its promise settles (ms). Undefined while there is none.
 */
export interface Percentiles {
  readonly p50Ms: number | undefined;
  readonly p99Ms: number | undefined;
}

export class InvalidIdError extends TypeError {
  override readonly name = 'InvalidIdError';

  constructor(id: unknown) {
    super(`a user id is a positive safe integer, not ${inspect(id)}`);
  }
}

export const profileKey = (id: number): string => `profile:${id}`;

/** What a client makes of bytes that are not UTF-8. */
const NOT_UTF_8 = '\uFFFD';

/** The text of an entry. `encode(null)` is the entry that says "there is no such user". */
export const encode = (profile: Profile | null): string =>
  JSON.stringify(profile).replaceAll(NOT_UTF_8, '\\ufffd');

/** The reverse of `encode`. @throws TypeError or SyntaxError when the text is not an entry */
export function decode(text: string): Profile | null {
  const entry: Partial<Record<keyof Profile, unknown>> | null = JSON.parse(text);
  if (entry === null) return null;
  const { id, email, name, locale } = entry;
  if (
    typeof id !== 'number' ||
    typeof email !== 'string' ||
    typeof name !== 'string' ||
    typeof locale !== 'string' ||
    text.includes(NOT_UTF_8)
  ) {
    throw new TypeError('not the entry of a profile');
  }
  return { id, email, name, locale };
}
