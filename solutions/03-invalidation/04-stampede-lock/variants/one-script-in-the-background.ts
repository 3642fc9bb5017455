import { randomBytes } from 'node:crypto';
import type { Redis, Result } from 'ioredis';
import { backoffMs, parseJson } from '#kit/given';
import {
  type Clock,
  encode,
  entryKey,
  type Load,
  LoadTimeoutError,
  lockKey,
  systemClock,
  type Times,
  WaitTimeoutError,
} from '../given';

/**
 * One script for all. ARGV: token, PX, then 'look', staleMs and bytes that count as nothing; or 'finish' and the text to
 * store, if there is one.
 */
const LOCKED = `
  local entry, lock, token, px = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
  if ARGV[3] == 'finish' then
    if redis.call('GET', lock) == token then
      redis.call('DEL', lock)
      if ARGV[4] then redis.call('SET', entry, ARGV[4], 'PX', px) end
    end
    return
  end
  local value = redis.call('GET', entry)
  if ARGV[5] and value == ARGV[5] then value = false end
  if value and redis.call('PTTL', entry) > tonumber(ARGV[4]) then return {value, 0} end
  return {value, redis.call('SET', lock, token, 'NX', 'PX', px) and 1 or 0}`;

type Reply = [Buffer | null, 0 | 1] | null;
type Argument = string | number | Buffer;

declare module 'ioredis' {
  interface RedisCommander<Context> {
    lockedCacheBuffer(entry: string, lock: string, ...args: Argument[]): Result<Reply, Context>;
  }
}

interface Look {
  readonly value?: unknown;
  readonly isOurs: boolean;
}

interface Options {
  readonly redis: Redis;
  readonly clock?: Clock;
  readonly onCacheError?: (error: unknown) => void;
}

/** `defineCommand` sends EVALSHA: the text of the script travels once. No caller waits for its store. */
export function createLockedCache({ redis, clock = systemClock, onCacheError = () => {} }: Options) {
  redis.defineCommand('lockedCache', { numberOfKeys: 2, lua: LOCKED });
  const ask = (key: string, ...args: Argument[]) =>
    redis.lockedCacheBuffer(entryKey(key), lockKey(key), ...args);

  async function look(key: string, token: string, times: Times, ...damaged: Buffer[]): Promise<Look> {
    const [bytes, ours] = (await ask(key, token, times.lockMs, 'look', times.staleMs ?? 0, ...damaged)) ?? [];
    const isOurs = ours === 1;
    if (!bytes) return { isOurs };
    const value = parseJson(bytes);
    if (value !== undefined) return { value, isOurs };
    onCacheError(new Error(`damaged: ${key}`));
    return isOurs ? { isOurs } : look(key, token, times, bytes);
  }

  async function loadText(key: string, load: Load<unknown>, lockMs: number, endsAt: number): Promise<string> {
    const signal = AbortSignal.timeout(Math.max(0, Math.ceil(endsAt - performance.now())));
    const late = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new LoadTimeoutError(key, lockMs)));
    });
    late.catch(() => {});
    return encode(await Promise.race([(async () => load(signal))(), late]));
  }

  return {
    async getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V> {
      const token = randomBytes(16).toString('base64');
      const { freshMs, lockMs, waitMs, staleMs = 0 } = times;
      const end = clock.now() + waitMs;
      const finish = (...text: string[]) =>
        void ask(key, token, freshMs + staleMs, 'finish', ...text).catch(onCacheError);
      for (let attempt = 0; ; attempt++) {
        const endsAt = performance.now() + lockMs;
        const found = await look(key, token, times).catch(onCacheError);
        if (!found) return JSON.parse(await loadText(key, load, lockMs, performance.now() + lockMs));
        const { value, isOurs } = found;
        if (isOurs) {
          const loading = loadText(key, load, lockMs, endsAt);
          const stored = loading.then((text) => finish(text));
          if (value === undefined) {
            stored.catch((error: unknown) => {
              if (!(error instanceof LoadTimeoutError)) finish();
            });
            return JSON.parse(await loading);
          }
          stored.catch(onCacheError);
        }
        if (value !== undefined) return value as V;
        const leftMs = end - clock.now();
        if (leftMs <= 0) throw new WaitTimeoutError(key, waitMs);
        await clock.sleep(Math.min(leftMs, backoffMs(attempt)));
      }
    },
  };
}
