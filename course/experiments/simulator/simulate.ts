import type { Blocks, Trace } from './blocks';
import { lruCurveSteps, type MissCurve } from './lru-curve';
import { writeNextUses } from './next-uses';
import { BELADY, beladyMisses, misses, POLICIES } from './policies';
import { missRatioOf, type Sample, sampleSteps, scaledUp } from './shards';
import type { Steps } from './steps';

/** What one policy misses at each of the sizes. */
export interface Curve {
  readonly policy: string;
  /** Of a sample, those of the whole trace as estimated. */
  readonly misses: readonly number[];
}

export interface Simulation {
  readonly requests: number;
  readonly distinct: number;
  /** The keys that were replayed, where not all of them were. */
  readonly sampled: number | undefined;
  /** Entries, ascending. */
  readonly sizes: readonly number[];
  /** The policies in their order, then Belady. */
  readonly curves: readonly Curve[];
  /** LRU at every size. */
  readonly lru: MissCurve;
}

const SIZES = 16;
const SMALLEST = 1 / 1000;

/** From a thousandth of the keys to all of them, evenly spaced on a log scale. */
export function defaultSizes(distinct: number): number[] {
  const sizes = Array.from({ length: SIZES }, (_, at) =>
    Math.max(1, Math.round(distinct * SMALLEST ** (1 - at / (SIZES - 1)))),
  );
  return [...new Set(sizes)];
}

export interface Settings {
  readonly sizes: readonly number[];
  /** The share of the keys to replay, 0…1; all where absent. */
  readonly rate: number | undefined;
  /** Called for each list of numbers that is too long for memory. */
  makeBlocks(): Blocks;
}

/** Replays the trace with each policy at each size. @yields what runs, and how much of all is done (0…1) */
export function* simulate(
  trace: Trace,
  { sizes, rate, makeBlocks }: Settings,
): Generator<readonly [what: string, done: number], Simulation> {
  const sample = rate === undefined ? whole(trace) : yield* sampled(trace, rate, makeBlocks());
  const nextUses = makeBlocks();
  const runs = sizes.flatMap((size) =>
    [...POLICIES.map(({ name }) => name), BELADY].map((name) => ({ name, size })),
  );
  const lru = yield* reported(lruCurveSteps(sample.trace), 'LRU at every size', 0);
  yield* reported(writeNextUses(sample.trace, nextUses), 'the future, for Belady', 0);
  const found = new Map<string, number[]>();
  for (const [at, { name, size }] of runs.entries()) {
    const capacity = Math.max(1, Math.round(size * sample.rate));
    const policy = POLICIES.find((each) => each.name === name);
    const steps = policy
      ? misses(policy, capacity, sample.trace)
      : beladyMisses(capacity, sample.trace, nextUses);
    const inSample = yield* reported(steps, `${name} with ${size} entries`, at / runs.length);
    const all = found.get(name) ?? [];
    all.push(rate === undefined ? inSample : Math.round(missRatioOf(inSample, sample) * trace.requests));
    found.set(name, all);
  }
  return {
    requests: trace.requests,
    distinct: trace.distinct,
    sampled: rate === undefined ? undefined : sample.trace.distinct,
    sizes,
    curves: [...found].map(([policy, misses]) => ({ policy, misses })),
    lru: rate === undefined ? lru : scaledUp(lru, sample),
  };
}

const whole = (trace: Trace): Sample => ({ trace, rate: 1, expected: trace.requests });

const sampled = (trace: Trace, rate: number, into: Blocks) =>
  reported(sampleSteps(trace, { rate }, into), 'a sample of the keys', 0);

function* reported<T>(steps: Steps<T>, what: string, done: number): Generator<readonly [string, number], T> {
  for (let step = steps.next(); ; step = steps.next()) {
    if (step.done) return step.value;
    yield [what, done];
  }
}
