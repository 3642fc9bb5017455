import type { Curve, DatabaseLoad, Demand, Entries, Misses, NodePlan, Sampling, Traffic } from './given';

/** Bytes that Redis uses for the entries, with all copies. */
export function memoryFor(entries: Entries): number {
  throw new Error('not implemented');
}

/** Requests in the busiest second. */
export function peakPerSecond(traffic: Traffic): number {
  throw new Error('not implemented');
}

/**
 * How many nodes the memory and the peak need.
 * @throws In production: HotKeyError
 */
export function nodesFor(demand: Demand): NodePlan {
  throw new Error('not implemented');
}

export function databaseLoad(misses: Misses): DatabaseLoad {
  throw new Error('not implemented');
}

/**
 * @param keys one for each request, in order. They can be read once
 * @param sampling In production
 */
export function missRatioCurve(keys: Iterable<string>, sampling?: Sampling): Curve {
  throw new Error('not implemented');
}
