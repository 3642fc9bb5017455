import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { backoffMs, parseJson, withDeadline } from '#kit/given';
import {
  type Clock,
  encode,
  type Load,
  LoadTimeoutError,
  leaseKey,
  systemClock,
  type Times,
  valueKey,
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly clock?: Clock;
  readonly onCacheError?: (error: unknown) => void;
}

const STORE_IF_OURS = `
  if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
    if ARGV[2] then redis.call('PSETEX', KEYS[2], ARGV[3], ARGV[2]) end
  end`;

/** A hit is a plain GET. A miss sends one command more: SET NX and GET in a transaction, so that its own lease is found again. */
class LeaseCache {
  readonly #redis: Redis;
  readonly #clock: Clock;
  readonly #report: (error: unknown) => void;

  constructor({ redis, clock = systemClock, onCacheError = () => {} }: Options) {
    this.#redis = redis;
    this.#clock = clock;
    this.#report = onCacheError;
  }

  async getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V> {
    const token = randomBytes(16).toString('base64');
    let mayStore = false;
    try {
      let leftMs = times.waitMs;
      for (let attempt = 0; ; attempt++) {
        const cached = await this.#read(key);
        if (cached !== undefined) return cached as V;
        mayStore = await this.#acquire(key, token, times.leaseMs);
        if (mayStore || leftMs <= 0) break;
        const before = this.#clock.now();
        await this.#clock.sleep(Math.min(leftMs, backoffMs(attempt)));
        leftMs -= this.#clock.now() - before;
      }
    } catch (error) {
      mayStore = false;
      this.#report(error);
    }
    const text = await this.#load(key, load, times.leaseMs).catch(async (error: unknown) => {
      if (mayStore) await this.#finish(key, token);
      throw error;
    });
    if (mayStore) await this.#finish(key, token, text, times.ttlMs);
    return JSON.parse(text) as V;
  }

  async invalidate(key: string): Promise<void> {
    await this.#redis.unlink(leaseKey(key), valueKey(key));
  }

  async #read(key: string): Promise<unknown> {
    const bytes = await this.#redis.getBuffer(valueKey(key));
    if (bytes === null) return undefined;
    const value = parseJson(bytes);
    if (value === undefined) this.#report(new Error(`${key}: the value cannot be decoded`));
    return value;
  }

  async #acquire(key: string, token: string, leaseMs: number): Promise<boolean> {
    const replies = await this.#redis
      .multi()
      .set(leaseKey(key), token, 'PX', leaseMs, 'NX')
      .get(leaseKey(key))
      .exec();
    return replies?.[1]?.[1] === token;
  }

  async #load(key: string, load: Load<unknown>, ms: number): Promise<string> {
    const abort = new AbortController();
    const loading = new Promise((resolve) => resolve(load(abort.signal)));
    try {
      return encode(await withDeadline(loading, ms, () => new LoadTimeoutError(key, ms)));
    } catch (error) {
      abort.abort(error);
      throw error;
    }
  }

  async #finish(key: string, token: string, ...entry: (string | number)[]): Promise<void> {
    await this.#redis
      .eval(STORE_IF_OURS, 2, leaseKey(key), valueKey(key), token, ...entry)
      .catch(this.#report);
  }
}

export const createLeaseCache = (options: Options): LeaseCache => new LeaseCache(options);
