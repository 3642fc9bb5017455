import type { Redis } from 'ioredis';
import type { PoolOptions } from 'mysql2/promise';
import type { Codec, KeyParts, Lookup } from './given';

/**
 * The key of a cache entry. Different parts never share a key; the order of the arguments does not matter.
 * In production: matches SAFE_KEY, and has MAX_KEY_BYTES at most.
 * @throws {InvalidKeyError} when a part is missing, empty, or not of its type
 */
export function key({ namespace, tenant, locale, args = {} }: KeyParts): string {
  throw new Error('not implemented');
}

/**
 * The mysql2 options that read a row as MySQL holds it: a DECIMAL as text; a BIGINT with all of its digits, and always of
 * one JavaScript type; a DATETIME as the Date of that time in UTC.
 */
export function exactReads(): PoolOptions {
  throw new Error('not implemented');
}

/**
 * Values as bytes, and back.
 * @param version In production: of the shape of T, a positive integer. Raise it with each change of the shape
 */
export function createCodec<T>({ version }: { version: number }): Codec<T> {
  throw new Error('not implemented');
}

/**
 * Reads one entry; a key that Redis does not have is a miss, `absent`. Rejects when Redis cannot read it.
 * In production: corrupt bytes are deleted.
 */
export async function getDecoded<T>(redis: Redis, key: string, codec: Codec<T>): Promise<Lookup<T>> {
  throw new Error('not implemented');
}
