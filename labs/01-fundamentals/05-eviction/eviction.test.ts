import { expect, test } from 'vitest';
import type { Policy } from '#kit/policies';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { Lfu, Sieve } from './eviction';

test('LFU evicts the key with the fewest uses, at each of twelve steps', () => {
  expect(
    answers(new Lfu(3), 'a b b a c d d c a d e c'),
    'LFU must count every use, a new key from 1, and evict the lowest count',
  ).toEqual([
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
  expect(
    answers(new Lfu(2), 'a a b b b c a d'),
    'the two uses of "a" before it was evicted are forgotten: back with one use, "a" goes before "b" with three',
  ).toEqual(['a miss', 'a hit', 'b miss', 'b hit', 'b hit', 'c evicts a', 'a evicts c', 'd evicts a']);
});

test('an LFU access costs at 100,000 keys about what it costs at 1,000', () => {
  const small = new Lfu<number>(1_000);
  const large = new Lfu<number>(100_000);
  for (let key = 0; key < small.capacity; key++) small.access(key);
  for (let key = 0; key < large.capacity; key++) large.access(key);

  let smallPerMs = 0;
  let largePerMs = 0;
  // Turn about, the best of each: what else the machine does meets both.
  for (let round = 0; round < 6; round++) {
    smallPerMs = Math.max(smallPerMs, accessesPerMs(small));
    largePerMs = Math.max(largePerMs, accessesPerMs(large));
  }
  expect(
    smallPerMs / largePerMs,
    'an LFU access must not look through the keys: at 100 times the size it may cost a few times as much, for memory that is further away, not 100 times',
  ).toBeLessThan(20);
});

test('SIEVE evicts the first key not visited, at each of twelve steps', () => {
  expect(
    answers(new Sieve(3), 'a b c a d a e d f g a h'),
    'SIEVE must put a key in at the head, not visited, and walk the hand from the tail to the head and round again',
  ).toEqual([
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

let newKey = 1_000_000;

/** Misses in a full cache, each followed by a hit, for 10 ms or a little more. */
function accessesPerMs(policy: Policy<number>): number {
  const start = performance.now();
  let accesses = 0;
  while (performance.now() - start < 10) {
    for (let i = 0; i < 20; i++) {
      policy.access(newKey);
      policy.access(newKey);
      newKey++;
      accesses += 2;
    }
  }
  return accesses / (performance.now() - start);
}
