import { describe, expect, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { atMostASecond, stopwatchOfLookUps, usedMb } from '#kit/effort';
import { seeded } from '#kit/random';
import { createExpiringLru, type ExpiringLru } from './drill-lru-ttl';

/** No test reads at the end of a TTL to the millisecond: whether the value still lives then is a matter of taste. */
const TTL_MS = 1_000;

describe('Core', () => {
  test('a value is found under its own key until its time is over', () => {
    const { cache, clock } = openCache<unknown, string>(10);
    expect(cache.get('constructor'), 'get of "constructor" from an empty cache').toBeUndefined();
    for (const key of [1, '1', 'unread']) cache.set(key, `value of a ${typeof key}`);
    clock.advance(TTL_MS - 1);
    expect(
      [cache.get(1), cache.get('1'), cache.get('2')],
      'get of 1, of "1" and of "2", which was never set, 1 ms before the TTL is over',
    ).toEqual(['value of a number', 'value of a string', undefined]);
    clock.advance(2);
    expect(cache.get('unread'), 'get 1 ms after the TTL is over: a miss').toBeUndefined();
    cache.set('unread', 'new');
    expect(cache.get('unread'), 'get of a key that was set again after its first value had expired').toBe(
      'new',
    );
  });

  test('a full cache evicts the entry that was used least recently', () => {
    const { cache } = openCache<string, number>(3);
    setAll(cache, ['a', 'b', 'c', 'd']);
    expect(
      held(cache, ['b', 'a', 'd', 'c']),
      'keys found after set of a, b, c and d with a capacity of 3, asked in the order b, a, d, c',
    ).toEqual(['b', 'd', 'c']);
    setAll(cache, ['e', 'f']);
    expect(
      held(cache, ['b', 'c', 'd', 'e', 'f']),
      'keys found after reads of b, d, c and a set of e and f: the last uses of b and d are the oldest',
    ).toEqual(['c', 'e', 'f']);
  });

  test('a get renews the place in the order of use, and not the TTL', () => {
    const { cache, clock } = openCache<string, number>(2);
    setAll(cache, ['a', 'b']);
    for (let reads = 1; reads <= 9; reads++) {
      clock.advance(TTL_MS / 10);
      expect(cache.get('a'), `get of a, ${reads} tenths of its TTL after its set`).toBe(1);
    }
    setAll(cache, ['c']);
    expect(held(cache, ['a', 'b', 'c']), 'keys found after nine reads of a, and a set of c').toEqual([
      'a',
      'c',
    ]);
    clock.advance(TTL_MS / 10 + 1);
    expect(
      held(cache, ['a', 'c']),
      'keys found when the TTL of a is over: with a get that renews it, a popular value would never be loaded again',
    ).toEqual(['c']);
  });

  test('a new value lives for a TTL of its own, counts as a use and evicts nothing', () => {
    const { cache, clock } = openCache<string, number>(2);
    setAll(cache, ['a', 'b']);
    clock.advance(0.7 * TTL_MS);
    cache.set('b', 10);
    clock.advance(0.5 * TTL_MS);
    expect(
      [cache.get('a'), cache.get('b')],
      'values of a and b 1.2 TTL after their first set, and 0.5 TTL after the second set of b',
    ).toEqual([undefined, 10]);

    const full = openCache<string, number>(2).cache;
    setAll(full, ['a', 'b', 'b']);
    expect(held(full, ['a', 'b']), 'keys found after set of a, b and b again, capacity 2').toEqual([
      'a',
      'b',
    ]);

    const other = openCache<string, number>(2).cache;
    setAll(other, ['a', 'b', 'a', 'c']);
    expect(held(other, ['a', 'b', 'c']), 'keys found after set of a, b, a again and c, capacity 2').toEqual([
      'a',
      'c',
    ]);
  });

  test('an expired entry gives up its place before a living one', () => {
    const { cache, clock } = openCache<string, number>(3);
    setAll(cache, ['old']);
    clock.advance(0.6 * TTL_MS);
    setAll(cache, ['a', 'b']);
    clock.advance(0.3 * TTL_MS);
    cache.get('old');
    clock.advance(0.3 * TTL_MS);
    setAll(cache, ['c']);
    expect(
      held(cache, ['a', 'b', 'c']),
      'keys found after a set of c: the cache was full, and one entry in it, the one used last, had expired',
    ).toEqual(['a', 'b', 'c']);
    setAll(cache, ['d']);
    expect(
      held(cache, ['a', 'b', 'c', 'd']),
      'keys found after a set of d: nothing had expired, and a was used least recently',
    ).toEqual(['b', 'c', 'd']);
    const living = Array.from({ length: 99 }, (_, at) => `key ${at}`);
    const large = openCache<string, number>(100);
    setAll(large.cache, ['old']);
    large.clock.advance(0.9 * TTL_MS);
    setAll(large.cache, living);
    large.cache.get('old');
    large.clock.advance(0.2 * TTL_MS);
    setAll(large.cache, ['new']);
    expect(
      held(large.cache, [...living, 'new']).length,
      'living keys found of 100, after a set in a full cache of 100 in which one entry had expired, the one used last',
    ).toBe(100);
    for (const capacity of [1, 2, 3, 5]) {
      expect(
        firstWrongSet(2_000, capacity),
        `the first of 2,000 random calls after which a cache of ${capacity} does not hold what it must`,
      ).toBe('none');
    }
  });

  test('undefined, null, 0, false and "" are values, also in a cache of one', () => {
    for (const value of [0, false, '', null]) {
      const { cache } = openCache<string, unknown>(1);
      cache.set('a', 1);
      cache.set('b', value);
      expect([cache.get('a'), cache.get('b')], 'values of a and b in a cache of one, b was set last').toEqual(
        [undefined, value],
      );
    }
    for (const value of [undefined, null, 0, false, '', Number.NaN]) {
      const { cache } = openCache<string, unknown>(2);
      cache.set('a', value);
      cache.set('b', 1);
      cache.get('a');
      cache.set('a', value);
      cache.set('c', 1);
      cache.get('a');
      cache.set('d', 1);
      expect(
        [cache.get('b'), cache.get('c'), cache.get('d')],
        `values of b, c and d: a, with the value ${String(value)}, was used before each of the last two sets`,
      ).toEqual([undefined, undefined, 1]);
    }
  });

  test('each call costs the same at any capacity', () => {
    const random = seeded(6);
    const inLookUps = stopwatchOfLookUps(LARGE, LIMIT);
    const { cache, clock } = openCache<number, number>(LARGE, 2 * LARGE - 1);
    let next = 0;
    const setNew = () => cache.set(next++, 0);
    atMostASecond(LARGE, setNew);
    let again = 0;
    atMostASecond(LARGE / 2, () => cache.set(again++, 0));
    const within = 'look-ups in a Map of 140,000 entries that take as long as';
    expect(
      inLookUps(setNew),
      `${within} a set that evicts, when nothing has expired: it must search neither for the oldest entry nor for an expired one`,
    ).toBeLessThan(LIMIT);
    expect(
      inLookUps(() => cache.get(next - 1 - Math.floor(random() * LARGE))),
      `${within} a get among as many: it must neither search nor move entries`,
    ).toBeLessThan(LIMIT);
    atMostASecond(50_000, () => cache.get(next - 1));
    expect(
      inLookUps(() => cache.get(next - 1)),
      `${within} a get, after 50,000 of the same key: a hit must not slow down the next one`,
    ).toBeLessThan(LIMIT);
    const setWhenOneExpires = () => {
      clock.advance(2);
      setNew();
    };
    atMostASecond(1.1 * LARGE, setWhenOneExpires);
    expect(
      inLookUps(setWhenOneExpires),
      `${within} a set that takes the place of the only expired entry: it must not search for it`,
    ).toBeLessThan(LIMIT);
  });

  test('neither reads nor writes leave memory behind', () => {
    const { cache, clock } = openCache<number, number>(200);
    const use = (times: number) => {
      for (let use = 0; use < times; use++) {
        clock.advance(10);
        if (use % 2 === 0) cache.set(use % 100, use);
        else cache.get((use - 1) % 100);
      }
    };
    use(10_000);
    const before = usedMb();
    use(300_000);
    expect(
      usedMb() - before,
      'MB of memory that 300,000 uses of 100 keys have left behind, in a cache that was never full: nothing may be kept of a value that was replaced',
    ).toBeLessThan(4);
    cache.get(0);
    const setNew = (from: number, to: number) => {
      for (let key = from; key < to; key++) {
        clock.advance(1);
        cache.set(key, key);
        cache.get(key - 100);
      }
    };
    setNew(1_000, 2_000);
    const full = usedMb();
    setNew(2_000, 202_000);
    expect(
      usedMb() - full,
      'MB of memory that 200,000 keys have left behind, which were evicted from a cache of 200',
    ).toBeLessThan(4);
    cache.get(0);
  });
});

function openCache<K, V>(capacity: number, ttlMs = TTL_MS) {
  const clock = fakeClock(1_700_000_000_000);
  return { cache: createExpiringLru<K, V>({ capacity, ttlMs, now: clock.now }), clock };
}

/** The values are 1, 2, 3, … */
const setAll = (cache: ExpiringLru<string, number>, keys: readonly string[]) =>
  keys.forEach((key, at) => {
    cache.set(key, at + 1);
  });

/** The keys that are found. To look is a use, in the order of `keys`. */
const held = (cache: ExpiringLru<string, unknown>, keys: readonly string[]) =>
  keys.filter((key) => cache.get(key) !== undefined);

const KEYS = 'abcdefgh';

/** Compares the cache with a list in order of use, oldest first. */
function firstWrongSet(calls: number, capacity: number): string {
  const random = seeded(capacity);
  const { cache, clock } = openCache<string, number>(capacity);
  let known: { readonly key: string; readonly until: number }[] = [];
  for (let call = 1; call <= calls; call++) {
    // Never a whole TTL.
    clock.advance(Math.floor(random() * 5) * 64);
    known = known.filter(({ until }) => until > clock.now());
    const key = KEYS.charAt(Math.floor(random() * KEYS.length));
    const isSet = random() < 0.5;
    if (isSet) cache.set(key, call);
    else cache.get(key);
    const found = known.find((entry) => entry.key === key);
    const used = isSet ? { key, until: clock.now() + TTL_MS } : found;
    if (used) known = [...known.filter((entry) => entry.key !== key), used].slice(-capacity);
    const living = known.map((entry) => entry.key);
    const others = [...KEYS].filter((other) => !living.includes(other));
    // In this order, so that to look changes no order.
    const seen = held(cache, [...living, ...others]);
    if (seen.join() !== living.join()) {
      return `call ${call}, ${isSet ? 'set' : 'get'}(${key}): it holds ${seen}, and must hold ${living}`;
    }
  }
  return 'none';
}

// A little above a power of two: a Map of that size has twice the room, and keeps a mark for each deleted key in it.
const LARGE = 140_000;

/** In look-ups: a list takes 1 to 5, also on a busy machine. What searches takes 40 and more. */
const LIMIT = 15;
