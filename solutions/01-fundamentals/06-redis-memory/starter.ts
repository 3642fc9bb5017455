import type { Redis } from 'ioredis';
import type { Kind, Report, WriteOutcome } from './given';

/**
 * Stores a cache entry with its TTL. A Redis that is out of memory is an outcome, not an error. The value is sent once.
 * @param ttlMs whole milliseconds, at least 1
 * @throws In production: every other error, and the error of a removal that failed
 */
export function write(redis: Redis, key: string, value: string, ttlMs: number): Promise<WriteOutcome> {
  throw new Error('not implemented');
}

/**
 * Judges one instance. The types are in `given.ts`.
 * @param info the reply of Redis to INFO
 * @param kinds all kinds of keys that live in the instance
 * @param before In production: an earlier INFO of the same instance, for the hit rate
 * @throws In production: an Error with the name of a field of INFO that is missing or empty
 */
export function advise(info: string, kinds: readonly Kind[], before?: string): Report {
  throw new Error('not implemented');
}
