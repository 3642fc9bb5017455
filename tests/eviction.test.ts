import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { belady, Fifo, Lru, type Policy, Random, replay, Ttl } from '#kit/policies';
import { seeded } from '#kit/random';
import { Lfu, Sieve } from '../solutions/01-fundamentals/05-eviction/eviction';

// Each model states its policy as plainly as possible: one array, searched from end to end, and times of use.

interface Held {
  readonly key: number;
  readonly cameIn: number;
  usedAt: number;
  uses: number;
}

/** Keeps an array of what it holds; `worst` puts the key to evict first. */
function model(trace: readonly number[], capacity: number, worst: (a: Held, b: Held) => number): number[] {
  let held: Held[] = [];
  return trace.map((key, now) => {
    const found = held.find((one) => one.key === key);
    if (found) {
      found.usedAt = now;
      found.uses++;
      return HIT;
    }
    const [victim] = held.length === capacity ? held.toSorted(worst) : [];
    held = [...held.filter((one) => one !== victim), { key, cameIn: now, usedAt: now, uses: 1 }];
    return victim?.key ?? MISS;
  });
}

const HIT = -1;
const MISS = -2;

const models = {
  FIFO: (trace: readonly number[], capacity: number) => model(trace, capacity, (a, b) => a.cameIn - b.cameIn),
  LRU: (trace: readonly number[], capacity: number) => model(trace, capacity, (a, b) => a.usedAt - b.usedAt),
  LFU: (trace: readonly number[], capacity: number) =>
    model(trace, capacity, (a, b) => a.uses - b.uses || a.usedAt - b.usedAt),
  SIEVE: sieve,
};

/** The queue is an array with the tail at 0; the hand is an index into it. */
function sieve(trace: readonly number[], capacity: number): number[] {
  const queue: number[] = [];
  const visited = new Set<number>();
  let hand = 0;
  return trace.map((key) => {
    if (queue.includes(key)) {
      visited.add(key);
      return HIT;
    }
    let evicted = MISS;
    if (queue.length === capacity) {
      while (visited.delete(queue[hand] ?? MISS)) hand = (hand + 1) % capacity;
      evicted = queue.splice(hand, 1)[0] ?? MISS;
      // Past the head it is the tail's turn, not that of the key about to come in.
      if (hand === queue.length) hand = 0;
    }
    queue.push(key);
    return evicted;
  });
}

/** The fewest misses by trying every victim at every miss. */
function fewestMisses(trace: readonly number[], capacity: number): number {
  let caches = new Map<string, { keys: number[]; misses: number }>([['', { keys: [], misses: 0 }]]);
  for (const key of trace) {
    const next: typeof caches = new Map();
    const offer = (keys: number[], misses: number) => {
      const sorted = keys.toSorted((a, b) => a - b);
      const known = next.get(sorted.join());
      if (!known || known.misses > misses) next.set(sorted.join(), { keys: sorted, misses });
    };
    for (const { keys, misses } of caches.values()) {
      if (keys.includes(key)) offer(keys, misses);
      else if (keys.length < capacity) offer([...keys, key], misses + 1);
      else for (const victim of keys) offer([...keys.filter((one) => one !== victim), key], misses + 1);
    }
    caches = next;
  }
  return Math.min(...[...caches.values()].map(({ misses }) => misses));
}

function answers(policy: Policy<number>, trace: readonly number[]): number[] {
  return trace.map((key) => {
    const { hit, evicted } = policy.access(key);
    return hit ? HIT : (evicted ?? MISS);
  });
}

const anyTrace = fc
  .integer({ min: 1, max: 30 })
  .chain((keys) => fc.array(fc.nat({ max: keys }), { minLength: 1, maxLength: 200 }));
const anyCapacity = fc.integer({ min: 1, max: 12 });

test.each([
  ['FIFO', (capacity: number) => new Fifo<number>(capacity)],
  ['LRU', (capacity: number) => new Lru<number>(capacity)],
  ['LFU', (capacity: number) => new Lfu<number>(capacity)],
  ['SIEVE', (capacity: number) => new Sieve<number>(capacity)],
] as const)('%s answers every access as its model does', (name, make) => {
  fc.assert(
    fc.property(anyTrace, anyCapacity, (trace, capacity) => {
      const expected = models[name](trace, capacity);
      expect(answers(make(capacity), trace)).toEqual(expected);
      expect(replay(make(capacity), trace).hits).toBe(expected.filter((answer) => answer === HIT).length);
    }),
    { numRuns: 300 },
  );
});

