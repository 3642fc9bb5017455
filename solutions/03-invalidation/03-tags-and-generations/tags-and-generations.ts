import { createHash, randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { InFlight, parseJson, withDeadline } from '#kit/given';
import { encode, generationKey, type Load, LoadTimeoutError, type Question } from './given';

export interface Options {
  /** In production: each of its commands has a deadline. */
  readonly redis: Redis;
  /** Caches with different names share no page. */
  readonly name: string;
  /** How long a stored page lives, in whole milliseconds. */
  readonly ttlMs: number;
  /** In production: how long a generation lives, in whole milliseconds. */
  readonly generationTtlMs: number;
  /** In production: how long one load may take (ms). */
  readonly loadDeadlineMs: number;
  /** In production: called with each failure that no caller gets. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

export interface TaggedCache {
  /**
   * The page for this question with these tags, in any order: from Redis, or from `load`. 1 and '1' are two questions.
   * A miss gives what a hit gives: what JSON makes of the page.
   * @param tags names of what the page depends on; one at least
   * @throws what `load` throws. In production: LoadTimeoutError
   */
  get<V>(question: Question, tags: readonly string[], load: Load<V>): Promise<V>;
  /**
   * Called after the commit. Hides all pages that have one of these tags; of none, nothing. A load that began before it is hidden too.
   * @throws unless Redis has confirmed it for each tag
   */
  bump(tags: readonly string[]): Promise<void>;
}

// #region generations
/**
 * KEYS: the generations of the tags. ARGV: a random text, and the PX. A tag without a generation gets one. The time makes
 * it new even if the client sends this command twice. If another process was faster, its generation is taken.
 */
const GENERATIONS = `
  local now = redis.call('TIME')
  local generations = {}
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, ARGV[1] .. '.' .. now[1] .. '.' .. now[2], 'PX', ARGV[2], 'NX')
    generations[i] = redis.call('GET', key)
  end
  return generations`;
// #endregion

/** A cache of pages that are invalidated by tag: their keys change. */
export function createTaggedCache({
  redis,
  name,
  ttlMs,
  generationTtlMs,
  loadDeadlineMs,
  onCacheError = () => {},
}: Options): TaggedCache {
  /** By the key of the page, which a bump changes: a later call does not join. The text is shared, an object is not. */
  const inFlight = new InFlight<string>();

  // #region key
  /** The key of the page as it is now, before anything is loaded. */
  async function pageKey(question: Question, tags: readonly string[]): Promise<string> {
    // Both are copied before the first await: the caller may change them after it.
    const fields = Object.entries(question).sort(([a], [b]) => (a < b ? -1 : 1));
    const sorted = [...tags].sort();
    const generations = await readGenerations(sorted);
    // JSON keeps 1 and '1' apart, and no text can end its place early.
    const identity = JSON.stringify([fields, sorted, generations]);
    // Without braces: each page has a slot of its own.
    return `${name}:page:${createHash('sha256').update(identity).digest('base64url')}`;
  }

  async function readGenerations(tags: readonly string[]): Promise<unknown> {
    const keys = tags.map((tag) => generationKey(name, tag));
    const found = await redis.mget(keys);
    if (!found.includes(null)) return found;
    return redis.eval(GENERATIONS, keys.length, ...keys, randomUUID(), generationTtlMs);
  }
  // #endregion

  // #region fill
  async function readOrFill(key: string, load: Load<unknown>): Promise<string> {
    const cached = await lookup(key);
    if (cached !== undefined) return cached;
    const text = await loadText(load);
    // Under the key from before the load: after a bump, nobody asks for it.
    await redis.set(key, text, 'PX', ttlMs).catch(onCacheError);
    return text;
  }

  async function lookup(key: string): Promise<string | undefined> {
    try {
      const bytes = await redis.getBuffer(key);
      if (bytes === null) return undefined;
      if (parseJson(bytes) !== undefined) return bytes.toString();
      onCacheError(new TypeError(`the page ${key} is not JSON`));
    } catch (error) {
      onCacheError(error);
    }
    return undefined;
  }
  // #endregion

  // #region load
  async function loadText(load: Load<unknown>): Promise<string> {
    const abort = new AbortController();
    const loading = (async () => load(abort.signal))();
    const page = await withDeadline(loading, loadDeadlineMs, () => {
      const error = new LoadTimeoutError(loadDeadlineMs);
      abort.abort(error);
      return error;
    });
    return encode(page);
  }
  // #endregion

  return {
    // #region get
    async get(question, tags, load) {
      let key: string;
      try {
        key = await pageKey(question, tags);
      } catch (error) {
        onCacheError(error);
        // Without the generations nothing shows whether a bump has come: nothing is read, shared or stored.
        return JSON.parse(await loadText(load));
      }
      return JSON.parse(await inFlight.run(key, () => readOrFill(key, load)));
    },
    // #endregion

    // #region bump
    async bump(tags) {
      // The next reader of a tag makes its new generation. DEL of nothing is an error.
      if (tags.length > 0) await redis.del(tags.map((tag) => generationKey(name, tag)));
    },
    // #endregion
  };
}
