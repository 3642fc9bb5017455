import { randomUUID } from 'node:crypto';
import { withDeadline } from '#kit/given';
import {
  decode,
  type Entry,
  encode,
  entryKey,
  type Load,
  LoadTimeoutError,
  lockKey,
  lockTtlMs,
  type Options,
} from '../given';

interface Roll {
  readonly now: number;
  readonly expiresAt: number;
  readonly deltaMs: number;
  readonly beta: number;
  readonly random: () => number;
}

/** The other way round: the probability at this gap, against one random number. */
export const shouldRefresh = ({ now, expiresAt, deltaMs, beta, random }: Roll): boolean =>
  1 - random() <= Math.exp(-(expiresAt - now) / (deltaMs * beta));

const IF_OURS = `
  if redis.call('GET', KEYS[1]) == ARGV[1] then
    if #ARGV > 1 then redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3]) end
    return redis.call('DEL', KEYS[1])
  end`;

/** No map of refreshes: within a process too, the lock alone decides which hit refreshes. It comes with the second look. */
export function createEarlyCache(options: Options) {
  const { redis, ttlMs, beta = 1, random = Math.random, now = Date.now, loadDeadlineMs } = options;
  const { onError = () => {} } = options;
  const waiting = new Map<string, Promise<string>>();

  async function get<V>(key: string, load: Load<V>): Promise<V> {
    const bytes = await redis.getBuffer(entryKey(key)).catch((error: unknown) => {
      onError(error);
      return undefined;
    });
    const entry = bytes && read<V>(bytes);
    const at = now();
    if (!bytes || !entry || at >= entry.expiresAt) {
      return JSON.parse(await join(key, load, bytes !== undefined)).value;
    }
    const { deltaMs, expiresAt } = entry;
    if (shouldRefresh({ now: at, expiresAt, deltaMs, beta, random })) {
      refresh(key, load, bytes).catch(onError);
    }
    return entry.value;
  }

  function join(key: string, load: Load<unknown>, mayStore: boolean): Promise<string> {
    const place = `${mayStore ? 'stored' : 'only loaded'}: ${key}`;
    const joined = waiting.get(place);
    if (joined) return joined;
    const started = loadText(key, load)
      .then(async (text) => {
        if (mayStore) await redis.set(entryKey(key), text, 'PX', ttlMs).catch(onError);
        return text;
      })
      .finally(() => waiting.delete(place));
    waiting.set(place, started);
    return started;
  }

  async function refresh(key: string, load: Load<unknown>, seen: Buffer): Promise<void> {
    const token = randomUUID();
    const keys = [lockKey(key), entryKey(key)] as const;
    const replies = await redis
      .multi()
      .set(lockKey(key), token, 'PX', lockTtlMs(loadDeadlineMs), 'NX')
      .getBuffer(entryKey(key))
      .exec();
    const [[, granted] = [], [, current] = []] = replies ?? [];
    if (granted !== 'OK') return;
    if (!(current instanceof Buffer) || !current.equals(seen)) {
      await redis.eval(IF_OURS, 2, ...keys, token);
      return;
    }
    await redis.eval(IF_OURS, 2, ...keys, token, await loadText(key, load), ttlMs);
  }

  async function loadText(key: string, load: Load<unknown>): Promise<string> {
    const controller = new AbortController();
    const begin = now();
    const value = await withDeadline(
      (async () => load(controller.signal))(),
      loadDeadlineMs,
      () => new LoadTimeoutError(key, loadDeadlineMs),
    ).catch((error: unknown) => {
      controller.abort(error);
      throw error;
    });
    const end = now();
    return encode({ value, deltaMs: end - begin, expiresAt: end + ttlMs });
  }

  function read<V>(bytes: Buffer): Entry<V> | undefined {
    try {
      return decode<V>(bytes);
    } catch (error) {
      onError(error);
      return undefined;
    }
  }

  return { get };
}
