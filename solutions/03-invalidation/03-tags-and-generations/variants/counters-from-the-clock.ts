import type { Redis } from 'ioredis';
import { parseJson, withDeadline } from '#kit/given';
import { encode, generationKey, type Load, LoadTimeoutError, type Question } from '../given';

interface Options {
  readonly redis: Redis;
  readonly name: string;
  readonly ttlMs: number;
  readonly generationTtlMs: number;
  readonly loadDeadlineMs: number;
  readonly onCacheError?: (error: unknown) => void;
}

/** KEYS: the generations. ARGV: PX. A counter begins at the microseconds of Redis, above all its earlier numbers. */
const READ = `
  local now = redis.call('TIME')
  local start = now[1] .. string.format('%06d', now[2])
  for _, key in ipairs(KEYS) do redis.call('SET', key, start, 'NX', 'PX', ARGV[1]) end
  return redis.call('MGET', unpack(KEYS))`;

/** KEYS: the generations. A tag without one needs no bump: its next number is a new one. */
const BUMP = `
  for _, key in ipairs(KEYS) do
    if redis.call('EXISTS', key) == 1 then redis.call('INCR', key) end
  end`;

export const createTaggedCache = (options: Options) => new TaggedPages(options);

/** A class. Generations are counters, read and made by one script. The caller does not wait for the fill. */
class TaggedPages {
  readonly #loading = new Map<string, Promise<string>>();
  readonly #options: Options;

  constructor(options: Options) {
    this.#options = options;
  }

  async get<V>(question: Question, tags: readonly string[], load: Load<V>): Promise<V> {
    const fields = Object.keys(question)
      .sort()
      .map((field) => [field, question[field]]);
    const asked = [...new Set(tags)].sort();
    let generations: unknown;
    try {
      generations = await this.#run(READ, asked, this.#options.generationTtlMs);
    } catch (error) {
      this.#report(error);
      return JSON.parse(await this.#load(load));
    }
    const key = `${this.#options.name}/${Buffer.from(JSON.stringify([fields, asked, generations])).toString('hex')}`;
    let text = this.#loading.get(key);
    if (!text) {
      text = this.#readOrLoad(key, load).finally(() => this.#loading.delete(key));
      this.#loading.set(key, text);
    }
    return JSON.parse(await text);
  }

  async bump(tags: readonly string[]): Promise<void> {
    await this.#run(BUMP, tags);
  }

  #run(script: string, tags: readonly string[], ...args: number[]): Promise<unknown> {
    const { redis, name } = this.#options;
    return redis.eval(script, tags.length, ...tags.map((tag) => generationKey(name, tag)), ...args);
  }

  async #readOrLoad(key: string, load: Load<unknown>): Promise<string> {
    const { redis, ttlMs } = this.#options;
    const bytes = await redis.getBuffer(key).catch((error: unknown) => this.#report(error));
    if (bytes && parseJson(bytes) !== undefined) return bytes.toString();
    if (bytes) this.#report(new SyntaxError(`${key} is damaged`));
    const text = await this.#load(load);
    // Without an answer to the GET, a SET would cost a second deadline.
    if (bytes !== undefined) redis.psetex(key, ttlMs, text).catch((error) => this.#report(error));
    return text;
  }

  async #load(load: Load<unknown>): Promise<string> {
    const abort = new AbortController();
    const ms = this.#options.loadDeadlineMs;
    const late = () => {
      abort.abort();
      return new LoadTimeoutError(ms);
    };
    return encode(await withDeadline(Promise.resolve(abort.signal).then(load), ms, late));
  }

  #report(error: unknown): undefined {
    this.#options.onCacheError?.(error);
    return undefined;
  }
}
