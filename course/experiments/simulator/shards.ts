import { BLOCK, type Blocks, blocksOf, MemoryBlocks, type Trace } from './blocks';
import { type LruCurve, lruCurve, type MissCurve } from './lru-curve';
import { finish, type Steps } from './steps';

/** Requests for a sample of the keys. All requests for a sampled key are in it. */
export interface Sample {
  readonly trace: Trace;
  /** The share of the keys that is in it, 0…1: near the one that was asked for. */
  readonly rate: number;
  /** That share of all requests: the sample has more or fewer, by the popularity of its keys. */
  readonly expected: number;
}

export interface Sampling {
  /** The share of the keys, 0…1. */
  readonly rate: number;
  /** Another one samples other keys. */
  readonly seed?: number;
}

/** The fewest keys that a sample should have: with fewer its curve is luck. */
export const SAMPLED_KEYS_AT_LEAST = 500;

/**
 * The miss-ratio curve of LRU from a sample of the keys: a cache of a tenth of the size, with a tenth of the keys, misses like
 * the whole one. Adjusted: requests by which the sample is too short or too long count as hits of the smallest cache.
 *
 * C. Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015.
 */
export function shardsCurve(trace: Trace, sampling: Sampling): MissCurve {
  const sample = finish(sampleSteps(trace, sampling, new MemoryBlocks()));
  return scaledUp(lruCurve(sample.trace), sample);
}

/** The curve of a sample as the curve of the whole trace. */
export const scaledUp = (curve: LruCurve, sample: Sample): MissCurve => ({
  missRatioAt: (size) => missRatioOf(curve.missesAt(size * sample.rate), sample),
});

/** What the misses in a sample say of the whole trace. */
export const missRatioOf = (misses: number, { expected }: Sample): number =>
  expected === 0 ? 0 : Math.min(1, misses / expected);

/** @param into where the sample goes */
export function* sampleSteps(trace: Trace, { rate, seed = 1 }: Sampling, into: Blocks): Steps<Sample> {
  const ids = new Int32Array(trace.distinct).fill(-1);
  const buffer = new Int32Array(BLOCK);
  let distinct = 0;
  let requests = 0;
  for (let block = 0; block < blocksOf(trace); block++) {
    for (const key of trace.keys.read(block)) {
      if (placeOf(key, seed) >= rate) continue;
      if (ids[key] === -1) ids[key] = distinct++;
      buffer[requests++ % BLOCK] = ids[key] as number;
      if (requests % BLOCK === 0) into.write(requests / BLOCK - 1, buffer);
    }
    yield;
  }
  const rest = requests % BLOCK;
  if (rest > 0) into.write(Math.floor(requests / BLOCK), buffer.subarray(0, rest));
  const inIt = trace.distinct === 0 ? 0 : distinct / trace.distinct;
  return { trace: { requests, distinct, keys: into }, rate: inIt, expected: trace.requests * inIt };
}

/** A hash of the key in [0, 1): the same for all requests for it. (The finalizer of MurmurHash3.) */
function placeOf(key: number, seed: number): number {
  let hash = (key ^ Math.imul(seed, 0x9e3779b9)) | 0;
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return ((hash ^ (hash >>> 16)) >>> 0) / 2 ** 32;
}
