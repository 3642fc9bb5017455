import { withDeadline } from '#kit/given';
import type { Options, ProductCache } from '../cold-cache';
import {
  decode,
  encode,
  FAILURES_TO_OPEN,
  OPEN_MS,
  OverloadedError,
  type Product,
  productKey,
  REDIS_DEADLINE_MS,
  TTL_MS,
} from '../given';

type Load = (id: number, deadline: number) => Promise<Product>;

/** Layers, each a function around a load: the limit outside of the breaker, the cache outside of both. */
export function createProductCache(options: Options): ProductCache {
  const { redis, load, limit, maxWaiting = 0, now = () => performance.now() } = options;
  const { failuresToOpen = FAILURES_TO_OPEN, openMs = OPEN_MS } = options;
  const guarded = withBreaker(load, failuresToOpen, openMs, now);
  const limited = withLimit(guarded, limit, maxWaiting, now);

  const get = async (id: number, deadline = Number.POSITIVE_INFINITY): Promise<Product> => {
    const key = productKey(id);
    const bytes = await withDeadline(redis.getBuffer(key), REDIS_DEADLINE_MS).catch(() => null);
    const cached = decode(bytes);
    if (cached) return cached;
    const product = await limited(id, deadline);
    void redis.set(key, encode(product), 'PX', TTL_MS).catch(() => undefined);
    return product;
  };

  const warm = async ([first, ...rest]: readonly number[]): Promise<void> => {
    if (first === undefined) return;
    await get(first).catch(() => undefined);
    await warm(rest);
  };
  return { get, warm };
}

function withLimit(load: Load, limit: number, maxWaiting: number, now: () => number): Load {
  let running = 0;
  const waiting = new Set<() => void>();
  return async (id, deadline) => {
    if (running < limit) running++;
    else if (waiting.size >= maxWaiting) throw new OverloadedError();
    else await new Promise<void>((wake) => waiting.add(wake));
    try {
      if (deadline <= now()) throw new OverloadedError('its reader has left');
      return await load(id, deadline);
    } finally {
      const [wake] = waiting;
      if (wake) {
        // The place is passed on: `running` stays.
        waiting.delete(wake);
        wake();
      } else running--;
    }
  };
}

function withBreaker(
  load: (id: number) => Promise<Product>,
  failuresToOpen: number,
  openMs: number,
  now: () => number,
): Load {
  let failed = 0;
  let retryAt = 0;
  return async (id) => {
    if (failed >= failuresToOpen) {
      if (now() < retryAt) throw new OverloadedError('the database has failed');
      // Readers that come while this load is under way find a time that never comes.
      retryAt = Number.POSITIVE_INFINITY;
    }
    try {
      const product = await load(id);
      failed = 0;
      return product;
    } catch (error) {
      failed++;
      retryAt = now() + openMs;
      throw error;
    }
  };
}
