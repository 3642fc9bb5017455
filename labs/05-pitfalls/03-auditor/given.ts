import { setTimeout } from 'node:timers/promises';
import type { Pool, RowDataPacket } from 'mysql2/promise';

/** In production: how many rows per second may be read from the primary, if the options do not say. */
export const ROWS_PER_SECOND = 50;

/** In production: how long Redis or the primary may take to answer (ms), if the options do not say. */
export const DEADLINE_MS = 1000;

/** In production: how many stale entries an auditor may follow. */
export const MAX_FOLLOWED = 10;

export interface User {
  readonly id: number;
  readonly email: string;
  readonly name: string;
  readonly locale: string;
  readonly createdAt: Date;
  /** Rises with each write of the row. */
  readonly version: number;
}

export const FIELDS = ['id', 'email', 'name', 'locale', 'createdAt', 'version'] as const;

/** By id; an id without a row is not in the map. */
export type ReadUsers = (ids: readonly number[]) => Promise<Map<number, User>>;

export const usersOf =
  (pool: Pool): ReadUsers =>
  async (ids) => {
    if (ids.length === 0) return new Map();
    const [rows] = await pool.query<(User & RowDataPacket)[]>(
      'SELECT version, id, name, email, locale, created_at AS createdAt FROM users WHERE id IN (?)',
      [ids],
    );
    return new Map(rows.map((row) => [row.id, { ...row }]));
  };

export const KEY_PATTERN = 'user:*';

export const userKey = (id: number): string => `user:${id}`;

/** Null if the key is not that of a user, such as `user:7:cart`. */
export function idOf(key: string): number | null {
  const [, id] = /^user:([1-9]\d{0,14})$/.exec(key) ?? [];
  return id === undefined ? null : Number(id);
}

/** `encode(null)` is the entry that says "there is no such user". */
export const encode = (user: User | null): string => JSON.stringify(user, [...FIELDS]);

const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

/** Has the fields that its entry has, in their order. @throws an error that quotes the bytes */
export function decode(bytes: Buffer): User | null {
  const value = JSON.parse(strictUtf8.decode(bytes));
  if (value === null) return null;
  const user = { ...value, createdAt: new Date(value.createdAt) };
  const isUser =
    [user.id, user.version].every(Number.isSafeInteger) &&
    [user.email, user.name, user.locale].every((text) => typeof text === 'string') &&
    !Number.isNaN(user.createdAt.getTime());
  if (!isUser) throw new TypeError(`not the entry of a user: ${bytes}`);
  return user;
}

/** In production: an error for an entry that cannot be decoded. It may be logged. */
export class UnreadableEntryError extends Error {
  override readonly name = 'UnreadableEntryError';

  constructor(fingerprint: string) {
    super(`the entry ${fingerprint} cannot be decoded`);
  }
}

export interface Clock {
  /** ms */
  now(): number;
  /** In production: ends early when the signal aborts. Never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const realClock: Clock = {
  now: () => performance.now(),
  sleep: (ms, signal) => setTimeout(ms, undefined, { signal }).catch(() => {}),
};

/** A sample has `seen` stale entries. The expected number is at most this (95 % confidence): 3.0 for 0, 4.7 for 1. */
export function mostExpected(seen: number): number {
  const n = seen + 1;
  return n * (1 - 1 / (9 * n) + 1.645 / (3 * Math.sqrt(n))) ** 3;
}
