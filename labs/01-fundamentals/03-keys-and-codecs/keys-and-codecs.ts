import type { Redis } from 'ioredis';
import type { PoolOptions } from 'mysql2/promise';

/** No key is longer than this (bytes). */
export const MAX_KEY_BYTES = 200;

/**
 * What a key may consist of: printable ASCII without blanks and quotes, without `* ? [ ] \`, which Redis reads in a
 * pattern (SCAN, KEYS, PSUBSCRIBE, ACL), and without `{ }`, which choose the slot in a cluster.
 */
export const SAFE_KEY = /^[!#-&()+->@-Z^_a-z|~]+$/;

/** `1`, `1n`, `'1'` and `true` are four different arguments; so are `null`, `'null'`, `''` and an absent one. */
export type KeyArgument = string | number | bigint | boolean | null;

export interface KeyParts {
  /** What is cached: `product`, `search`. */
  readonly namespace: string;
  /** Who may see it. */
  readonly tenant: string;
  /** In which language it was rendered. */
  readonly locale: string;
  /** What was asked for, by name. An argument that is `undefined` counts as absent. Numbers are finite. */
  readonly args?: Readonly<Record<string, KeyArgument | undefined>>;
}

export class InvalidKeyError extends TypeError {
  override readonly name = 'InvalidKeyError';

  constructor(part: string, value: unknown) {
    super(`a key needs its ${part}, a non-empty string, not ${JSON.stringify(value)}`);
  }
}

/** What a codec keeps: it comes out as it went in, at any depth. A field that is `undefined` counts as absent. */
export type Value =
  | null
  | boolean
  /** Finite; -0 may come out as 0. */
  | number
  | bigint
  /** Any text, whatever it looks like. */
  | string
  /** Valid, to the millisecond. */
  | Date
  | readonly Value[]
  | { readonly [field: string]: Value | undefined };

export class UnsupportedValueError extends TypeError {
  override readonly name = 'UnsupportedValueError';

  constructor(field: string, value: unknown) {
    super(`the codec cannot keep ${described(value)} in "${field}"`);
  }
}

/** An object by its class: its own text may be "[object Object]", or all that it holds. */
function described(value: unknown): string {
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null || value instanceof Date) return String(value);
  return `an instance of ${value.constructor?.name || 'a class without a name'}`;
}

/**
 * What some bytes are to a codec:
 * - `value`: what an encode of this version was given;
 * - `other-version`: the envelope names another version, older or newer; whether its payload is whole is not known;
 * - `corrupt`: anything else: no envelope, or a payload of this version that is cut off or not what encode writes.
 */
export type Decoded<T> =
  | { readonly kind: 'value'; readonly value: T }
  | { readonly kind: 'other-version' }
  | { readonly kind: 'corrupt' };

export interface Codec<T> {
  /**
   * The bytes to store.
   * @throws {UnsupportedValueError} when the value holds what is no {@link Value}: it is never changed in silence
   */
  encode(value: T): Buffer;
  /** Never throws. The payload of another version is not looked at: its shape is not known here. */
  decode(bytes: Buffer): Decoded<T>;
}

/** A miss is told apart from a stored `null`, and says why: count them, `corrupt` above all. */
export type Lookup<T> =
  | { readonly hit: true; readonly value: T }
  | { readonly hit: false; readonly why: 'absent' | 'other-version' | 'corrupt' };

/**
 * The name of a cache entry. Two different sets of parts never share a key; the order of the arguments does not
 * matter. The key matches {@link SAFE_KEY} and is no longer than {@link MAX_KEY_BYTES}, whatever text the parts hold,
 * ill-formed Unicode included.
 * @throws {InvalidKeyError} when the namespace, the tenant or the locale is missing or empty
 */
export function key({ namespace, tenant, locale, args = {} }: KeyParts): string {
  throw new Error('not implemented');
}

/**
 * The mysql2 options under which a row is read as MySQL holds it: a DECIMAL as text, with all of its digits; a BIGINT
 * exactly, and of one JavaScript type whether it is 7 or 2^53 + 1; a DATETIME as the Date of that time in UTC, whatever
 * the time zone of this process.
 */
export function exactReads(): PoolOptions {
  throw new Error('not implemented');
}

/**
 * Values as bytes, and back. The bytes say by which version they were written.
 * @param version of the shape of T: a positive safe integer, raised with every change to that shape
 */
export function createCodec<T>({ version }: { version: number }): Codec<T> {
  throw new Error('not implemented');
}

/**
 * Reads one entry. Bytes of another version are a miss and stay where they are: the processes of that version still
 * read them. Corrupt bytes are a miss and are deleted, but only while they are the bytes that were read: what another
 * writer has stored in the meantime stays. Rejects with the error of Redis when Redis fails.
 */
export async function getDecoded<T>(redis: Redis, key: string, codec: Codec<T>): Promise<Lookup<T>> {
  throw new Error('not implemented');
}
