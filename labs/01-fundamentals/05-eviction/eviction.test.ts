import { expect, test } from 'vitest';
import type { Policy } from '#kit/policies';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { Lfu, Sieve } from './eviction';

test('LFU evicts the key with the fewest uses, at each of twelve steps', () => {
  const { seen, expected } = firstDifference(new Lfu(3), [
    'a miss',
    'b miss',
    'b hit',
    'a hit',
    'c miss',
    'd evicts c',
    'd hit',
    'c evicts b',
    'a hit',
    'd hit',
    'e evicts c',
    'c evicts e',
  ]);
  expect(seen, 'LFU must count every use, a new key from 1, and evict the lowest count').toBe(expected);
});

test('LFU breaks a tie by evicting the key used longest ago', () => {
  expect(
    answers(new Lfu(2), 'a b b a c').at(-1),
    'a and b have two uses each, and b was used longest ago: "b" had to go, although "a" came in first',
  ).toBe('c evicts b');
  expect(
    answers(new Lfu(3), 'a b c c a b d').at(-1),
    'a, b and c have two uses each, and c was used longest ago: "c" had to go, although it came in last',
  ).toBe('d evicts c');
});

test('LFU counts a key that comes back from one', () => {
  const { seen, expected } = firstDifference(new Lfu(2), [
    'a miss',
    'a hit',
    'b miss',
    'b hit',
    'b hit',
    'c evicts a',
    'a evicts c',
    'd evicts a',
  ]);
  expect(
    seen,
    'the two uses of "a" before it was evicted are forgotten: back with one use, "a" goes before "b" with three',
  ).toBe(expected);
});

test('an access costs at 100,000 keys about what it costs at 100', () => {
  const [smallLfu, largeLfu] = [new Lfu<number>(100), new Lfu<number>(100_000)];
  for (const lfu of [smallLfu, largeLfu]) accessAll(lfu, upTo(lfu.capacity));
  expect(
    costRatio(smallLfu, largeLfu, missAndHit),
    'an LFU access must not look through the keys: at 1,000 times the size it may cost a few times as much, for memory that is further away, not hundreds of times',
  ).toBeLessThan(25);

  const [alike, spread] = [new Lfu<number>(1_010), new Lfu<number>(1_010)];
  for (const lfu of [alike, spread]) accessAll(lfu, upTo(lfu.capacity));
  accessAll(spread, usesThatDiffer());
  expect(
    Math.max(costRatio(alike, spread, miss), costRatio(alike, spread, missAndHits)),
    'an LFU access must look through no counts: neither those of its keys, here 1,000 different ones, nor those that no key has any more',
  ).toBeLessThan(25);

  const [smallSieve, largeSieve] = [new Sieve<number>(100), new Sieve<number>(100_000)];
  for (const sieve of [smallSieve, largeSieve]) accessAll(sieve, upTo(sieve.capacity));
  expect(
    costRatio(smallSieve, largeSieve, missAndHit),
    'a SIEVE access must neither search the queue nor move it up to close a gap: at 1,000 times the size it may cost a few times as much, not hundreds of times',
  ).toBeLessThan(25);
});

test('SIEVE evicts the first key not visited, at each of twelve steps', () => {
  const { seen, expected } = firstDifference(new Sieve(3), [
    'a miss',
    'b miss',
    'c miss',
    'a hit',
    'd evicts b',
    'a hit',
    'e evicts c',
    'd hit',
    'f evicts e',
    'g evicts d',
    'a hit',
    'h evicts f',
  ]);
  expect(
    seen,
    'SIEVE must put a key in at the head, not visited, and walk the hand from the tail to the head and round again',
  ).toBe(expected);
});

test("SIEVE's hand goes on from where it stopped", () => {
  expect(
    answers(new Sieve(3), 'a b c a d e').slice(-2),
    'the hand spared "a" and stopped after "b": the next eviction begins at "c", not at the tail again',
  ).toEqual(['d evicts b', 'e evicts c']);
  expect(
    answers(new Sieve(3), 'a b c c d e c f').slice(-1),
    'the hand cleared the bit of "c" after evicting "b"; "c" was hit again, so the hand spares it again and evicts "d"',
  ).toEqual(['f evicts d']);
});

test('SIEVE moves no key, neither on a hit nor when the hand spares it', () => {
  expect(
    answers(new Sieve(3), 'a b c c b a d').at(-1),
    'a hit sets a bit and moves nothing: all three were hit, so the hand goes round once to "a", which came in first',
  ).toBe('d evicts a');
  expect(
    answers(new Sieve(3), 'a b c a d e f').slice(-3),
    'the hand spared "a" and went past it: "a" stays at the tail, behind the hand, while the newer keys go',
  ).toEqual(['d evicts b', 'e evicts c', 'f evicts d']);
});

test('neither policy holds more keys than its capacity', () => {
  for (const capacity of [1, 2, 7]) {
    for (const policy of [new Lfu<number>(capacity), new Sieve<number>(capacity)]) {
      expect(
        firstWrongAnswer(policy, popular(1_000, 30, capacity)),
        `${policy.constructor.name} of capacity ${capacity}: a full cache must give up one of its keys for each new one`,
      ).toBe('none');
    }
  }
});

