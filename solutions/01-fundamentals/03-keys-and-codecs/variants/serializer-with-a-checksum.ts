import { createHash } from 'node:crypto';
import { deserialize, serialize } from 'node:v8';
import type { Redis } from 'ioredis';
import type { PoolOptions } from 'mysql2/promise';
import {
  type Codec,
  type Decoded,
  InvalidKeyError,
  type KeyParts,
  type Lookup,
  UnsupportedValueError,
} from '../given';

/** The digest alone: short, and not readable. */
export function key({ namespace, tenant, locale, args = {} }: KeyParts): string {
  const parts: unknown[] = [namespace, tenant, locale];
  if (parts.some((part) => typeof part !== 'string' || part === '')) throw new InvalidKeyError('scope');
  for (const name of Object.keys(args).sort()) {
    const value = args[name];
    if (value === undefined) continue;
    const isPlain = value === null || ['string', 'boolean'].includes(typeof value) || Number.isFinite(value);
    if (!isPlain) throw new InvalidKeyError(name);
    parts.push([name, value]);
  }
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

export const exactReads = (): PoolOptions => ({
  supportBigNumbers: true,
  bigNumberStrings: true,
  timezone: '+00:00',
});

export const createCodec = <T>({ version }: { version: number }): Codec<T> => new SerializerCodec(version);

/** 8 bytes of version, 32 bytes of checksum, and what v8.serialize writes: Date and bigint are in its format. */
class SerializerCodec<T> implements Codec<T> {
  readonly #version = Buffer.alloc(8);

  constructor(version: number) {
    this.#version.writeBigUInt64BE(BigInt(version));
  }

  encode(value: T): Buffer {
    const payload = this.#serialized(value);
    return Buffer.concat([this.#version, sha256(this.#version, payload), payload]);
  }

  decode(bytes: Buffer): Decoded<T> {
    const [version, sum, payload] = [bytes.subarray(0, 8), bytes.subarray(8, 40), bytes.subarray(40)];
    if (!sha256(version, payload).equals(sum)) return { kind: 'corrupt' };
    if (!version.equals(this.#version)) return { kind: 'other-version' };
    return { kind: 'value', value: deserialize(payload) };
  }

  #serialized(value: T): Buffer {
    try {
      return serialize(kept(value));
    } catch {
      // An object that holds itself overflows the stack.
      throw new UnsupportedValueError(value);
    }
  }
}

const sha256 = (...parts: Buffer[]) => createHash('sha256').update(Buffer.concat(parts)).digest();

/** A copy without the fields that are undefined. v8.serialize takes more types than it gives back: they are refused. */
function kept(value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new UnsupportedValueError(value);
  if (typeof value !== 'object' || value === null) {
    if (typeof value === 'undefined') throw new UnsupportedValueError(value);
    return value;
  }
  if (Array.isArray(value)) {
    if (Object.getPrototypeOf(value) !== Array.prototype) throw new UnsupportedValueError(value);
    if (Object.keys(value).length !== value.length) throw new UnsupportedValueError(value);
    return value.map(kept);
  }
  if (Object.getPrototypeOf(value) === Date.prototype && !Number.isNaN(Number(value))) return value;
  if (Object.getPrototypeOf(value) !== Object.prototype || Object.getOwnPropertySymbols(value).length > 0) {
    throw new UnsupportedValueError(value);
  }
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([name, field]) => [name, kept(field)]));
}

/** WATCH instead of a script: EXEC does nothing when the entry has changed since it was read. */
export async function getDecoded<T>(redis: Redis, key: string, codec: Codec<T>): Promise<Lookup<T>> {
  const bytes = await redis.getBuffer(key);
  if (bytes === null) return { hit: false, why: 'absent' };
  const decoded = codec.decode(bytes);
  if (decoded.kind === 'value') return { hit: true, value: decoded.value };
  if (decoded.kind === 'corrupt') await deleteWatched(redis, key, bytes);
  return { hit: false, why: decoded.kind };
}

/** A connection of its own, because WATCH belongs to the connection. */
async function deleteWatched(redis: Redis, key: string, bytes: Buffer): Promise<void> {
  const own = redis.duplicate();
  try {
    await own.watch(key);
    if ((await own.getBuffer(key))?.equals(bytes)) await own.multi().del(key).exec();
  } finally {
    own.disconnect();
  }
}
