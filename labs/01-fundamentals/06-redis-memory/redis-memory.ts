import type { Redis } from 'ioredis';

/** `full`: Redis had no room and its policy let it make none. Nothing is stored under the key then. */
export type WriteOutcome = 'stored' | 'full';

/** What one INFO says about memory and reads. The counters run since the server's start or the last CONFIG RESETSTAT. */
export interface Sample {
  /** INFO `run_id`: another one means another server process, whose counters began at 0. */
  readonly runId: string;
  /** INFO `keyspace_hits`. */
  readonly hits: number;
  /** INFO `keyspace_misses`. */
  readonly misses: number;
  /** INFO `used_memory` (bytes): what the allocator handed out. Redis compares this with maxmemory, not the RSS. */
  readonly usedMemory: number;
  /** INFO `maxmemory` (bytes); 0: no limit. */
  readonly maxMemory: number;
  /** INFO `maxmemory_policy`, for example `noeviction`, `allkeys-lru`, `volatile-ttl`. */
  readonly policy: string;
  /** Keys of all databases. */
  readonly keys: number;
  /** Keys of all databases that have a TTL: the only ones that a `volatile-*` policy may evict. */
  readonly keysWithTtl: number;
}

/** One kind of key that lives in the instance: pages, sessions, counters, locks. Redis cannot know this; you do. */
export interface Kind {
  readonly name: string;
  /** Losing a key costs time only: it can be made again from somewhere else. True of a cache entry, false of state. */
  readonly rebuildable: boolean;
  /** Every key of this kind has a TTL. */
  readonly expires: boolean;
}

/**
 * - `no-limit`: maxmemory is 0. Redis grows until the operating system ends it, and no policy ever acts.
 * - `refuses-writes`: `noeviction` where some kind is rebuildable. The cache fills, then every write fails.
 * - `nothing-to-evict`: `volatile-*`, there are keys, and none has a TTL. Acts like noeviction. `keys`: how many.
 * - `evicts-state`: the policy may evict keys of a kind that is not rebuildable. `kinds`: their names, in the order
 *   given. `allkeys-*` may evict every kind, `volatile-*` those that expire.
 *
 * Each is judged by itself; a policy is judged as if there were a limit, because one day there will be.
 */
export type Finding =
  | { readonly code: 'no-limit' }
  | { readonly code: 'refuses-writes' }
  | { readonly code: 'nothing-to-evict'; readonly keys: number }
  | { readonly code: 'evicts-state'; readonly kinds: readonly string[] };

/**
 * Which policy suits the kinds:
 * - all of them rebuildable: `allkeys-lru` or `allkeys-lfu`;
 * - none: `noeviction`;
 * - some, and exactly the rebuildable ones expire: `volatile-lru` or `volatile-lfu`;
 * - any other mix: none does. Separate the cache from the state.
 *
 * `keep`: the policy in use begins with the same word (`allkeys`, `volatile`, `noeviction`) as the one that suits.
 */
export type Advice =
  | { readonly action: 'keep' }
  | { readonly action: 'switch'; readonly to: SuitablePolicy }
  | { readonly action: 'separate-instances' };

export type SuitablePolicy = 'allkeys-lru' | 'allkeys-lfu' | 'volatile-lru' | 'volatile-lfu' | 'noeviction';

export interface Report {
  /**
   * Share (0 to 1) of the reads between the two samples that found their key. Undefined when there was no read, and
   * when a counter fell or `runId` changed (CONFIG RESETSTAT, a restart): the difference means nothing then. A
   * RESETSTAT after which both counters have passed their old values cannot be seen.
   */
  readonly hitRate: number | undefined;
  /** Share of maxmemory in use at the second sample; may exceed 1. Undefined without a limit. */
  readonly usage: number | undefined;
  /** In any order; empty when there is nothing to say. */
  readonly findings: readonly Finding[];
  readonly advice: Advice;
}

/**
 * Writes a cache entry in one command, with its TTL. A Redis that is out of memory is an answer, not an error: it is
 * not asked again, and the value that was to be replaced is removed, so that nobody reads it any longer.
 * @param ttlMs whole milliseconds, from 1; the entry never lives longer than this
 * @throws every other error of Redis or of the connection, unchanged and without another command: what was under the
 *   key may still be there, and to remove it is the caller's task then
 */
export async function write(redis: Redis, key: string, value: string, ttlMs: number): Promise<WriteOutcome> {
  throw new Error('not implemented');
}

/** One INFO and no other command. It also carries the two settings, and many hosted services forbid CONFIG. */
export async function takeSample(redis: Redis): Promise<Sample> {
  throw new Error('not implemented');
}

/**
 * Reads the text of INFO: lines `name:value`, headings `# Memory`, and for each database that has keys a line like
 * `db0:keys=12,expires=3,avg_ttl=0`, to which later versions append more.
 * @throws {Error} with INFO's name of the field, when one of a `Sample` is missing: a hidden maxmemory must not pass
 *   for "no limit", nor a hidden counter for NaN. (No line of a database: there are no keys.)
 */
export function parseInfo(info: string): Sample {
  throw new Error('not implemented');
}

/**
 * What two samples of one instance say about it, given what lives there.
 * @param before the older sample: only its counters and its run id matter
 * @param kinds everything that lives in the instance
 */
export function advise(before: Sample, after: Sample, kinds: readonly [Kind, ...Kind[]]): Report {
  throw new Error('not implemented');
}
