import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { PoolOptions } from 'mysql2/promise';
import { parseJson } from '#kit/given';
import {
  type Codec,
  InvalidKeyError,
  type KeyParts,
  type Lookup,
  MAX_KEY_BYTES,
  UnsupportedValueError,
} from './given';

// #region key
/**
 * The key of a cache entry. Different parts never share a key; the order of the arguments does not matter.
 * In production: matches SAFE_KEY, and has MAX_KEY_BYTES at most.
 * @throws {InvalidKeyError} when a part is missing, empty, or not of its type
 */
export function key({ namespace, tenant, locale, args = {} }: KeyParts): string {
  for (const [part, text] of Object.entries({ namespace, tenant, locale })) {
    // Without this, all callers whose session was lost share one tenant: "undefined".
    if (typeof text !== 'string' || text === '') throw new InvalidKeyError(part);
  }
  const named = Object.entries(args)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${escaped(name)}=${argument(name, value)}`)
    .sort();
  const whole = [escaped(namespace), escaped(tenant), escaped(locale), ...named].join(':');
  if (whole.length <= MAX_KEY_BYTES) return whole;

  // No escaped text holds a `#`, so nobody can type in the key of a long question.
  const digest = `#${createHash('sha256').update(whole).digest('base64url')}`;
  return whole.slice(0, MAX_KEY_BYTES - digest.length) + digest;
}

/** Text gets a mark, so that '42' is not 42. */
function argument(name: string, value: unknown): string {
  if (typeof value === 'string') return `~${escaped(value)}`;
  if (value === null || typeof value === 'boolean' || Number.isFinite(value)) return String(value);
  throw new InvalidKeyError(name);
}

/** `%` and four hex digits for each UTF-16 unit but the harmless ones: no text can end its part early. */
const escaped = (text: string): string =>
  text.replace(/[^\w.-]/g, (unit) => `%${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
// #endregion

// #region exact-reads
/**
 * The mysql2 options that read a row as MySQL holds it: a DECIMAL as text; a BIGINT with all of its digits, and always of
 * one JavaScript type; a DATETIME as the Date of that time in UTC.
 */
export function exactReads(): PoolOptions {
  return { supportBigNumbers: true, bigNumberStrings: true, decimalNumbers: false, timezone: 'Z' };
}
// #endregion

// #region codec
/**
 * Values as bytes, and back.
 * @param version In production: of the shape of T, a positive integer. Raise it with each change of the shape
 */
export function createCodec<T>({ version }: { version: number }): Codec<T> {
  return {
    // The brackets show where the payload ends: 1290 without its last byte is a number too.
    encode: (value) => Buffer.from(`v${version}:${JSON.stringify([toJson(value, [])])}`),

    decode(bytes) {
      const end = bytes.indexOf(':');
      const [, written] = /^v(\d+)$/.exec(bytes.toString('latin1', 0, end)) ?? [];
      if (written === undefined) return { kind: 'corrupt' };
      // The version stands before the payload, and another version's payload is not looked at.
      if (written !== String(version)) return { kind: 'other-version' };
      const payload = parseJson(bytes.subarray(end + 1));
      if (!Array.isArray(payload) || payload.length !== 1) return { kind: 'corrupt' };
      try {
        return { kind: 'value', value: fromJson(payload[0]) as T };
      } catch {
        return { kind: 'corrupt' };
      }
    },
  };
}
// #endregion

// #region marks
/** JSON has no Date and no bigint: they become text behind a `~`, and a text that begins with `~` gets one more. */
function toJson(value: unknown, above: readonly unknown[]): unknown {
  if (typeof value === 'string') return value.startsWith('~') ? `~${value}` : value;
  if (typeof value === 'bigint') return `~n${value}`;
  if (value === null || typeof value === 'boolean' || Number.isFinite(value)) return value;
  if (isA(Date, value) && !Number.isNaN(value.getTime())) return `~d${value.getTime()}`;
  // An object that holds itself has no JSON, and a field that Object.entries does not show would be lost.
  if (above.includes(value) || hasHiddenFields(value)) throw new UnsupportedValueError(value);
  const below = [...above, value];
  if (isA(Array, value)) return Array.from(value, (item) => toJson(item, below));
  if (!isA(Object, value)) throw new UnsupportedValueError(value);
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([name, field]) => [name, toJson(field, below)]));
}

/** In place: a reviver does the same, and takes twice the time. */
function fromJson(json: unknown): unknown {
  if (typeof json === 'string') return json.startsWith('~') ? fromMarked(json) : json;
  if (typeof json === 'object' && json !== null) {
    const fields = json as Record<string, unknown>;
    for (const field in fields) fields[field] = fromJson(fields[field]);
  }
  return json;
}

function fromMarked(text: string): unknown {
  if (text.startsWith('~~')) return text.slice(1);
  const [, kind, digits = ''] = /^~([dn])(-?\d+)$/.exec(text) ?? [];
  if (kind === 'n') return BigInt(digits);
  const date = new Date(kind === 'd' ? Number(digits) : Number.NaN);
  if (Number.isNaN(date.getTime())) throw new SyntaxError(`no value has the mark ${text}`);
  return date;
}
// #endregion

/** Of the class itself: an object of a subclass would come back without its methods. */
function isA<T>(type: abstract new (...args: never) => T, value: unknown): value is T {
  if (typeof value !== 'object' || value === null) return false;
  return (Object.getPrototypeOf(value) ?? Object.prototype) === type.prototype;
}

function hasHiddenFields(value: unknown): boolean {
  const named = Object.keys(Object(value)).length;
  return Reflect.ownKeys(Object(value)).length !== (Array.isArray(value) ? value.length + 1 : named);
}

// #region get-decoded
const DELETE_IF_UNCHANGED = `
  if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
  return 0`;

/**
 * Reads one entry; a key that Redis does not have is a miss, `absent`. Rejects when Redis cannot read it.
 * In production: corrupt bytes are deleted.
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
