import type { Redis } from 'ioredis';
import { parseJson } from '#kit/given';

/** Asks the source. In production: `signal` is aborted when the load is given up. */
export type Load<V> = (signal?: AbortSignal) => Promise<V>;

/** In production: the error of a load that takes too long. */
export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

/** In production: the key of the value in Redis. The braces keep value and lease in one cluster slot. */
export const valueKey = (key: string): string => `shared:value:{${key}}`;

/** In production: the key that holds the token of the caller that may store the value. */
export const leaseKey = (key: string): string => `shared:lease:{${key}}`;

/** In production: what Redis has for a key. */
export interface Answer {
  /** The value, and how long Redis will keep it (ms). */
  readonly found?: { readonly value: unknown; readonly livesMs: number };
  /** Whether the caller has got the lease: it may load and store. */
  readonly granted: boolean;
}

/** KEYS: value, lease. ARGV: token, leaseMs, staleMs, '1' to pass over the value. */
const ASK = `
  local value = ARGV[4] ~= '1' and redis.call('GET', KEYS[1])
  local lives = value and redis.call('PTTL', KEYS[1]) or 0
  if lives > tonumber(ARGV[3]) then return {value, lives, 0} end
  local holder = redis.call('GET', KEYS[2])
  -- Our own token: the client has lost the connection before the answer, and sent the command again.
  if holder and holder ~= ARGV[1] then return {value, lives, 0} end
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return {value, lives, 1}`;

/** KEYS: value, lease. ARGV: token, text, livesMs. */
const FILL = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return redis.call('DEL', KEYS[2])`;

/** KEYS: lease. ARGV: token, pauseMs. */
const RELEASE = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])`;

/**
 * In production: values in Redis with the leases of lesson 3.6, for step 4. Use it, or write your own. Each call rejects
 * when Redis fails.
 */
export function openLeases(redis: Redis, onError: (error: unknown) => void) {
  /** Also takes the lease, if there is no value or it will live for at most `staleMs`. */
  async function ask(key: string, token: string, leaseMs: number, staleMs: number): Promise<Answer> {
    const look = async (ignoreValue: boolean) => {
      const args = [token, leaseMs, staleMs, ignoreValue ? 1 : 0];
      const reply = await redis.callBuffer('EVAL', ASK, 2, valueKey(key), leaseKey(key), ...args);
      return reply as [bytes: Buffer | null, livesMs: number, granted: number];
    };
    const [bytes, livesMs, granted] = await look(false);
    if (bytes === null) return { granted: granted === 1 };
    const value = parseJson(bytes);
    if (value !== undefined) return { found: { value, livesMs }, granted: granted === 1 };
    onError(new TypeError(`the value of ${key} is not JSON`));
    const [, , grantedNow] = await look(true);
    return { granted: grantedNow === 1 };
  }

  return {
    ask,

    /** Stores the value and ends the lease. False: the lease is gone, and nothing is stored. */
    async fill(key: string, token: string, value: unknown, livesMs: number): Promise<boolean> {
      const text: string | undefined = JSON.stringify(value);
      if (text === undefined) throw new TypeError(`JSON cannot hold a value of type ${typeof value}`);
      return (await redis.eval(FILL, 2, valueKey(key), leaseKey(key), token, text, livesMs)) === 1;
    },

    /** Gives the lease back, at once or after a pause. */
    async release(key: string, token: string, pauseMs = 0): Promise<void> {
      await redis.eval(RELEASE, 1, leaseKey(key), token, pauseMs);
    },

    /** Deletes the value, and the lease of a running load. */
    async drop(key: string): Promise<void> {
      await redis.del(valueKey(key), leaseKey(key));
    },
  };
}
