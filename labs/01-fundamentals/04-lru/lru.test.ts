import { expect, test } from 'vitest';
import { seeded } from '#kit/random';
import { Lru } from './lru';

/** The keys still held, of those asked about; asking leaves the order alone. */
const held = <K>(cache: Lru<K, unknown>, keys: readonly K[]) => keys.filter((key) => cache.has(key));

function filled(...keys: string[]): Lru<string, number> {
  const cache = new Lru<string, number>(keys.length);
  for (const [value, key] of keys.entries()) cache.set(key, value);
  return cache;
}

test('get refreshes the entry', () => {
  const cache = filled('a', 'b', 'c');

  expect(cache.get('a'), 'get must return the stored value').toBe(0);
  cache.set('d', 3);
  expect(held(cache, ['a', 'b', 'c', 'd']), 'get must refresh: "a" was read last, so "b" had to go').toEqual([
    'a',
    'c',
    'd',
  ]);
  cache.get('c');
  cache.get('a');
  cache.set('e', 4);
  cache.set('f', 5);
  expect(
    held(cache, ['a', 'c', 'd', 'e', 'f']),
    'two more entries must push out "d" and "c": after reads of "c", then "a", those were used least recently',
  ).toEqual(['a', 'e', 'f']);
});

test('overwriting a key in a full cache evicts nothing', () => {
  const evicted: string[] = [];
  const cache = new Lru<string, number>(2, { onEvict: (key) => evicted.push(key) });
  cache.set('a', 1);
  cache.set('b', 2);

  cache.set('a', 10);
  expect(evicted, 'a new value for "a" needs no room, so nothing may be evicted').toEqual([]);
  expect(
    [cache.get('b'), cache.peek('a'), cache.size],
    'both keys must be there, "a" with its new value',
  ).toEqual([2, 10, 2]);

  cache.set('a', 11);
  cache.set('c', 3);
  expect(
    evicted,
    'overwriting counts as a use: "a" was written after "b" was read, so "b" had to go',
  ).toEqual(['b']);
});

test('a stored undefined is a hit', () => {
  const evicted: unknown[] = [];
  const cache = new Lru<string, unknown>(3, { onEvict: (...entry) => evicted.push(entry) });
  for (const [key, value] of [
    ['gone', undefined],
    ['zero', 0],
    ['empty', ''],
  ] as const)
    cache.set(key, value);

  expect(cache.has('gone'), 'has() must be true for a key whose stored value is undefined').toBe(true);
  expect(cache.has('never'), 'has() must be false for a key that was never stored').toBe(false);
  for (const key of ['gone', 'zero', 'empty']) cache.get(key);
  cache.get('zero');
  cache.get('gone');
  cache.set('next', 1);
  expect(
    evicted,
    'get must refresh undefined, 0 and "" as it does any other value: "empty" had to go',
  ).toEqual([['empty', '']]);
  cache.set('gone', undefined);
  expect(cache.size, 'writing undefined again must overwrite the entry, not add one').toBe(3);
  expect(cache.delete('gone'), 'delete must find the key whose value is undefined').toBe(true);
});

test('peek and has leave the order alone', () => {
  const cache = filled('a', 'b', 'c');

  expect(cache.peek('a'), 'peek must return the stored value').toBe(0);
  expect(cache.has('a'), 'has must see "a"').toBe(true);
  cache.set('d', 3);
  expect(held(cache, ['a', 'b', 'c', 'd']), 'peek and has are no use of the entry: "a" had to go').toEqual([
    'b',
    'c',
    'd',
  ]);
});

test('onEvict hears of each evicted entry once, and of no other', () => {
  const evicted: unknown[] = [];
  const cache = new Lru<string, number>(2, { onEvict: (key, value) => evicted.push([key, value]) });
  cache.set('a', 1);
  cache.set('a', 2);
  cache.set('b', 3);
  expect(evicted, 'no entry was evicted so far: the cache was not full').toEqual([]);

  cache.set('c', 4);
  expect(evicted, 'the entry used least recently must be reported, with the value it had last').toEqual([
    ['a', 2],
  ]);
  expect(cache.delete('b'), 'delete must return true for a key that is held').toBe(true);
  expect(cache.delete('b'), 'delete must return false for a key that is not held').toBe(false);
  cache.set('d', 5);
  expect(evicted, 'delete is no eviction, and it makes room for one more').toEqual([['a', 2]]);
  cache.set('e', 6);
  expect(evicted, 'a deleted entry must leave the order too: now "c" had to go').toEqual([
    ['a', 2],
    ['c', 4],
  ]);
  expect(held(cache, ['a', 'b', 'c', 'd', 'e']), 'the entries used last must stay').toEqual(['d', 'e']);
});

