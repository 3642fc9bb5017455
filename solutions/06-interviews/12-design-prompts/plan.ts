import type { Claim } from '#claims';
import { type Demand, HotKeyError } from '../../../labs/06-interviews/01-capacity/given';
import { databaseLoad, nodesFor } from '../01-capacity/capacity';

/** What one node can do, in all prompts: a middle-sized instance of a managed service. */
export const NODE = { memoryBytes: 32e9, requestsPerSecond: 100_000, bitsPerSecond: 10e9 };
/** The share of a node's memory that stays free. State is saved to disk by a fork, which copies pages. */
export const RESERVE = { cache: 0.25, state: 0.4 };
export const MILLION = 1e6;
export const BILLION = 1e9;
export const GB = 1e9;
const MONTH_HOURS = 730;
/** Memory is computed for one copy; `fleetFor` adds the replicas. */
export const NONE = { replicas: 0 };

export interface Fleet {
  /** All of them, with spare and replicas. */
  readonly nodes: number;
  readonly primaries: number;
  /** Node-hours of a month. */
  readonly hours: number;
}

/** A failover is decided by the majority of the primaries. */
const MAJORITY = 3;

/** One node more than the peak needs, and `replicas` copies of each. */
export function fleetFor(demand: Omit<Demand, 'node'>, replicas: number): Fleet {
  const needed = nodesFor({ spare: 1, ...demand, node: NODE }).nodes;
  const primaries = replicas > 0 ? Math.max(MAJORITY, needed) : needed;
  const nodes = primaries * (1 + replicas);
  return { nodes, primaries, hours: nodes * MONTH_HOURS };
}

export const hoursOf = (nodes: number): number => nodes * MONTH_HOURS;

/** The fewest nodes of which one may be lost, without replicas, before the database has more than its limit. */
export function nodesForLoss(misses: Omit<Parameters<typeof databaseLoad>[0], 'nodes'>): number {
  for (let nodes = 1; nodes < 1000; nodes++) {
    const { overloaded = [] } = databaseLoad({ ...misses, nodes });
    if (!overloaded.includes('nodeLoss')) return nodes;
  }
  throw new RangeError('the misses alone are too many for the database');
}

/** Whether one node can carry the requests for its hottest key. */
export function canCarry(demand: Demand): boolean {
  try {
    nodesFor(demand);
    return true;
  } catch (error) {
    if (error instanceof HotKeyError) return false;
    throw error;
  }
}

/**
 * Loads a second of a cache with room for all keys, whose popularity follows Zipf's law. A key that is asked for `rate`
 * times a second is loaded once in its TTL and the time until the next request.
 */
export function loadsWithTtl({ keys, requestsPerSecond, ttlSeconds }: TtlCache): number {
  let all = 0;
  for (let rank = 1; rank <= keys; rank++) all += 1 / rank;
  let loads = 0;
  for (let rank = 1; rank <= keys; rank++) loads += 1 / (ttlSeconds + (all * rank) / requestsPerSecond);
  return loads;
}

export interface TtlCache {
  readonly keys: number;
  readonly requestsPerSecond: number;
  readonly ttlSeconds: number;
}

export const gbits = (requestsPerSecond: number, bytes: number): number =>
  (requestsPerSecond * bytes * 8) / 1e9;

/** Claims that are computed from the prompt's numbers: `feed-nodes`. More than three digits would promise too much. */
export const exactly = (
  topic: string,
  rows: readonly (readonly [name: string, says: string, value: number, unit: string])[],
): Claim[] =>
  rows.map(([name, says, value, unit]) => ({
    name: `${topic}-${name}`,
    says,
    value: Number(value.toPrecision(3)),
    unit,
    exact: true,
  }));