test('Belady has the fewest misses of all ways to evict', () => {
  const shortTrace = fc.array(fc.nat({ max: 6 }), { minLength: 1, maxLength: 24 });
  fc.assert(
    fc.property(shortTrace, fc.integer({ min: 1, max: 4 }), (trace, capacity) => {
      expect(belady(trace, capacity).misses).toBe(fewestMisses(trace, capacity));
    }),
    { numRuns: 200 },
  );
});

test('no policy has more hits than Belady', () => {
  fc.assert(
    fc.property(anyTrace, anyCapacity, fc.integer(), (trace, capacity, seed) => {
      const ceiling = belady(trace, capacity).hits;
      const policies = [Fifo, Lru, Lfu, Sieve].map((Policy) => new Policy<number>(capacity));
      for (const policy of [...policies, new Random<number>(capacity, seeded(seed))]) {
        expect(replay(policy, trace).hits).toBeLessThanOrEqual(ceiling);
      }
    }),
  );
});

test('Random evicts a key that it holds, and the same ones for the same seed', () => {
  fc.assert(
    fc.property(anyTrace, anyCapacity, fc.integer(), (trace, capacity, seed) => {
      const policy = new Random<number>(capacity, seeded(seed));
      const held = new Set<number>();
      for (const key of trace) {
        const { hit, evicted } = policy.access(key);
        expect(hit).toBe(held.has(key));
        if (evicted !== undefined) expect(held.delete(evicted)).toBe(true);
        held.add(key);
        expect(policy.size).toBe(held.size);
        expect(held.size).toBeLessThanOrEqual(capacity);
      }
      const again = () => answers(new Random<number>(capacity, seeded(seed)), trace);
      expect(again()).toEqual(again());
    }),
  );
});

test('Random gives every key it holds the same chance to go', () => {
  const random = seeded(7);
  const evictions = new Map<number, number>();
  for (let run = 0; run < 4_000; run++) {
    const policy = new Random<number>(4, random);
    const { evicted = -1 } = [1, 2, 3, 4, 5].map((key) => policy.access(key)).at(-1) ?? {};
    evictions.set(evicted, (evictions.get(evicted) ?? 0) + 1);
  }
  expect([...evictions.keys()].sort()).toEqual([1, 2, 3, 4]);
  for (const times of evictions.values()) expect(Math.abs(times - 1_000)).toBeLessThan(150);
});

test('TTL: an expired key is a miss, comes in again, and never takes two places', () => {
  let now = 0;
  const policy = new Ttl<string>(2, { ttl: 10, now: () => now });
  expect(policy.access('a')).toEqual({ hit: false });
  now = 5;
  expect(policy.access('b')).toEqual({ hit: false });
  now = 9;
  expect(policy.access('a')).toEqual({ hit: true });
  now = 10;
  expect(policy.access('a'), 'a hit does not prolong a life').toEqual({ hit: false });
  expect(policy.size).toBe(2);
  expect(policy.access('c'), 'b expires before the renewed a').toEqual({ hit: false, evicted: 'b' });
});

test('TTL without an end is FIFO', () => {
  fc.assert(
    fc.property(anyTrace, anyCapacity, (trace, capacity) => {
      const forever = new Ttl<number>(capacity, { ttl: Number.POSITIVE_INFINITY, now: () => 0 });
      expect(answers(forever, trace)).toEqual(answers(new Fifo(capacity), trace));
    }),
  );
});

test('a loop one key larger than the cache gives LRU, FIFO, LFU and SIEVE no hit, and Belady nearly all', () => {
  const loop = Array.from({ length: 1_010 }, (_, i) => i % 101);
  for (const policy of [Fifo, Lru, Lfu, Sieve].map((Policy) => new Policy<number>(100))) {
    expect(replay(policy, loop).hits).toBe(0);
  }
  expect(belady(loop, 100).hits).toBeGreaterThan(890);
});

test.each([0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])(
  'a capacity of %s is refused by name',
  (capacity) => {
    for (const Policy of [Fifo, Lru, Lfu, Sieve]) {
      expect(() => new Policy(capacity)).toThrow(
        new RangeError(`capacity must be a whole number of 1 or more, not ${capacity}`),
      );
    }
    expect(() => new Random(capacity, Math.random)).toThrow(RangeError);
    expect(() => new Ttl(capacity, { ttl: 1, now: () => 0 })).toThrow(RangeError);
    expect(() => belady([1], capacity)).toThrow(RangeError);
  },
);
