import {
  type Curve,
  type DatabaseLoad,
  type Demand,
  type Entries,
  HotKeyError,
  InputError,
  MIN_SAMPLED_KEYS,
  type Misses,
  type NodePlan,
  type Resource,
  type Sampling,
  StackDistances,
  type Traffic,
} from '../given';

/** Measured once, and rounded: an entry, and its TTL. */
const ENTRY_BYTES = 70;
const TTL_BYTES = 40;

function between(field: string, value: number, least: number, most = Number.MAX_VALUE): number {
  if (Number.isNaN(value) || value < least || value > most) throw new InputError(field, value);
  return value;
}

export function memoryFor(entries: Entries): number {
  const payload = between('keyBytes', entries.keyBytes, 0) + between('valueBytes', entries.valueBytes, 0);
  const each = payload + ENTRY_BYTES + (entries.ttl ? TTL_BYTES : 0);
  return between('entries', entries.entries, 0) * each * (1 + between('replicas', entries.replicas, 0));
}

export function peakPerSecond(traffic: Traffic): number {
  const average = between('requestsPerDay', traffic.requestsPerDay, 0) / (24 * 60 * 60);
  return average * between('peakToAverage', traffic.peakToAverage, 1);
}

/** Tries one node more, until no resource of the busiest node is short. */
export function nodesFor(demand: Demand): NodePlan {
  const { node, hottestKeyShare = 0, reserve = 0, spare = 0, replyBytes = 0 } = demand;
  between('reserve', reserve, 0, 0.999);
  between('hottestKeyShare', hottestKeyShare, 0, 1);
  for (const [field, value] of Object.entries(node)) between(field, value, 1);
  const peak = peakPerSecond(demand.traffic);
  const usable = node.memoryBytes * (1 - reserve);
  const bits = peak * replyBytes * 8;
  if (peak * hottestKeyShare >= node.requestsPerSecond || bits * hottestKeyShare >= node.bitsPerSecond) {
    throw new HotKeyError();
  }
  let decidedBy: Resource = 'memory';
  for (let nodes = 1; ; nodes++) {
    const busiest = hottestKeyShare + (1 - hottestKeyShare) / nodes;
    const used: Record<Resource, number> = {
      memory: demand.memoryBytes / nodes / usable,
      requests: (peak * busiest) / node.requestsPerSecond,
      bandwidth: (bits * busiest) / node.bitsPerSecond,
    };
    const [[resource, most] = ['memory', 0] as const] = Object.entries(used).sort(([, a], [, b]) => b - a);
    if (most <= 1)
      return { nodes: nodes + spare, decidedBy: nodes === 1 ? (resource as Resource) : decidedBy };
    decidedBy = resource as Resource;
  }
}

export function databaseLoad(misses: Misses): DatabaseLoad {
  const { queriesPerMiss = 1, writesPerSecond = 0, limit = Number.POSITIVE_INFINITY } = misses;
  const hitRatio = between('hitRatio', misses.hitRatio, 0, 1);
  const perNode = hitRatio / between('nodes', misses.nodes, 1);
  const queries = (missRatio: number) =>
    peakPerSecond(misses.traffic) * missRatio * queriesPerMiss + writesPerSecond;
  const steady = queries(1 - hitRatio);
  const nodeLoss = queries(1 - hitRatio + perNode);
  const coldStart = queries(1);
  const overloaded: ('steady' | 'nodeLoss' | 'coldStart')[] = [];
  if (steady > limit) overloaded.push('steady');
  if (nodeLoss > limit) overloaded.push('nodeLoss');
  if (coldStart > limit) overloaded.push('coldStart');
  return { steady, nodeLoss, coldStart, overloaded };
}

function hashOf(key: string): number {
  let sum = 7;
  for (const letter of key) sum = Math.imul(sum + letter.charCodeAt(0), 0x9e3779b1) ^ (sum >>> 15);
  return (Math.imul(sum ^ (sum >>> 16), 0x85ebca6b) >>> 0) / 2 ** 32;
}

/** With a list of the keys by their hash: the highest one leaves when there are too many. */
export function missRatioCurve(keys: Iterable<string>, sampling: Sampling = {}): Curve {
  let threshold = between('rate', sampling.rate ?? 1, Number.EPSILON, 1);
  const maxKeys = between('maxKeys', sampling.maxKeys ?? Number.MAX_VALUE, 1);
  const distances = new StackDistances();
  const byHash: { key: string; hash: number }[] = [];
  const weights = new Map<number, number>();
  let [all, first] = [0, 0];
  for (const key of keys) {
    all++;
    const hash = hashOf(key);
    if (hash >= threshold) continue;
    const distance = distances.access(key);
    // Each sampled request stands for this many.
    const weight = 1 / threshold;
    if (distance !== undefined) {
      const size = Math.ceil(distance / threshold);
      weights.set(size, (weights.get(size) ?? 0) + weight);
      continue;
    }
    first += weight;
    if (maxKeys === Number.MAX_VALUE) continue;
    const at = byHash.findIndex((each) => each.hash > hash);
    byHash.splice(at === -1 ? byHash.length : at, 0, { key, hash });
    if (byHash.length > maxKeys) {
      const dropped = byHash.pop();
      if (dropped) distances.forget(dropped.key);
      threshold = dropped?.hash ?? threshold;
    }
  }
  const sizes = [...weights.keys()].sort((one, other) => one - other);
  const seen = sizes.reduce((sum, size) => sum + (weights.get(size) ?? 0), first);
  // What is missing, or too much, belongs to the hot keys: hits in the smallest cache.
  weights.set(1, (weights.get(1) ?? 0) + all - seen);
  if (sizes[0] !== 1) sizes.unshift(1);
  const hitsUpTo = (entries: number) => {
    let hits = 0;
    for (const size of sizes) {
      if (size > entries) break;
      hits += weights.get(size) ?? 0;
    }
    return hits;
  };
  return {
    missRatio: (entries) => 1 - hitsUpTo(entries) / all,
    entriesFor(hitRatio) {
      let hits = 0;
      for (const size of sizes) {
        hits += weights.get(size) ?? 0;
        if (hits >= hitRatio * all) return size;
      }
      return undefined;
    },
    sampledKeys: distances.size,
    tooFewKeys: threshold < 1 && distances.size < MIN_SAMPLED_KEYS,
  };
}
