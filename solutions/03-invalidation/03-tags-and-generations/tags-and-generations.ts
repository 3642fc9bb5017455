import { createHash, randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';

/** What a page answers, by name. The order of the names means nothing; 1 and '1' are two questions. Numbers are finite. */
export type Question = Readonly<Record<string, string | number | boolean>>;

/** Where the generation of a tag lives. The braces keep the generations of a cache in one cluster slot. */
export const generationKey = (name: string, tag: string): string => `{${name}}:generation:${tag}`;

/** Redis did not confirm a bump: pages of its tags may still be served. `cause` says why. */
export class BumpError extends Error {
  override readonly name = 'BumpError';

  constructor(tags: readonly string[], cause: unknown) {
    super(`the bump of ${tags.join(', ')} was not confirmed: try it again until it is`, { cause });
  }
}

/** The load took longer than loadDeadlineMs. */
export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(ms: number) {
    super(`the load took longer than ${ms} ms`);
  }
}

export interface TaggedCacheOptions {
  /** It has a `commandTimeout`: each of its commands settles in bounded time. */
  readonly redis: Redis;
  /** The namespace of its keys. No two caches on one Redis share a name: a tenant has a cache of its own. */
  readonly name: string;
  /** The life of a page from when it was stored (ms). No hit makes it longer. */
  readonly ttlMs: number;
  /** The life of a generation from its birth (ms): no read makes it longer. When it ends, its pages are not found any more. */
  readonly generationTtlMs: number;
  /** How long one load may take (ms). */
  readonly loadDeadlineMs: number;
  /** Told each failure of Redis that no caller is told. What it throws is ignored. */
  readonly onCacheError?: (error: unknown) => void;
}

export interface TaggedCache {
  /**
   * The page from Redis, else from `load`, and then stored for ttlMs. It is found again by the same question with the same
   * tags, in any order, for as long as none of the tags has been bumped. A call that begins after a {@link bump} of one
   * of its tags has resolved, in whatever process, never gets a page whose load began before that bump: neither a stored
   * one, nor one that is still being loaded, nor one that is stored later.
   *
   * A tag without a generation (never used, expired, evicted) gets one that no page has ever carried, whichever process
   * stored it and whatever its clock says; processes that meet there agree on one. Calls of one page that meet in this
   * object share a load while it runs, if Redis has told them the generations. They share no object: each gets what JSON
   * makes of the page, who loads it too. A stored text that JSON cannot parse is no page, and is replaced. A hit is two
   * requests to Redis, however many tags there are: one for the generations, one for the page.
   *
   * A read of Redis fails: the call loads for at most loadDeadlineMs, and stores nothing. If it was the read of the
   * generations, it shares its load with no other: a bump that it could not hear of may lie between them. A page that
   * cannot be stored is returned all the same.
   * @param question read, as `tags` are, before the promise is returned: the caller may change them after that
   * @param tags what the page depends on; one at least
   * @param load asks the source, once a call; what JSON can hold, null and 0 too. `signal` is aborted after loadDeadlineMs
   * @throws {RangeError} without a tag: such a page could never be bumped; what `load` throws, or
   *   {@link LoadTimeoutError}, to all who share it, and it is forgotten then
   */
  get<V>(question: Question, tags: readonly string[], load: (signal: AbortSignal) => Promise<V>): Promise<V>;
  /**
   * Call it after the commit. Hides every page that carries one of the tags, however many there are, with one command a
   * tag. Nothing is searched for and nothing is deleted: hidden pages end with their ttlMs.
   * @throws {@link BumpError} when Redis has not confirmed it for each of the tags; the writer leaves it to an outbox (lesson 3.2) then
   */
  bump(tags: readonly string[]): Promise<void>;
}

// #region generations
/** KEYS: the generations of the tags. ARGV: one for those that have none, its PX. Who comes second gets the first one's. */
const GENERATIONS = `
  local generations = {}
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2], 'NX')
    generations[i] = redis.call('GET', key)
  end
  return generations`;
// #endregion

