import { InFlight } from '#kit/given';
import { type Cache, encode, type Options, tagKey, valueKey } from './given';

/** The version for an interview: one tier, and all that can go wrong left out. */
// #region core
export function createCache({ name, connect }: Options): Cache {
  const redis = connect({});
  const inFlight = new InFlight<unknown>();

  return {
    get(key, load, { ttlMs, tags = [] }) {
      const readOrLoad = async () => {
        const cached = await redis.get(valueKey(name, key));
        if (cached !== null) return JSON.parse(cached);
        const value = await load(new AbortController().signal);
        await redis.set(valueKey(name, key), encode(value), 'PX', ttlMs);
        for (const tag of tags) await redis.sadd(tagKey(name, tag), valueKey(name, key));
        return value;
      };
      return inFlight.run(key, readOrLoad) as ReturnType<Cache['get']>;
    },

    async invalidate(key) {
      await redis.del(valueKey(name, key));
    },

    async invalidateTag(tag) {
      const tagged = await redis.smembers(tagKey(name, tag));
      await redis.del(tagKey(name, tag), ...tagged);
    },

    async close() {
      redis.disconnect();
    },
  };
}
// #endregion
