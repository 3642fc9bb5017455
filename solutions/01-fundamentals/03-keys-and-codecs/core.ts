import type { Redis } from 'ioredis';
import type { PoolOptions } from 'mysql2/promise';
import type { Codec, KeyParts, Lookup } from './given';

// #region core
/** A list in JSON: quotes and commas keep the parts apart, and 42 is not "42". */
export function key({ namespace, tenant, locale, args = {} }: KeyParts): string {
  const named = Object.entries(args).filter(([, value]) => value !== undefined);
  return JSON.stringify([namespace, tenant, locale, ...named.sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** One of the first two options alone is not enough. */
export const exactReads = (): PoolOptions => ({
  supportBigNumbers: true,
  bigNumberStrings: true,
  timezone: 'Z',
});

/** JSON, with marks for the two types that JSON does not have. */
export function createCodec<T>(_: { version: number }): Codec<T> {
  return {
    encode: (value) => Buffer.from(JSON.stringify(value, mark)),
    decode: (bytes) => ({ kind: 'value', value: JSON.parse(bytes.toString(), unmark) }),
  };
}

function mark(this: Record<string, unknown>, field: string): unknown {
  // Not the second argument: JSON.stringify has made a text of a Date by then.
  const value = this[field];
  if (value instanceof Date) return { $date: value.getTime() };
  return typeof value === 'bigint' ? { $bigint: String(value) } : value;
}

function unmark(_field: string, json: unknown): unknown {
  if (typeof json !== 'object' || json === null) return json;
  if ('$date' in json) return new Date(Number(json.$date));
  return '$bigint' in json ? BigInt(String(json.$bigint)) : json;
}

export async function getDecoded<T>(redis: Redis, key: string, codec: Codec<T>): Promise<Lookup<T>> {
  const bytes = await redis.getBuffer(key);
  const decoded = bytes && codec.decode(bytes);
  return decoded?.kind === 'value' ? { hit: true, value: decoded.value } : { hit: false, why: 'absent' };
}
// #endregion
