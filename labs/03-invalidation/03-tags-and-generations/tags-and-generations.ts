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

/** A cache of pages that are invalidated by tag: what changes is their name. */
export function createTaggedCache({
  redis,
  name,
  ttlMs,
  generationTtlMs,
  loadDeadlineMs,
  onCacheError = () => {},
}: TaggedCacheOptions): TaggedCache {
  throw new Error('not implemented');
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
