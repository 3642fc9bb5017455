import { randomInt } from 'node:crypto';
import type { ChainableCommander, Redis } from 'ioredis';
import { InFlight, parseJson, withDeadline } from '#kit/given';
import { encode, generationKey, type Load, LoadTimeoutError, type Question } from '../given';

interface Options {
  readonly redis: Redis;
  readonly name: string;
  readonly ttlMs: number;
  readonly generationTtlMs: number;
  readonly loadDeadlineMs: number;
  readonly onCacheError?: (error: unknown) => void;
}

/** No script: counters that begin at a random number. What one call does to several of them is one MULTI. */
export function createTaggedCache(options: Options) {
  const { redis, name, ttlMs, generationTtlMs, loadDeadlineMs, onCacheError = () => {} } = options;
  const loads = new InFlight<string>();

  const begin = (transaction: ChainableCommander, key: string) =>
    transaction.set(key, randomInt(2 ** 47), 'PX', generationTtlMs, 'NX');

  async function run(transaction: ChainableCommander): Promise<unknown[]> {
    const answers = (await transaction.exec()) ?? [];
    const [failure] = answers.find(([error]) => error) ?? [];
    if (failure) throw failure;
    return answers.map(([, answer]) => answer);
  }

  async function readGenerations(keys: readonly string[]): Promise<unknown> {
    const found = await redis.mget([...keys]);
    if (found.every((generation) => generation !== null)) return found;
    const transaction = redis.multi();
    for (const key of keys) begin(transaction, key);
    return (await run(transaction.mget([...keys]))).at(-1);
  }

  async function load(source: Load<unknown>): Promise<string> {
    const abort = new AbortController();
    const page = await withDeadline(
      (async () => source(abort.signal))(),
      loadDeadlineMs,
      () => new LoadTimeoutError(loadDeadlineMs),
    ).catch((error: unknown) => {
      abort.abort(error);
      throw error;
    });
    return encode(page);
  }

  async function find(key: string): Promise<string | undefined> {
    const bytes = await redis.getBuffer(key);
    if (!bytes) return undefined;
    if (parseJson(bytes) === undefined) throw new Error(`the page ${key} is damaged`);
    return bytes.toString('utf8');
  }

  return {
    async get<V>(question: Question, tags: readonly string[], source: Load<V>): Promise<V> {
      const asked = JSON.stringify(Object.entries(question).sort());
      const keys = [...new Set(tags)].sort().map((tag) => generationKey(name, tag));
      const generations = await readGenerations(keys).catch(onCacheError);
      if (!generations) return JSON.parse(await load(source));
      const key = `pages of ${name}: ${encodeURIComponent(JSON.stringify([asked, keys, generations]))}`;
      const text = await loads.run(key, async () => {
        const found = await find(key).catch(onCacheError);
        if (found !== undefined) return found;
        const loaded = await load(source);
        await redis.set(key, loaded, 'PX', ttlMs).catch(onCacheError);
        return loaded;
      });
      return JSON.parse(text);
    },

    async bump(tags: readonly string[]): Promise<void> {
      const transaction = redis.multi();
      for (const tag of tags) {
        const key = generationKey(name, tag);
        begin(transaction, key).incr(key).pexpire(key, generationTtlMs);
      }
      await run(transaction);
    },
  };
}
