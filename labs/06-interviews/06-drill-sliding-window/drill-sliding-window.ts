import type { Redis } from 'ioredis';

export interface Decision {
  readonly allowed: boolean;
  /** How many more calls the window has room for now. */
  readonly remaining: number;
  /** How long until a call can be allowed (ms, an integer); 0 when this one is. */
  readonly retryAfterMs: number;
}

/**
 * Decides about one call of `key`: at most `limit` are allowed in any `windowMs`, in all processes together. A refused call is
 * not counted. One Lua script decides; `key`, as it stands, is its only key.
 */
export async function allow(redis: Redis, key: string, limit: number, windowMs: number): Promise<Decision> {
  throw new Error('not implemented');
}
