import type { Redis } from 'ioredis';
import type { Load, Question } from './given';

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

/** A cache of pages that are invalidated by tag: their keys change. */
export function createTaggedCache({
  redis,
  name,
  ttlMs,
  generationTtlMs,
  loadDeadlineMs,
  onCacheError = () => {},
}: Options): TaggedCache {
  throw new Error('not implemented');
}
