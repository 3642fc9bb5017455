/** `full`: Redis has no room, and stores nothing. */
export type WriteOutcome = 'stored' | 'full';

/** A kind of key that lives in the instance: pages, sessions, counters. Redis cannot know this. */
export interface Kind {
  readonly name: string;
  /** True of a cache entry: a lost key costs time only. False of state. */
  readonly rebuildable: boolean;
  /** Every key of this kind has a TTL. */
  readonly expires: boolean;
}

/**
 * - `no-limit`: maxmemory is 0, whatever the policy is.
 * - `refuses-writes`: the policy is `noeviction`, and at least one kind is rebuildable.
 * - `nothing-to-evict`: the policy is one of `volatile-*`, and there are keys, but none with a TTL.
 */
export type Finding = 'no-limit' | 'refuses-writes' | 'nothing-to-evict';

/** A family of policies (`*` stands for lru, lfu, …), or an instance for the cache and another for the state. */
export type Advice = 'allkeys-*' | 'volatile-*' | 'noeviction' | 'two instances';

export interface Report {
  /** In any order. Each finding is judged by itself. */
  readonly findings: readonly Finding[];
  /** In production: the share of maxmemory that is in use, as eviction counts it. Undefined without a limit. */
  readonly usage?: number | undefined;
  /**
   * In production: the share of the reads between the two INFOs that found their key. Undefined when nothing was read,
   * and when the counters began again in between: after a restart, or after CONFIG RESETSTAT.
   */
  readonly hitRate?: number | undefined;
  /** In production: the names of the kinds that are not rebuildable and that the policy in use may evict. */
  readonly atRisk?: readonly string[];
  /**
   * In production: the policy that may evict all cache entries and no state. `volatile-*` for a mix where the cache
   * entries have a TTL and the state has none; `two instances` for any other mix.
   */
  readonly advice?: Advice;
}