type Load = (signal: AbortSignal) => Promise<unknown>;

/** A cache of pages that are invalidated by tag: what changes is their name. */
export function createTaggedCache({
  redis,
  name,
  ttlMs,
  generationTtlMs,
  loadDeadlineMs,
  onCacheError = () => {},
}: TaggedCacheOptions): TaggedCache {
  /** By the page's key: a bump changes it, so that nobody who comes later joins. Text is shared, values are not. */
  const flights = new Map<string, Promise<string>>();

  function tell(error: unknown): void {
    try {
      onCacheError(error);
    } catch {}
  }

  // #region key
  /** The page's name holds the generations that its tags have now, before anything is loaded. */
  async function pageKey(question: Question, tags: readonly string[]): Promise<string> {
    // Both are read before the first await: the caller may change them meanwhile.
    const names = Object.entries(question).sort(([a], [b]) => (a < b ? -1 : 1));
    const sorted = [...new Set(tags)].sort();
    const keys = sorted.map((tag) => generationKey(name, tag));
    let generations = await redis.mget(keys);
    if (generations.includes(null)) {
      // A counter would begin at 1 again, and find the pages of its first life.
      generations = (await redis.eval(
        GENERATIONS,
        keys.length,
        ...keys,
        randomUUID(),
        generationTtlMs,
      )) as string[];
    }
    // JSON keeps 1 and '1' apart, and no text can end its place early. The hash bounds the length.
    const identity = JSON.stringify([names, sorted, generations]);
    return `{${name}}:page:${createHash('sha256').update(identity).digest('base64url')}`;
  }
  // #endregion

  // #region load
  async function loadText(load: Load): Promise<string> {
    const abort = new AbortController();
    const loading = (async () => load(abort.signal))();
    const page = await withDeadline(loading, loadDeadlineMs, () => {
      const error = new LoadTimeoutError(loadDeadlineMs);
      abort.abort(error);
      return error;
    });
    return textOf(page);
  }
  // #endregion

  // #region fill
  async function readOrFill(key: string, load: Load): Promise<string> {
    let cached: string | null;
    try {
      cached = await redis.get(key);
    } catch (error) {
      tell(error);
      return loadText(load);
    }
    if (cached !== null && isJson(cached)) return cached;
    const text = await loadText(load);
    // Under the name from before the load: if a tag was bumped meanwhile, nobody asks for it any more.
    await redis.set(key, text, 'PX', ttlMs).catch(tell);
    return text;
  }
  // #endregion

  return {
    // #region get
    async get(question, tags, load) {
      if (tags.length === 0) throw new RangeError('a page without a tag can never be bumped');
      let key: string;
      try {
        key = await pageKey(question, tags);
      } catch (error) {
        tell(error);
        // Without its generations the page has no name, and no other call can be told to be the same.
        return JSON.parse(await loadText(load));
      }
      return JSON.parse(await once(flights, key, () => readOrFill(key, load)));
    },
    // #endregion

    // #region bump
    async bump(tags) {
      const renew = (tag: string) => redis.set(generationKey(name, tag), randomUUID(), 'PX', generationTtlMs);
      try {
        await Promise.all(tags.map(renew));
      } catch (error) {
        throw new BumpError(tags, error);
      }
    },
    // #endregion
  };
}

/** What is running for this key, else what `start` starts; forgotten when it has settled. Provided. */
export function once<T>(running: Map<string, Promise<T>>, key: string, start: () => Promise<T>): Promise<T> {
  const already = running.get(key);
  if (already) return already;
  const started = start().finally(() => running.delete(key));
  running.set(key, started);
  return started;
}

/** The promise, or the error of `late` when it has not settled after `ms`. Provided. */
export function withDeadline<T>(promise: Promise<T>, ms: number, late: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(late()), ms);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** @throws TypeError for what JSON cannot hold. Provided. */
export function textOf(value: unknown): string {
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`JSON cannot hold ${typeof value}`);
  return text;
}

/** Whether there is a value in this text. Provided. */
export function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
