import type { Redis } from 'ioredis';
import { encode, generationKey, type Load, type Question } from './given';

interface Options {
  readonly redis: Redis;
  readonly name: string;
  readonly ttlMs: number;
}

/** The version for an interview: a counter for each tag, and no answer to any failure. */
// #region core
export function createTaggedCache({ redis, name, ttlMs }: Options) {
  return {
    async get<V>(question: Question, tags: readonly string[], load: Load<V>): Promise<V> {
      const sorted = [...tags].sort();
      const generations = await redis.mget(sorted.map((tag) => generationKey(name, tag)));
      const fields = Object.entries(question).sort(([a], [b]) => (a < b ? -1 : 1));
      const key = `{${name}}:page:${JSON.stringify([fields, sorted, generations])}`;
      const cached = await redis.get(key);
      if (cached !== null) return JSON.parse(cached);
      const text = encode(await load());
      await redis.set(key, text, 'PX', ttlMs);
      return JSON.parse(text);
    },

    async bump(tags: readonly string[]): Promise<void> {
      await Promise.all(tags.map((tag) => redis.incr(generationKey(name, tag))));
    },
  };
}
// #endregion
