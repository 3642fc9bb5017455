import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MemoryBlocks, type Trace, traceOf } from '../../course/experiments/simulator/blocks';
import { lruCurve } from '../../course/experiments/simulator/lru-curve';
import { writeNextUses } from '../../course/experiments/simulator/next-uses';
import { BELADY, beladyMisses, misses, POLICIES } from '../../course/experiments/simulator/policies';
import { shardsCurve } from '../../course/experiments/simulator/shards';
import { finish } from '../../course/experiments/simulator/steps';
import { seeded } from '../../course/kit/random';
import { zipf } from '../../course/kit/workload';
import { NAIVE } from './naive';

/** Of one policy, by its name. */
function missesOf(name: string, trace: Trace, capacity: number): number {
  if (name === BELADY) {
    const nextUses = new MemoryBlocks();
    finish(writeNextUses(trace, nextUses));
    return finish(beladyMisses(capacity, trace, nextUses));
  }
  const policy = POLICIES.find((each) => each.name === name);
  if (!policy) throw new Error(`there is no policy ${name}`);
  return finish(misses(policy, capacity, trace));
}

/** Worked out by hand; the comments say what is held. */
const BY_HAND: readonly (readonly [policy: string, trace: string, capacity: number, misses: number])[] = [
  // ab, c evicts b: ac. a hits, b evicts c.
  ['LRU', 'abacab', 2, 4],
  // ab, a hits, c evicts a, a evicts b, b evicts c.
  ['FIFO', 'abacab', 2, 5],
  // a was used twice: c evicts b, b evicts c.
  ['LFU', 'aabcba', 2, 4],
  // Used once each: of equals, a was used longer ago. c evicts a, a evicts b.
  ['LFU', 'abcac', 2, 4],
  // d takes the mark of a away and evicts b. The hand is at c, so e evicts c, and a hits.
  ['SIEVE', 'abcadea', 3, 5],
  // c takes the mark of a away and evicts b. The hand was at the end, so d begins at the tail and evicts a.
  ['SIEVE', 'abacda', 2, 5],
  // Small holds 1 of 10: a, used twice more, moves to main when k comes, and b is evicted. The ghost brings b to main.
  ['S3-FIFO', 'aaabcdefghijkab', 10, 12],
  // The window is 1, main is 9: the tenth key and the later ones meet a probation of keys used as often, and are refused.
  ['W-TinyLFU', 'abcdefghijklmabc', 10, 13],
  // c is not used again, so d takes its place.
  ['Belady', 'abcdab', 3, 4],
];

test.each(BY_HAND)('%s on %s with %i entries misses %i times', (policy, trace, capacity, expected) => {
  expect(missesOf(policy, traceOf(trace), capacity)).toBe(expected);
});

/** Few keys, so that they come again; sizes around the tenths at which queues get a length. */
const TRACES = fc.tuple(
  fc.array(fc.nat(24), { minLength: 1, maxLength: 300 }),
  fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 13, max: 30 })),
);

test.each(Object.entries(NAIVE))('%s misses as often as a slow and simple version does', (name, naive) => {
  fc.assert(
    fc.property(TRACES, ([keys, capacity]) => {
      expect(missesOf(name, traceOf(keys), capacity)).toBe(naive(keys, capacity));
    }),
    { numRuns: 400 },
  );
});

test('LRU by stack distances is LRU, at every size and over many blocks', () => {
  const keys = zipf({ n: 300, skew: 0.8, random: seeded(5) });
  const trace = traceOf(Array.from({ length: 70_000 }, keys));
  const curve = lruCurve(trace);
  for (const size of [1, 2, 10, 99, 299, trace.distinct]) {
    expect(curve.missesAt(size), `at ${size}`).toBe(missesOf('LRU', trace, size));
  }
  expect(curve.missesAt(0)).toBe(trace.requests);
  expect(curve.missesAt(1e9)).toBe(trace.distinct);
});

test('no policy misses less than Belady, and each misses every key once with room for all', () => {
  const keys = zipf({ n: 2000, skew: 0.9, random: seeded(8) });
  const trace = traceOf(Array.from({ length: 70_000 }, keys));
  for (const { name } of POLICIES) {
    expect(missesOf(name, trace, trace.distinct), name).toBe(trace.distinct);
    expect(missesOf(name, trace, 100), name).toBeGreaterThanOrEqual(missesOf(BELADY, trace, 100));
  }
});

test('a curve of 500 sampled keys is within .02 of the exact one, as a mean over the sizes', () => {
  const keys = zipf({ n: 5000, skew: 0.8, random: seeded(3) });
  const trace = traceOf(Array.from({ length: 60_000 }, keys));
  const exact = lruCurve(trace);
  for (const seed of [1, 2, 3]) {
    const sampled = shardsCurve(trace, { rate: 0.1, seed });
    const sizes = Array.from({ length: 50 }, (_, at) => Math.round((trace.distinct * (at + 1)) / 50));
    const errors = sizes.map((size) => Math.abs(sampled.missRatioAt(size) - exact.missRatioAt(size)));
    expect(errors.reduce((sum, error) => sum + error) / sizes.length, `seed ${seed}`).toBeLessThan(0.02);
  }
});

test('an empty trace has no misses', () => {
  const empty = traceOf([]);
  expect(lruCurve(empty).missRatioAt(10)).toBe(0);
  expect(shardsCurve(empty, { rate: 0.1 }).missRatioAt(10)).toBe(0);
});
