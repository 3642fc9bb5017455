import { setTimeout as sleep } from 'node:timers/promises';
import { withDeadline } from '#kit/given';
import { type Args, decode, encode, LoadTimeoutError, type Options, orAbort } from '../given';

/** One JSON array, with the names in their order. */
export const cacheKey = (name: string, args: Args): string =>
  JSON.stringify([name, ...Object.entries(args).sort(([a], [b]) => a.localeCompare(b, 'en'))]);

/** A background task repeats a failed DEL. Until it succeeds, the key is loaded, and Redis is not asked. */
export function createReadThrough<A extends Args, V>(options: Options<A, V>) {
  const { redis, name, load, ttlMs, loadDeadlineMs, cacheDeadlineMs, onCacheError = () => {} } = options;
  const loads = new Map<string, { bytes: Promise<Buffer>; controller: AbortController; waiting: number }>();
  const deleting = new Map<string, object>();

  async function get(args: A, { signal }: { readonly signal?: AbortSignal } = {}): Promise<V> {
    signal?.throwIfAborted();
    const key = cacheKey(name, args);
    const joined = loads.get(key) ?? begin(key, args);
    joined.waiting++;
    const bytes = await orAbort(joined.bytes, signal, () => {
      if (--joined.waiting > 0) return;
      if (loads.get(key) === joined) loads.delete(key);
      joined.controller.abort(new Error('nobody waits'));
    });
    return decode<V>(bytes);
  }

  function begin(key: string, args: A) {
    const controller = new AbortController();
    const started = { bytes: fetch(key, args, controller), controller, waiting: 0 };
    loads.set(key, started);
    const end = () => {
      if (loads.get(key) === started) loads.delete(key);
    };
    started.bytes.then(end, end);
    return started;
  }

  async function fetch(key: string, args: A, controller: AbortController): Promise<Buffer> {
    const cached = deleting.has(key) ? undefined : await read(key);
    if (cached) return cached;
    controller.signal.throwIfAborted();
    const late = () => controller.abort(new LoadTimeoutError(key, loadDeadlineMs));
    const timer = setTimeout(late, loadDeadlineMs);
    const loading = (async () => load(args, controller.signal))();
    const value = await orAbort(loading, controller.signal).finally(() => clearTimeout(timer));
    const bytes = encode(value);
    const isCurrent = loads.get(key)?.controller === controller;
    if (cached === null && isCurrent && !deleting.has(key)) {
      await withDeadline(redis.set(key, bytes, 'PX', ttlMs), cacheDeadlineMs).catch(onCacheError);
    }
    return bytes;
  }

  /** Null when there is nothing to use, undefined when Redis has not answered. */
  async function read(key: string): Promise<Buffer | null | undefined> {
    const [answer] = await Promise.allSettled([withDeadline(redis.getBuffer(key), cacheDeadlineMs)]);
    if (answer.status === 'rejected') {
      onCacheError(answer.reason);
      return undefined;
    }
    try {
      if (answer.value) decode(answer.value);
      return answer.value;
    } catch (error) {
      onCacheError(error);
      return null;
    }
  }

  async function invalidate(args: A): Promise<void> {
    const key = cacheKey(name, args);
    loads.delete(key);
    const invalidation = {};
    deleting.set(key, invalidation);
    try {
      await withDeadline(redis.del(key), cacheDeadlineMs);
      end(key, invalidation);
    } catch (error) {
      void deleteLater(key, invalidation);
      throw error;
    }
  }

  function end(key: string, invalidation: object): void {
    if (deleting.get(key) === invalidation) deleting.delete(key);
  }

  async function deleteLater(key: string, invalidation: object): Promise<void> {
    const over = performance.now() + ttlMs;
    while (deleting.get(key) === invalidation && performance.now() < over) {
      await sleep(Math.min(20, ttlMs), undefined, { ref: false });
      const repeated = withDeadline(redis.del(key), cacheDeadlineMs);
      const isDone = await repeated.then(
        () => true,
        () => false,
      );
      if (isDone) break;
    }
    end(key, invalidation);
  }

  return { get, invalidate };
}
