import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { parseJson, withDeadline } from '#kit/given';
import { type Load, LoadTimeoutError, leaseKey, valueKey } from '../given';

interface Options {
  readonly ttlMs: number;
  readonly maxEntries: number;
  readonly now?: () => number;
  readonly staleMs?: number;
  readonly retryMs?: number;
  readonly timeoutMs?: number;
  readonly onError?: (error: unknown) => void;
  readonly redis?: Redis;
  readonly syncMs?: number;
}

/** What a load has given, and for how long it may be used from `since` on. */
interface Loaded {
  readonly value: unknown;
  readonly since: number;
  readonly freshMs: number;
  readonly usableMs: number;
}

/** What is known of a key, and what is under way: an invalidation throws the whole record away. */
interface KeyRecord {
  loaded?: Loaded;
  retryAt: number;
  running?: { readonly since: number; readonly loaded: Promise<Loaded> } | undefined;
}

/** KEYS: value, lease. ARGV: token, '' or the text, ms for the value. */
const FINISH = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
  redis.call('DEL', KEYS[2])
  if ARGV[2] ~= '' then redis.call('PSETEX', KEYS[1], ARGV[3], ARGV[2]) end
  return 1`;

/** One map of records, plain commands instead of one script that asks, and a poll in even steps. */
export function createCache({
  ttlMs,
  maxEntries,
  now = Date.now,
  staleMs = 0,
  retryMs = 1_000,
  timeoutMs = 10_000,
  onError = () => {},
  redis,
  syncMs = 1_000,
}: Options) {
  const records = new Map<string, KeyRecord>();

  function recordOf(key: string): KeyRecord {
    const record = records.get(key) ?? { retryAt: 0 };
    records.delete(key);
    records.set(key, record);
    // A record whose load is under way counts too; if it leaves, its value is not kept.
    for (const oldest of records.keys()) if (records.size > maxEntries) records.delete(oldest);
    return record;
  }

  function start(key: string, record: KeyRecord, load: Load<unknown>): Promise<Loaded> {
    const { running } = record;
    if (running && (!redis || now() - running.since < syncMs)) return running.loaded;
    const loaded = redis ? fromRedis(redis, key, load) : fromSource(key, load);
    const mine = { since: now(), loaded };
    record.running = mine;
    const end = (result?: Loaded) => {
      if (record.running !== mine) return;
      record.running = undefined;
      if (result) record.loaded = result;
      else if (!record.loaded && records.get(key) === record) records.delete(key);
    };
    loaded.then(end, () => end());
    return loaded;
  }

  async function fromSource(key: string, load: Load<unknown>): Promise<Loaded> {
    const value = await inTime(key, load);
    return { value, since: now(), freshMs: ttlMs, usableMs: ttlMs + staleMs };
  }

  async function fromRedis(redis: Redis, key: string, load: Load<unknown>): Promise<Loaded> {
    const token = randomBytes(12).toString('hex');
    const copyOf = (value: unknown, since: number, livesMs: number): Loaded => {
      const copyMs = Math.min(livesMs, syncMs);
      return { value, since, freshMs: copyMs, usableMs: copyMs };
    };
    const finish = async (...args: (string | number)[]) =>
      redis.eval(FINISH, 2, valueKey(key), leaseKey(key), token, ...args);
    const release = (pauseMs: number) =>
      pauseMs > 0 ? redis.pexpire(leaseKey(key), pauseMs) : finish('', 0);
    const loadAndFinish = async (pauseMs: number): Promise<Loaded> => {
      let value: unknown;
      try {
        value = await inTime(key, load);
      } catch (error) {
        await release(pauseMs).catch(onError);
        throw error;
      }
      const since = now();
      const isStored = await finish(JSON.stringify(value), ttlMs + staleMs).catch(onError);
      return copyOf(value, since, isStored === 1 ? ttlMs : 0);
    };
    const read = async () => {
      const since = now();
      const [bytes, livesMs] = await Promise.all([redis.getBuffer(valueKey(key)), redis.pttl(valueKey(key))]);
      return { value: bytes === null ? undefined : parseJson(bytes), since, livesMs };
    };
    const look = async () => {
      const seen = await read();
      if (seen.value !== undefined && seen.livesMs > staleMs) return { ...seen, isOurs: false };
      const isOurs = (await redis.set(leaseKey(key), token, 'PX', timeoutMs, 'NX')) === 'OK';
      // The last holder may have stored between the two commands.
      const again = isOurs ? await read() : seen;
      if (isOurs && again.livesMs > staleMs) await release(0);
      return { ...again, isOurs: isOurs && again.livesMs <= staleMs };
    };
    const end = performance.now() + timeoutMs;
    while (true) {
      const seen = await look().catch((error: unknown) => void onError(error));
      if (!seen) break;
      const { value, since, livesMs, isOurs } = seen;
      if (value !== undefined && isOurs) loadAndFinish(retryMs).catch(onError);
      if (value !== undefined) return copyOf(value, since, livesMs);
      if (isOurs) return loadAndFinish(0);
      if (performance.now() >= end) break;
      await sleep(10);
    }
    const since = now();
    return copyOf(await inTime(key, load), since, ttlMs);
  }

  async function inTime(key: string, load: Load<unknown>): Promise<unknown> {
    const abort = new AbortController();
    const value = (async () => load(abort.signal))();
    try {
      return await withDeadline(value, timeoutMs, () => new LoadTimeoutError(key, timeoutMs));
    } catch (error) {
      abort.abort(error);
      throw error;
    }
  }

  return {
    async get<V>(key: string, load: Load<V>): Promise<V> {
      const record = recordOf(key);
      const { loaded } = record;
      const age = loaded ? now() - loaded.since : Number.POSITIVE_INFINITY;
      if (!loaded || age >= loaded.usableMs) return (await start(key, record, load)).value as V;
      if (age >= loaded.freshMs && now() >= record.retryAt && !record.running) {
        start(key, record, load).catch((error: unknown) => {
          record.retryAt = now() + retryMs;
          onError(error);
        });
      }
      return loaded.value as V;
    },

    async invalidate(key: string): Promise<void> {
      records.delete(key);
      await redis?.del(valueKey(key), leaseKey(key));
    },
  };
}
