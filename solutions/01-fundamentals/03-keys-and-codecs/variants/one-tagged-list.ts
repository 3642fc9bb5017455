import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { PoolOptions } from 'mysql2/promise';
import { type Codec, InvalidKeyError, type KeyParts, type Lookup, UnsupportedValueError } from '../given';

/** Each part in base64url behind a dot, which base64url does not use: nothing has to be escaped. */
export function key({ namespace, tenant, locale, args = {} }: KeyParts): string {
  const scope = [namespace, tenant, locale];
  if (!scope.every((part) => typeof part === 'string' && part !== '')) throw new InvalidKeyError('scope');
  const named = Object.entries(args).filter(([, value]) => value !== undefined);
  named.sort(([a], [b]) => (a < b ? -1 : 1));
  const parts = [...scope, ...named.flatMap(([name, value]) => [name, typed(name, value)])];
  const plain = parts.map((part) => Buffer.from(part, 'utf16le').toString('base64url')).join('.');
  if (plain.length <= 190) return plain;
  return `!${createHash('sha512').update(plain).digest('hex')}`;
}

function typed(name: string, value: unknown): string {
  if (value !== null && !['string', 'number', 'boolean'].includes(typeof value))
    throw new InvalidKeyError(name);
  if (typeof value === 'number' && !Number.isFinite(value)) throw new InvalidKeyError(name);
  return `${typeof value} ${value}`;
}

/** BIGINT as bigint, by a cast of its own. */
export function exactReads(): PoolOptions {
  return {
    timezone: 'Z',
    typeCast(field, next) {
      if (field.type !== 'LONGLONG') return next();
      const text = field.string();
      return text === null ? null : BigInt(text);
    },
  };
}

/** Every value is a list that begins with its type, so a text can never be taken for a mark. */
export function createCodec<T>({ version }: { version: number }): Codec<T> {
  const encode = (value: T) => Buffer.from(`${JSON.stringify([version, pack(value, new Set())])}`);
  return {
    encode,
    decode(bytes) {
      try {
        const [written, packed] = JSON.parse(bytes.toString());
        if (!Number.isSafeInteger(written)) return { kind: 'corrupt' };
        if (written !== version) return { kind: 'other-version' };
        const value = unpack(packed) as T;
        // Bytes that encode would not write are corrupt, whatever they decode to.
        return encode(value).equals(bytes) ? { kind: 'value', value } : { kind: 'corrupt' };
      } catch {
        return { kind: 'corrupt' };
      }
    },
  };
}

function pack(value: unknown, above: Set<unknown>): unknown {
  if (value === null || typeof value === 'boolean') return value;
  if (typeof value === 'string' || Number.isFinite(value)) return value;
  if (typeof value === 'bigint') return ['n', String(value)];
  const prototype: unknown = typeof value === 'object' && Object.getPrototypeOf(value);
  if (above.has(value)) throw new UnsupportedValueError(value);
  above.add(value);
  try {
    if (prototype === Date.prototype) return ['d', (value as Date).toISOString()];
    if (prototype === Array.prototype)
      return ['a', ...items(value as unknown[]).map((item) => pack(item, above))];
    if (prototype !== Object.prototype) throw new UnsupportedValueError(value);
    if (Object.getOwnPropertySymbols(value).length > 0) throw new UnsupportedValueError(value);
    const fields = Object.entries(value as object).filter(([, field]) => field !== undefined);
    return ['o', ...fields.map(([name, field]) => [name, pack(field, above)])];
  } catch (error) {
    // An invalid Date has no ISO text.
    throw error instanceof RangeError ? new UnsupportedValueError(value) : error;
  } finally {
    above.delete(value);
  }
}

function items(list: unknown[]): unknown[] {
  if (Object.keys(list).join() !== [...list.keys()].join()) throw new UnsupportedValueError(list);
  return list;
}

function unpack(packed: unknown): unknown {
  if (!Array.isArray(packed)) return packed;
  const [type, ...rest] = packed;
  if (type === 'n') return BigInt(rest[0]);
  if (type === 'd') return new Date(rest[0]);
  if (type === 'a') return rest.map(unpack);
  if (type !== 'o') throw new SyntaxError(`unknown type ${type}`);
  return Object.fromEntries(rest.map(([name, field]) => [name, unpack(field)]));
}

/** The delete in the background: the caller has its miss, and an error of the delete is not its concern. */
export async function getDecoded<T>(redis: Redis, key: string, codec: Codec<T>): Promise<Lookup<T>> {
  const bytes = await redis.getBuffer(key);
  if (!bytes) return { hit: false, why: 'absent' };
  const decoded = codec.decode(bytes);
  if (decoded.kind === 'value') return { hit: true, value: decoded.value };
  if (decoded.kind === 'corrupt') {
    const script = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end`;
    redis.eval(script, 1, key, bytes).catch(() => {});
  }
  return { hit: false, why: decoded.kind };
}
