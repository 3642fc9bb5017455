import type { Redis } from 'ioredis';
import { expect } from 'vitest';

/** A busy machine may look this much later than the entry was stored, ms. */
const LATE_MS = 5000;

/** The entry has been given `ttlMs`, and not more. Choose more than 5 s, and no round number. */
export async function expectTtl(redis: Redis, key: string, ttlMs: number, message: string): Promise<void> {
  const ms = await redis.pttl(key);
  expect(ms, `PTTL ${key} is -2: there is no such entry`).not.toBe(-2);
  expect(ms, `PTTL ${key} is -1: the entry has no TTL`).not.toBe(-1);
  expect(ms, message).toBeLessThanOrEqual(ttlMs);
  expect(ms, message).toBeGreaterThan(ttlMs - LATE_MS);
}
