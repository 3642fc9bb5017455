import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { withDeadline } from '#kit/given';
import { decode, encode, entryKey, LoadTimeoutError, lockKey, lockTtlMs, type Options } from '../given';

/** Without Lua: WATCH on the lock, then MULTI. WATCH belongs to a connection, so the finishes take turns on it. */
export function createSwr<V>(options: Options<V>) {
  const { redis, softTtlMs, hardTtlMs, load, loadDeadlineMs, cacheDeadlineMs } = options;
  const { now = Date.now, onError = () => {} } = options;
  const waiting = new Map<string, Promise<Buffer | undefined>>();
  const refreshes = new Map<string, Promise<void>>();
  let turn: Promise<unknown> = Promise.resolve();

  const soon = <T>(command: Promise<T>) => withDeadline(command, cacheDeadlineMs);

  async function get(key: string): Promise<V | undefined> {
    const answer = await soon(redis.getBuffer(entryKey(key))).catch((error: unknown) => {
      onError(error);
      return undefined;
    });
    const entry = answer && read(answer);
    if (!entry) {
      const bytes = await join(key, answer !== undefined);
      return bytes && decode<V>(bytes).value;
    }
    if (now() - entry.storedAt >= softTtlMs && !refreshes.has(key)) {
      const refreshed = refresh(key).catch(onError);
      const ended = refreshed.then(() => void refreshes.delete(key));
      refreshes.set(key, ended);
    }
    return entry.value;
  }

  function read(bytes: Buffer) {
    try {
      return decode<V>(bytes);
    } catch (error) {
      onError(error);
      return undefined;
    }
  }

  function join(key: string, isStored: boolean): Promise<Buffer | undefined> {
    const place = `${isStored ? 'stored' : 'only loaded'}: ${key}`;
    const joined = waiting.get(place);
    if (joined) return joined;
    const started = loadEntry(key)
      .then(async (bytes) => {
        if (bytes && isStored) await soon(redis.set(entryKey(key), bytes, 'PX', hardTtlMs)).catch(onError);
        return bytes;
      })
      .finally(() => waiting.delete(place));
    waiting.set(place, started);
    return started;
  }

  async function loadEntry(key: string): Promise<Buffer | undefined> {
    const controller = new AbortController();
    const late = () => {
      controller.abort(new LoadTimeoutError(key, loadDeadlineMs));
      return controller.signal.reason as Error;
    };
    const loading = (async () => load(key, controller.signal))();
    const value = await withDeadline(loading, loadDeadlineMs, late);
    return value === undefined ? undefined : encode({ value, storedAt: now() });
  }

  async function refresh(key: string): Promise<void> {
    const token = randomUUID();
    const ttlMs = lockTtlMs({ loadDeadlineMs, cacheDeadlineMs });
    const locked = await soon(redis.set(lockKey(key), token, 'PX', ttlMs, 'NX'));
    if (locked !== 'OK') return;
    const bytes = await soon(redis.getBuffer(entryKey(key)));
    const entry = bytes && read(bytes);
    const isFresh = entry && now() - entry.storedAt < softTtlMs;
    const loaded = isFresh ? bytes : await loadEntry(key);
    await finish(key, token, (multi) => {
      if (isFresh) return multi;
      return loaded ? multi.set(entryKey(key), loaded, 'PX', hardTtlMs) : multi.del(entryKey(key));
    });
  }

  function finish(key: string, token: string, change: (multi: ReturnType<Redis['multi']>) => unknown) {
    const finished = turn.then(async () => {
      await soon(redis.watch(lockKey(key)));
      if ((await soon(redis.get(lockKey(key)))) !== token) {
        await soon(redis.unwatch());
        return;
      }
      const multi = redis.multi();
      change(multi);
      // EXEC does nothing if the lock has changed since WATCH.
      await soon(multi.del(lockKey(key)).exec());
    });
    turn = finished.catch(() => {});
    return finished;
  }

  async function onIdle(): Promise<void> {
    while (refreshes.size > 0) await Promise.allSettled(refreshes.values());
  }

  return { get, onIdle };
}
