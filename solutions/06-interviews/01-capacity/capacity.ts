import {
  type Curve,
  type DatabaseLoad,
  type Demand,
  type Entries,
  HotKeyError,
  hash,
  MIN_SAMPLED_KEYS,
  type Misses,
  type NodePlan,
  type Resource,
  requireWithin,
  type Sampling,
  StackDistances,
  type Traffic,
} from './given';

const DAY_SECONDS = 86_400;

// #region memory
/** The structures of Redis 7 on a machine of 64 bits. */
const BYTES = { pointer: 8, dictEntry: 24, object: 16, embeddedValue: 44 };

/** Bytes that Redis uses for the entries, with all copies. */
export function memoryFor({ entries, keyBytes, valueBytes, ttl, replicas }: Entries): number {
  requireWithin({ entries, keyBytes, valueBytes, replicas });
  if (entries === 0) return 0;
  const value =
    valueBytes <= BYTES.embeddedValue
      ? allocated(BYTES.object + stringBytes(valueBytes))
      : allocated(BYTES.object) + allocated(stringBytes(valueBytes));
  // Each dictionary has a power of two of buckets, and at least one for each entry.
  const inDictionary =
    allocated(BYTES.dictEntry) + (BYTES.pointer * 2 ** Math.ceil(Math.log2(entries))) / entries;
  // A TTL is an entry of a second dictionary, which shares the key.
  const each = allocated(stringBytes(keyBytes)) + value + inDictionary * (ttl ? 2 : 1);
  return entries * each * (1 + replicas);
}

/** A string of Redis: a header, the text, a byte 0. */
const stringBytes = (length: number): number => (length < 32 ? 1 : length < 256 ? 3 : 5) + length + 1;

/** jemalloc hands out classes: each 16 bytes, and above 128 four in each doubling. */
function allocated(bytes: number): number {
  const step = bytes <= 128 ? 16 : 2 ** (Math.floor(Math.log2(bytes - 1)) - 2);
  return Math.ceil(bytes / step) * step;
}
// #endregion

// #region load
/** Requests in the busiest second. */
export function peakPerSecond({ requestsPerDay, peakToAverage }: Traffic): number {
  requireWithin({ requestsPerDay });
  requireWithin({ peakToAverage }, { min: 1 });
  return (requestsPerDay / DAY_SECONDS) * peakToAverage;
}

/**
 * How many nodes the memory and the peak need.
 * @throws In production: HotKeyError
 */
export function nodesFor(demand: Demand): NodePlan {
  const { memoryBytes, traffic, node, reserve = 0, replyBytes = 0, spare = 0, hottestKeyShare = 0 } = demand;
  requireWithin({ memoryBytes, replyBytes, spare });
  requireWithin({ ...node }, { min: 1 });
  requireWithin({ hottestKeyShare }, { max: 1 });
  requireWithin({ reserve }, { max: 0.99 });
  const peak = peakPerSecond(traffic);
  const needs: Record<Resource, number> = {
    memory: memoryBytes / (node.memoryBytes * (1 - reserve)),
    requests: nodesThatCarry(peak, node.requestsPerSecond, hottestKeyShare),
    bandwidth: nodesThatCarry(peak * replyBytes * 8, node.bitsPerSecond, hottestKeyShare),
  };
  const resources = ['memory', 'requests', 'bandwidth'] as const;
  const decidedBy = resources.reduce((most, each) => (needs[each] > needs[most] ? each : most));
  return { nodes: Math.max(1, Math.ceil(needs[decidedBy])) + spare, decidedBy };
}

/** One node has the hottest key, and an equal part of the rest. */
function nodesThatCarry(load: number, capacity: number, hottestKeyShare: number): number {
  const leftForOthers = capacity - load * hottestKeyShare;
  if (leftForOthers <= 0) throw new HotKeyError();
  return (load * (1 - hottestKeyShare)) / leftForOthers;
}

export function databaseLoad(misses: Misses): DatabaseLoad {
  const { traffic, hitRatio, nodes, queriesPerMiss = 1, writesPerSecond = 0 } = misses;
  const limit = misses.limit ?? Number.POSITIVE_INFINITY;
  requireWithin({ hitRatio }, { max: 1 });
  requireWithin({ nodes }, { min: 1 });
  requireWithin({ queriesPerMiss, writesPerSecond, limit });
  const peak = peakPerSecond(traffic);
  const at = (ratio: number) => peak * (1 - ratio) * queriesPerMiss + writesPerSecond;
  // The hits of the lost node are misses now.
  const loads = { steady: at(hitRatio), nodeLoss: at((hitRatio * (nodes - 1)) / nodes), coldStart: at(0) };
  const moments = ['steady', 'nodeLoss', 'coldStart'] as const;
  return { ...loads, overloaded: moments.filter((moment) => loads[moment] > limit) };
}
// #endregion

// #region curve
/** The miss-ratio curve of a trace, by SHARDS: the stack distances of a sample of keys, scaled by its rate. */
export function missRatioCurve(
  keys: Iterable<string>,
  { rate = 1, maxKeys = Number.POSITIVE_INFINITY }: Sampling = {},
): Curve {
  requireWithin({ rate }, { min: Number.MIN_VALUE, max: 1 });
  requireWithin({ maxKeys }, { min: 1 });
  const sample = new StackDistances();
  let misses = new Map<number, number>();
  let requests = 0;
  let sampled = rate;
  for (const key of keys) {
    requests++;
    // The hash chooses keys, not requests: all requests of a key count, or none.
    if (hash(key) >= sampled) continue;
    const enough = Math.round((sample.access(key) ?? Number.POSITIVE_INFINITY) / sampled);
    misses.set(enough, (misses.get(enough) ?? 0) + 1);
    while (sample.size > maxKeys) {
      sampled /= 2;
      for (const each of sample.keys()) if (hash(each) >= sampled) sample.forget(each);
      // They were counted at twice the rate.
      misses = new Map([...misses].map(([size, count]) => [size, count / 2]));
    }
  }
  return {
    ...curveOf(misses, requests * sampled),
    sampledKeys: sample.size,
    tooFewKeys: sampled < 1 && sample.size < MIN_SAMPLED_KEYS,
  };
}

/**
 * @param misses how many requests miss in every cache below a size, by that size
 * @param requests what the rate promises. The sample has more with a hot key, fewer without: hits of any cache
 */
function curveOf(
  misses: ReadonlyMap<number, number>,
  requests: number,
): Pick<Curve, 'missRatio' | 'entriesFor'> {
  let total = 0;
  /** From the largest size to the smallest. A cache that is smaller has this miss ratio, or a higher one. */
  const steps = [...misses]
    .sort(([one], [other]) => other - one)
    .map(([size, count]) => {
      total += count;
      return { size, missRatio: Math.min(total / requests, 1) };
    });
  return {
    missRatio: (entries) => steps.findLast(({ size }) => size > entries)?.missRatio ?? 0,
    entriesFor: (hitRatio) => {
      const size = steps.find(({ missRatio }) => missRatio > 1 - hitRatio)?.size ?? 0;
      return Number.isFinite(size) ? size : undefined;
    },
  };
}
// #endregion
