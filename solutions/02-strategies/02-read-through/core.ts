import { type Args, decode, encode, type Options } from './given';

// #region core
export function cacheKey(name: string, args: Args): string {
  const sorted = Object.entries(args).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${name}:${JSON.stringify(sorted)}`;
}

/** The textbook version of single flight. */
export function createReadThrough<A extends Args, V>({ redis, name, load, ttlMs }: Options<A, V>) {
  const inFlight = new Map<string, Promise<V>>();

  async function readOrLoad(key: string, args: A): Promise<V> {
    const bytes = await redis.getBuffer(key);
    if (bytes !== null) return decode(bytes);
    const value = await load(args, new AbortController().signal);
    await redis.set(key, encode(value), 'PX', ttlMs);
    return value;
  }

  return {
    async get(args: A): Promise<V> {
      const key = cacheKey(name, args);
      const running = inFlight.get(key);
      if (running) return running;
      const started = readOrLoad(key, args).finally(() => inFlight.delete(key));
      inFlight.set(key, started);
      return started;
    },

    async invalidate(args: A): Promise<void> {
      await redis.del(cacheKey(name, args));
    },
  };
}
// #endregion