test('1 and "1" are two keys, and "__proto__" is one', () => {
  const cache = new Lru<unknown, string>(4);
  expect(
    ['__proto__', 'constructor', 'toString'].map((key) => cache.has(key)),
    'an empty cache holds nothing, whatever the key is called',
  ).toEqual([false, false, false]);

  cache.set(1, 'number');
  cache.set('1', 'text');
  cache.set('__proto__', 'a key like any other');
  expect(cache.size, '1, "1" and "__proto__" are three keys').toBe(3);
  expect([cache.get(1), cache.get('1'), cache.get('__proto__')], 'each key must give its own value').toEqual([
    'number',
    'text',
    'a key like any other',
  ]);
  expect(cache.delete('__proto__'), '"__proto__" must be deleted like any other key').toBe(true);
  expect([cache.has('__proto__'), cache.size], '"__proto__" must be gone').toEqual([false, 2]);
});

test('a cache of one works, and no capacity below one is taken', () => {
  const evicted: unknown[] = [];
  const cache = new Lru<string, number>(1, { onEvict: (...entry) => evicted.push(entry) });
  cache.set('a', 1);
  cache.set('b', 2);
  cache.set('b', 3);
  expect([cache.get('a'), cache.get('b'), cache.size], 'a cache of one holds the last entry').toEqual([
    undefined,
    3,
    1,
  ]);
  expect(cache.delete('b'), 'the only entry can be deleted').toBe(true);
  cache.set('c', 4);
  expect([cache.get('c'), cache.size], 'an emptied cache must take a new entry').toEqual([4, 1]);
  expect(evicted, 'only "a" was evicted').toEqual([['a', 1]]);

  for (const capacity of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => new Lru(capacity), `a capacity of ${capacity} must be refused with a RangeError`).toThrow(
      RangeError,
    );
  }
});

const SMALL = 1_000;
// A little above a power of two: the Map under it has twice the room, and keeps a mark for every deleted key in it.
const LARGE = 140_000;

function numbered(capacity: number): Lru<number, number> {
  const cache = new Lru<number, number>(capacity);
  for (let key = 0; key < capacity; key++) cache.set(key, key);
  return cache;
}

/** What one call costs in the large cache, in calls to the small one: both in turn, the median of the rounds. */
function costRatio(small: () => void, large: () => void): number {
  const time = (work: () => void) => {
    const start = performance.now();
    work();
    return performance.now() - start;
  };
  for (let round = 0; round < 10; round++) small();
  const ratios = Array.from({ length: 15 }, () => time(large) / time(small)).sort((a, b) => a - b);
  return ratios[7] ?? Number.NaN;
}

test('a hit costs the same among 140,000 entries as among 1,000', () => {
  const random = seeded(4);
  const reads = (capacity: number) => {
    const cache = numbered(capacity);
    return () => {
      for (let i = 0; i < 300; i++) cache.get(Math.floor(random() * capacity));
    };
  };
  expect(
    costRatio(reads(SMALL), reads(LARGE)),
    'get must not search: with 140 times the entries, a hit costs many times as much',
  ).toBeLessThan(40);
});

test('an eviction costs the same among 140,000 entries as among 1,000', () => {
  const small = evictions(SMALL);
  const large = evictions(LARGE);
  const message =
    'set must find the entry to evict at once: with 140 times the entries, an eviction costs many times as much';
  expect(costRatio(small.run, large.run), message).toBeLessThan(40);
  large.churn();
  expect(costRatio(small.run, large.run), `${message}, once entries have come and gone`).toBeLessThan(40);
});

function evictions(capacity: number) {
  const cache = numbered(capacity);
  let next = capacity;
  return {
    run: () => {
      for (let i = 0; i < 300; i++, next++) cache.set(next, next);
    },
    /** Replaces most entries, oldest first, without an eviction. */
    churn: () => {
      for (const end = next + 0.8 * capacity; next < end; next++) {
        cache.delete(next - capacity);
        cache.set(next, next);
      }
    },
  };
}
