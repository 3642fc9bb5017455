import { describe, expect, test } from 'vitest';
import { collectGarbage } from '#kit/effort';
import type { Policy } from '#kit/policies';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { Lfu, Sieve } from './eviction';

describe('Core', () => {
  test('while there is room, a new key is a miss and a known key is a hit', () => {
    for (const make of [() => new Lfu<string>(3), () => new Sieve<string>(3)]) {
      const [one, other] = [make(), make()];
      const name = one.constructor.name;
      expect(answers(one, 'a b a c b'), `answers of ${name}, capacity 3, to the keys a b a c b`).toEqual([
        'a miss',
        'b miss',
        'a hit',
        'c miss',
        'b hit',
      ]);
      expect(one.size, `size of ${name} with the keys a, b and c`).toBe(3);
      expect(
        [answers(other, 'a'), other.size],
        `answer and size of a second ${name} after its first key, a: two caches share nothing`,
      ).toEqual([['a miss'], 1]);
    }
    for (const policy of [new Lfu<unknown>(4), new Sieve<unknown>(4)]) {
      expect(
        [1, '1', {}, {}].map((key) => policy.access(key).hit),
        `hits of ${policy.constructor.name} for the keys 1, '1', {} and {}: they are four keys`,
      ).toEqual([false, false, false, false]);
    }
  });

  test('LFU evicts the key with the fewest uses', () => {
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
    expect(
      seen,
      'the first of twelve accesses that is not as it should be: each use counts, and a new key has one use',
    ).toBe(expected);
  });

  test('LFU breaks a tie by evicting the key used longest ago', () => {
    expect(
      answers(new Lfu(2), 'a b b a c').at(-1),
      'the last of the accesses a b b a c, capacity 2: a and b have two uses each, and the last use of b is older',
    ).toBe('c evicts b');
    expect(
      answers(new Lfu(3), 'a b c c a b d').at(-1),
      'the last of the accesses a b c c a b d, capacity 3: all have two uses, and the last use of c is the oldest',
    ).toBe('d evicts c');
  });

  test('LFU counts all uses since a key came in, and none from before', () => {
    expect(
      answers(new Lfu(2), 'a a b b b c a d').at(-1),
      'the last of the accesses a a b b b c a d, capacity 2: a was evicted and is back with one use, and b has three',
    ).toBe('d evicts a');

    const lfu = new Lfu<string>(2);
    const use = (key: string, times: number) => {
      for (let time = 0; time < times; time++) lfu.access(key);
    };
    use('a', 70_000);
    use('b', 69_999);
    expect(
      answers(lfu, 'c'),
      'the last access after 70,000 uses of a, then 69,999 uses of b, capacity 2: a has more uses than b, however old they are',
    ).toEqual(['c evicts b']);
  });

  test('SIEVE evicts the first key that was not visited', () => {
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
      'the first of twelve accesses that is not as it should be: the hand walks from the tail to the head and round again, and a new key is not visited',
    ).toBe(expected);
    expect(
      answers(new Sieve(3), 'a b c a d c d a e').at(-1),
      'the last of the accesses a b c a d c d a e, capacity 3: the hand goes on from c to the head and to the tail, all visited, and round again to c',
    ).toBe('e evicts c');
    const large = new Sieve<number>(300);
    for (const key of [...upTo(300), ...upTo(299)]) large.access(key);
    expect(
      large.access(300).evicted,
      'what key 300 evicts, capacity 300: the keys 0 to 298 were visited, and 299 was not',
    ).toBe(299);
  });

  test("SIEVE's hand goes on from where it stopped", () => {
    expect(
      answers(new Sieve(3), 'a b c a d e').slice(-2),
      'the last two of the accesses a b c a d e, capacity 3: the hand passed a and evicted b, so it is at c',
    ).toEqual(['d evicts b', 'e evicts c']);
    expect(
      answers(new Sieve(3), 'a b c c d e c f').at(-1),
      'the last of the accesses a b c c d e c f, capacity 3: the hand evicted a, b, and c was hit again, so it passes c and evicts d',
    ).toBe('f evicts d');
    expect(
      answers(new Sieve(3), 'a b c a b d e').at(-1),
      'the last of the accesses a b c a b d e, capacity 3: the hand evicted c at the head, so it begins at the tail, where a is',
    ).toBe('e evicts a');
  });

  test('SIEVE moves no key, neither at a hit nor when the hand passes it', () => {
    expect(
      answers(new Sieve(3), 'a b c c b a d').at(-1),
      'the last of the accesses a b c c b a d, capacity 3: all were hit, so the hand goes round once, to a at the tail',
    ).toBe('d evicts a');
    expect(
      answers(new Sieve(3), 'a b c a d e f').slice(-3),
      'the last three of the accesses a b c a d e f, capacity 3: the hand passed a, which stays at the tail behind it',
    ).toEqual(['d evicts b', 'e evicts c', 'f evicts d']);
  });

  test('SIEVE keeps one bit: many hits save a key as often as one hit', () => {
    expect(
      answers(new Sieve(3), 'a b c b a a d c').at(-1),
      'the last of the accesses a b c b a a d c, capacity 3: the hand has cleared the bits of a and b, and is at a again, which was hit twice',
    ).toBe('c evicts a');
  });

  test('neither policy grows once it is full', () => {
    for (const capacity of [1, 2, 7]) {
      for (const policy of [new Lfu<number>(capacity), new Sieve<number>(capacity)]) {
        expect(
          firstWrongAnswer(policy, popular(1_000, 30, capacity)),
          `the first wrong answer of ${policy.constructor.name}, capacity ${capacity}: when it is full, one of its keys must go for each new key`,
        ).toBe('none');
      }
    }
    for (const policy of [new Lfu<number>(10), new Sieve<number>(10)]) {
      expect(
        megabytesThatStay(policy),
        `megabytes that a full ${policy.constructor.name} of 10 keys keeps of 60,000 misses and 60,000 hits: it must keep nothing of evicted keys and of past counts`,
      ).toBeLessThan(1);
    }
  });

  test('an access costs the same at any capacity', () => {
    const [smallLfu, largeLfu] = [used(new Lfu<number>(100)), used(new Lfu<number>(LARGE))];
    expect(
      Math.max(costRatio(smallLfu, largeLfu, miss), costRatio(smallLfu, largeLfu, missAndHit)),
      `${TIMES} an LFU of 70,000 keys, against 100 keys: it must not search among keys, or among the marks of deleted ones`,
    ).toBeLessThan(20);

    const [alike, spread] = [new Lfu<number>(1_010), new Lfu<number>(1_010)];
    for (const lfu of [alike, spread]) accessAll(lfu, upTo(lfu.capacity));
    accessAll(spread, usesThatDiffer());
    expect(
      Math.max(costRatio(alike, spread, miss), costRatio(alike, spread, missAndHits)),
      `${TIMES} an LFU whose 1,010 keys have 1,000 different counts, against equal counts: it must not search among counts`,
    ).toBeLessThan(20);

    const [smallSieve, largeSieve] = [used(new Sieve<number>(100)), used(new Sieve<number>(LARGE))];
    expect(
      costRatio(smallSieve, largeSieve, missAndHit),
      `${TIMES} a SIEVE of 70,000 keys, against 100 keys: it must neither search in the queue nor move it up`,
    ).toBeLessThan(40);
  });
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

/** Follows the keys that the policy says it holds; it may evict any of them. */
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

// A little above a power of two: a Set of so many keys has twice the room, and keeps a mark for each deleted key in it.
const LARGE = 70_000;

/** Full, and the keys that came in first have a second use: they have left marks where they stood before. */
function used(policy: Policy<number>): Policy<number> {
  accessAll(policy, upTo(policy.capacity));
  accessAll(policy, upTo(0.53 * policy.capacity));
  return policy;
}

/** Uses the keys 10 to 1,009 until each has a count of its own, the lowest 51, and then the last one 10,000 times. */
function* usesThatDiffer(): Generator<number> {
  for (let use = 1; use < 1_050; use++) for (let key = Math.max(10, use - 40); key < 1_010; key++) yield key;
  for (let use = 0; use < 10_000; use++) yield 1_009;
}

/** One key is hit after each miss, so it stays, and has each count once. */
function* newKeysAndOneThatStays(misses: number): Generator<number> {
  for (let miss = 0; miss < misses; miss++) yield* [newKey++, 0];
}

function megabytesThatStay(policy: Policy<number>): number {
  accessAll(policy, newKeysAndOneThatStays(10_000));
  const before = usedAfterCollection();
  accessAll(policy, newKeysAndOneThatStays(60_000));
  return (usedAfterCollection() - before) / 1e6;
}

function usedAfterCollection(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

/** Gives up after a second: a policy that searches is slow here already, and shows it with what it holds by then. */
function accessAll(policy: Policy<number>, keys: Iterable<number>): void {
  const end = performance.now() + 1_000;
  let accesses = 0;
  for (const key of keys) {
    policy.access(key);
    if (++accesses % 50 === 0 && performance.now() > end) return;
  }
}

const TIMES = 'times as much that a miss and the hits after it cost in';

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

/** What the work costs in `other`, in parts of what it costs in `one`. In turn, the best of each, until it is clear. */
function costRatio(one: Policy<number>, other: Policy<number>, work: Work): number {
  for (const policy of [one, other]) perMs(policy, work);
  let [onePerMs, otherPerMs] = [0, 0];
  for (let round = 0; round < 40 && (round < 5 || onePerMs > 10 * otherPerMs); round++) {
    onePerMs = Math.max(onePerMs, perMs(one, work));
    otherPerMs = Math.max(otherPerMs, perMs(other, work));
  }
  return onePerMs / otherPerMs;
}

/** How often the work is done in a millisecond, over 1 ms or a little more. */
function perMs(policy: Policy<number>, work: Work): number {
  const start = performance.now();
  let [times, ms] = [0, 0];
  for (; ms < 1; ms = performance.now() - start) {
    // To look at the clock costs more than a miss.
    for (let time = 0; time < 10; time++) work(policy);
    times += 10;
  }
  return times / ms;
}
