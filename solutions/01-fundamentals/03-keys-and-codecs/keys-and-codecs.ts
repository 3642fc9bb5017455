import { createHash } from 'node:crypto';
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

// #region key
/**
 * The name of a cache entry. Two different sets of parts never share a key; the order of the arguments does not
 * matter. The key matches {@link SAFE_KEY} and is no longer than {@link MAX_KEY_BYTES}, whatever text the parts hold,
 * ill-formed Unicode included.
 * @throws {InvalidKeyError} when the namespace, the tenant or the locale is missing or empty
 */
export function key({ namespace, tenant, locale, args = {} }: KeyParts): string {
  for (const [part, value] of Object.entries({ namespace, tenant, locale })) {
    // Without this, all those whose session was lost would be one more tenant: "undefined".
    if (typeof value !== 'string' || value === '') throw new InvalidKeyError(part, value);
  }
  const named = Object.entries(args)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${escaped(name)}=${argument(value)}`)
    .sort();
  const whole = [escaped(namespace), escaped(tenant), escaped(locale), ...named].join(':');
  if (whole.length <= MAX_KEY_BYTES) return whole;

  // No escaped text holds a `#`. The digest must resist collisions on purpose: users choose what is digested.
  const digest = `#${createHash('sha256').update(whole).digest('base64url')}`;
  return whole.slice(0, MAX_KEY_BYTES - digest.length) + digest;
}

/** Text gets a mark, so that '42' is not 42; a bigint keeps its suffix. */
function argument(value: unknown): string {
  if (typeof value === 'string') return `~${escaped(value)}`;
  return typeof value === 'bigint' ? `${value}n` : String(value);
}

/** `%` and four hex digits for each UTF-16 unit but the harmless ones: no text can end its part early. */
function escaped(text: string): string {
  return text.replace(/[^\w.-]/g, (unit) => `%${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
// #endregion

// #region exact-reads
/**
 * The mysql2 options under which a row is read as MySQL holds it: a DECIMAL as text, with all of its digits; a BIGINT
 * exactly, and of one JavaScript type whether it is 7 or 2^53 + 1; a DATETIME as the Date of that time in UTC, whatever
 * the time zone of this process.
 */
export function exactReads(): PoolOptions {
  return { supportBigNumbers: true, bigNumberStrings: true, decimalNumbers: false, timezone: 'Z' };
}
// #endregion

// #region codec
/**
 * Values as bytes, and back. The bytes say by which version they were written.
 * @param version of the shape of T: a positive safe integer, raised with every change to that shape
 */
export function createCodec<T>({ version }: { version: number }): Codec<T> {
  return {
    // The brackets show where the payload ends: 1290 without its last byte is a number too.
    encode: (value) => Buffer.from(`v${version}:${JSON.stringify([value], toJson)}`),
    decode(bytes) {
      const text = bytes.toString();
      // Outside of the payload, so that a payload which this version cannot read still says what it is.
      const written = /^v(\d+):/.exec(text);
      if (!written) return { kind: 'corrupt' };
      if (written[1] !== String(version)) return { kind: 'other-version' };
      try {
        const payload: unknown = JSON.parse(text.slice(written[0].length));
        if (!Array.isArray(payload) || payload.length !== 1) return { kind: 'corrupt' };
        return { kind: 'value', value: fromJson(payload[0]) as T };
      } catch {
        return { kind: 'corrupt' };
      }
    },
  };
}
// #endregion

// #region to-json
/** JSON has no Date and no bigint: they travel as text behind a `~`, and text that begins with `~` gets one more. */
function toJson(this: Record<string, unknown>, field: string): unknown {
  // The second argument of a replacer comes too late: Date.prototype.toJSON has made a string of it.
  const value = this[field];
  if (value instanceof Date && !Number.isNaN(value.getTime())) return `~d${value.getTime()}`;
  switch (typeof value) {
    case 'bigint':
      return `~n${value}`;
    case 'string':
      return value.startsWith('~') ? `~${value}` : value;
    case 'boolean':
      return value;
    case 'number':
      if (Number.isFinite(value)) return value;
      break;
    case 'undefined':
      if (!Array.isArray(this)) return value;
      break;
    case 'object':
      if (value === null || Array.isArray(value) || isPlain(value)) return value;
  }
  // JSON would store null for a NaN and {} for a Map, and say nothing.
  throw new UnsupportedValueError(field, value);
}
// #endregion

/** Puts back what toJson took apart. In place: a reviver does the same and makes the parse several times as slow. */
function fromJson(json: unknown): unknown {
  if (typeof json === 'string') return json.startsWith('~') ? fromMarked(json) : json;
  if (typeof json === 'object' && json !== null) {
    const fields = json as Record<string, unknown>;
    for (const field in fields) fields[field] = fromJson(fields[field]);
  }
  return json;
}

function fromMarked(text: string): unknown {
  if (text[1] === 'd') return timeAt(Number(text.slice(2)));
  return text[1] === 'n' ? BigInt(text.slice(2)) : text.slice(1);
}

/** As BigInt does: what is no number is no value. */
function timeAt(ms: number): Date {
  const time = new Date(ms);
  if (Number.isNaN(time.getTime())) throw new RangeError('not a time');
  return time;
}

const isPlain = (value: object): boolean => {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
};

// #region get-decoded
const DELETE_IF_UNCHANGED = `
  if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
  return 0`;

/**
 * Reads one entry. Bytes of another version are a miss and stay where they are: the processes of that version still
 * read them. Corrupt bytes are a miss and are deleted, but only while they are the bytes that were read: what another
 * writer has stored in the meantime stays. Rejects with the error of Redis when Redis fails.
 */
export async function getDecoded<T>(redis: Redis, key: string, codec: Codec<T>): Promise<Lookup<T>> {
  const bytes = await redis.getBuffer(key);
  if (bytes === null) return { hit: false, why: 'absent' };
  const decoded = codec.decode(bytes);
  if (decoded.kind === 'value') return { hit: true, value: decoded.value };
  if (decoded.kind === 'corrupt') await redis.eval(DELETE_IF_UNCHANGED, 1, key, bytes);
  return { hit: false, why: decoded.kind };
}
// #endregion