test('replaying a trace in a new cache gives the same evictions', () => {
  const trace = popular(2_000, 200, 5).map(String).join(' ');
  for (const make of [() => new Lfu<string>(40), () => new Sieve<string>(40)]) {
    const first = answers(make(), trace);
    const second = answers(make(), trace);
    const differ = second.findIndex((answer, i) => answer !== first[i]);
    expect(
      differ === -1 ? 'the same' : `${second[differ]} at access ${differ + 1}, first time ${first[differ]}`,
      `two ${make().constructor.name} caches share nothing: each starts empty and decides by its own accesses alone`,
    ).toBe('the same');
  }
});

/** What the policy says to each key of the trace: "a hit", "a miss" or "a evicts b". */
function answers(policy: Policy<string>, trace: string): string[] {
  return trace.split(' ').map((key) => {
    const { hit, evicted } = policy.access(key);
    if (hit) return `${key} hit`;
    return evicted === undefined ? `${key} miss` : `${key} evicts ${evicted}`;
  });
}

/** Makes the accesses of `expected`; names the first step that is not as expected, or all of them if each is. */
function firstDifference(policy: Policy<string>, expected: readonly string[]) {
  const seen = answers(policy, expected.map((step) => step.split(' ')[0]).join(' '));
  const index = seen.findIndex((answer, i) => answer !== expected[i]);
  const name = (steps: readonly string[]) =>
    index === -1 ? 'every step' : `step ${index + 1}: "${steps[index]}"`;
  return { seen: name(seen), expected: name(expected) };
}

/** Follows the keys that the policy says it holds; which of them it evicts is its own affair. */
function firstWrongAnswer(policy: Policy<number>, trace: readonly number[]): string {
  const held = new Set<number>();
  for (const [index, key] of trace.entries()) {
    const at = `access ${index + 1}, key ${key}:`;
    const { hit, evicted } = policy.access(key);
    if (hit !== held.has(key)) return `${at} ${hit ? 'a hit, but it was not in' : 'a miss, but it was in'}`;
    if (evicted === undefined && !hit && held.size === policy.capacity)
      return `${at} nothing evicted, but it was full`;
    if (evicted !== undefined && held.size < policy.capacity)
      return `${at} ${evicted} evicted, but it was not full`;
    if (evicted !== undefined && !held.delete(evicted)) return `${at} ${evicted} evicted, but it was not in`;
    held.add(key);
    if (policy.size !== held.size) return `${at} size ${policy.size}, but ${held.size} are in`;
  }
  return 'none';
}

/** A seeded trace with a few popular keys and many rare ones. */
function popular(requests: number, keys: number, seed: number): number[] {
  const draw = zipf({ n: keys, skew: 1, random: seeded(seed) });
  return Array.from({ length: requests }, draw);
}

function* upTo(keys: number): Generator<number> {
  for (let key = 0; key < keys; key++) yield key;
}

/** Uses the keys 10 to 1,009 until each has a count of its own, the lowest 51, and then the last one 10,000 times. */
function* usesThatDiffer(): Generator<number> {
  for (let use = 1; use < 1_050; use++) for (let key = Math.max(10, use - 40); key < 1_010; key++) yield key;
  for (let use = 0; use < 10_000; use++) yield 1_009;
}

/** Gives up after a second: what searches is slow here already, and shows it with what it holds by then. */
function accessAll(policy: Policy<number>, keys: Iterable<number>): void {
  const end = performance.now() + 1_000;
  let accesses = 0;
  for (const key of keys) {
    policy.access(key);
    if (++accesses % 50 === 0 && performance.now() > end) return;
  }
}

type Work = (policy: Policy<number>) => void;

let newKey = 1_000_000;

const miss: Work = (policy) => void policy.access(newKey++);

const missAndHit: Work = (policy) => {
  miss(policy);
  policy.access(newKey - 1);
};

/** While the new key has the lowest count, and has it alone, each hit changes which count is the lowest. */
const missAndHits: Work = (policy) => {
  miss(policy);
  for (let hit = 0; hit < 40; hit++) policy.access(newKey - 1);
};

/**
 * What the work costs on `other`, against `one`. Turn about, the best of each: what else runs meets both.
 * A machine that is busy gets more rounds: the best of each comes near its true cost, and only a true difference stays.
 */
function costRatio(one: Policy<number>, other: Policy<number>, work: Work): number {
  for (let i = 0; i < 20; i++) for (const policy of [one, other]) work(policy);
  let onePerMs = 0;
  let otherPerMs = 0;
  for (let round = 0; round < 6 || (round < 30 && onePerMs > 10 * otherPerMs); round++) {
    onePerMs = Math.max(onePerMs, perMs(one, work));
    otherPerMs = Math.max(otherPerMs, perMs(other, work));
  }
  return onePerMs / otherPerMs;
}

/** How often the work is done in a millisecond, over 2 ms or a little more. */
function perMs(policy: Policy<number>, work: Work): number {
  const start = performance.now();
  let times = 0;
  while (performance.now() - start < 2) {
    for (let i = 0; i < 10; i++) work(policy);
    times += 10;
  }
  return times / (performance.now() - start);
}
