import {
  type Curve,
  type DatabaseLoad,
  type Demand,
  type Entries,
  type Misses,
  type NodePlan,
  StackDistances,
  type Traffic,
} from './given';

// #region core
const DAY_SECONDS = 86_400;
/** A guess: what the structures of Redis add. */
const OVERHEAD = 0.3;
const TTL_BYTES = 16;

export function memoryFor({ entries, keyBytes, valueBytes, ttl, replicas }: Entries): number {
  return entries * ((keyBytes + valueBytes) * (1 + OVERHEAD) + (ttl ? TTL_BYTES : 0)) * (1 + replicas);
}

export const peakPerSecond = ({ requestsPerDay, peakToAverage }: Traffic): number =>
  (requestsPerDay / DAY_SECONDS) * peakToAverage;

export function nodesFor({ memoryBytes, traffic, node }: Demand): NodePlan {
  const memory = Math.ceil(memoryBytes / node.memoryBytes);
  const requests = Math.ceil(peakPerSecond(traffic) / node.requestsPerSecond);
  return { nodes: Math.max(memory, requests, 1), decidedBy: memory > requests ? 'memory' : 'requests' };
}

export function databaseLoad({ traffic, hitRatio, nodes }: Misses): DatabaseLoad {
  const peak = peakPerSecond(traffic);
  const left = (nodes - 1) / nodes;
  return { steady: peak * (1 - hitRatio), nodeLoss: peak * (1 - hitRatio * left) };
}

export function missRatioCurve(keys: Iterable<string>): Curve {
  const distances = new StackDistances();
  const hits = new Map<number, number>();
  let requests = 0;
  for (const key of keys) {
    requests++;
    const distance = distances.access(key);
    if (distance !== undefined) hits.set(distance, (hits.get(distance) ?? 0) + 1);
  }
  const sizes = [...hits].sort(([one], [other]) => one - other);
  const hitRatio = (entries: number) =>
    sizes.reduce((sum, [size, count]) => (size <= entries ? sum + count : sum), 0) / requests;
  return {
    missRatio: (entries) => 1 - hitRatio(entries),
    entriesFor: (wanted) => sizes.find(([size]) => hitRatio(size) >= wanted)?.[0],
  };
}
// #endregion
