import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { atMostASecond, collectGarbage, stopwatchOfLookUps, usedMb } from '#kit/effort';
import { seeded } from '#kit/random';
import { Lru } from './lru';

describe('Core', () => {
  test('an entry is found under its own key until it is deleted', () => {
    const cache = new Lru<unknown, string>(10);
    expect(
      held(cache, ['a', '__proto__', 'constructor']),
      'keys that an empty cache holds: none, whatever the key is called',
    ).toEqual([]);
    for (const [key, value] of [
      ['a', 'old'],
      ['a', 'new'],
      [1, 'a number'],
      ['1', 'a text'],
      ['__proto__', 'a text like any other'],
    ])
      cache.set(key, String(value));
    expect(
      ['a', 1, '1', '__proto__', 'b'].map((key) => cache.get(key)),
      'get of "a", 1, "1", "__proto__" and of "b", which was never set: 1 and "1" are two keys',
    ).toEqual(['new', 'a number', 'a text', 'a text like any other', undefined]);
    expect(cache.peek('a'), 'peek must return the value').toBe('new');
    expect(cache.size, 'size with the keys "a", 1, "1" and "__proto__"').toBe(4);
    expect(
      [cache.delete('__proto__'), cache.delete('__proto__')],
      'delete must say whether there was an entry: the first time there was, the second time not',
    ).toEqual([true, false]);
    expect(held(cache, ['a', 1, '1', '__proto__']), 'keys held after delete("__proto__")').toEqual([
      'a',
      1,
      '1',
    ]);
    expect(cache.size, 'size after delete("__proto__")').toBe(3);
  });

  test('a full cache evicts the entry that was used least recently', () => {
    const cache = filled(['a', 'b', 'c']);
    cache.set('d', 3);
    expect(
      held(cache, ['a', 'b', 'c', 'd']),
      'keys held after set of a, b, c, d with a capacity of 3: "a" was set first and never read',
    ).toEqual(['b', 'c', 'd']);
    for (const key of ['c', 'c', 'b', 'd']) cache.get(key);
    cache.set('e', 4);
    expect(
      held(cache, ['b', 'c', 'd', 'e']),
      'keys held after reads of c, c, b, d and a set of e: the last use of "c" is the oldest',
    ).toEqual(['b', 'd', 'e']);
    cache.delete('e');
    cache.set('f', 5);
    cache.delete('d');
    for (const key of ['g', 'h', 'i']) cache.set(key, 6);
    expect(
      held(cache, ['b', 'd', 'e', 'f', 'g', 'h', 'i']),
      'keys held after delete e, set f, delete d, set g, h and i: f and g take free places, h evicts b, and i evicts f',
    ).toEqual(['g', 'h', 'i']);
    expect(
      firstWrongCall(3_000),
      'the first of 3,000 random calls after which the cache, of capacity 4, holds other keys than it must',
    ).toBe('none');
    const { cache: large } = numbered(1000);
    // 7 and 1000 have no common divisor: each key is read once.
    const asRead = Array.from({ length: 1000 }, (_, at) => (7 * at) % 1000);
    for (const key of asRead) large.get(key);
    for (let key = 1000; key < 1500; key++) large.set(key, 0);
    expect(
      asRead.map((key, at) => large.has(key) !== at >= 500).filter(Boolean).length,
      'keys held or evicted wrongly, of 1,000 that were each read once before 500 new ones came: the 500 read first must go',
    ).toBe(0);
  });

  test('overwriting a value counts as a use, and evicts nothing', () => {
    const evicted: string[] = [];
    const cache = filled(['a', 'b'], (key) => evicted.push(key));
    cache.set('a', 10);
    expect(evicted, 'keys evicted by a new value for "a": the cache holds "a", so it needs no room').toEqual(
      [],
    );
    expect(
      [cache.peek('a'), cache.peek('b'), cache.size],
      'values of "a" and "b" and the size after set("a", 10)',
    ).toEqual([10, 1, 2]);
    cache.set('c', 3);
    expect(evicted, 'keys evicted by a set of "c": "a" was written after "b", so "b" must go').toEqual(['b']);
  });

  test('peek and has do not count as a use', () => {
    for (const call of ['peek', 'has'] as const) {
      const cache = filled(['a', 'b', 'c']);
      cache[call]('a');
      cache.set('d', 3);
      expect(
        held(cache, ['a', 'b', 'c', 'd']),
        `keys held after ${call}("a") and a set of "d": "a" is still the entry that was used least recently`,
      ).toEqual(['b', 'c', 'd']);
    }
  });

  test('a stored undefined, 0 or "" is a hit', () => {
    for (const value of [undefined, 0, '']) {
      const shown = value === '' ? '""' : String(value);
      const cache = new Lru<string, unknown>(2);
      cache.set('a', value);
      cache.set('b', 1);
      expect(cache.has('a'), `has("a") after set("a", ${shown}): the entry is there`).toBe(true);
      expect(cache.get('a'), `get("a") after set("a", ${shown})`).toBe(value);
      cache.set('c', 1);
      expect(
        held(cache, ['a', 'b', 'c']),
        `keys held after a get of "a", whose value is ${shown}, and a set of "c": the get was a use of "a"`,
      ).toEqual(['a', 'c']);
      cache.set('a', value);
      expect(cache.size, `size after set("a", ${shown}) again: it is the same entry`).toBe(2);
      expect(cache.delete('a'), `delete("a") where the value is ${shown}: there is an entry`).toBe(true);
    }
  });

  test('a cache of one entry works, and a capacity below one is refused', () => {
    const cache = filled(['a']);
    cache.set('b', 2);
    cache.get('b');
    expect(held(cache, ['a', 'b']), 'keys held by a cache of one after set of a and b').toEqual(['b']);
    expect(cache.delete('b'), 'delete of the only entry').toBe(true);
    cache.set('c', 3);
    expect(
      [held(cache, ['b', 'c']), cache.size],
      'keys and size after the only entry was deleted and "c" was set',
    ).toEqual([['c'], 1]);
    for (const capacity of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => new Lru(capacity), `new Lru(${capacity}) must throw a RangeError`).toThrow(RangeError);
    }
  });

  test('onEvict is called once with each evicted entry, and with no other', () => {
    const evicted: unknown[] = [];
    const cache = filled(['a', 'b'], (...entry) => evicted.push(entry));
    cache.set('a', 10);
    cache.delete('b');
    cache.set('c', 3);
    expect(
      evicted,
      'calls of onEvict so far: an overwritten value and a deleted entry are not evicted, and "c" took a free place',
    ).toEqual([]);
    cache.set('d', 4);
    expect(evicted, 'calls of onEvict: "d" evicts "a", with the value it had last').toEqual([['a', 10]]);
    cache.set('e', 5);
    expect(evicted, 'calls of onEvict: now "e" evicts "c"').toEqual([
      ['a', 10],
      ['c', 3],
    ]);

    const odd: unknown[] = [];
    const small = new Lru<unknown, unknown>(2, { onEvict: (...entry) => odd.push(entry) });
    for (const key of [undefined, 0, Number.NaN, 'a', 'b']) small.set(key, undefined);
    expect(
      [odd, small.size],
      'calls of onEvict, and the size: the keys undefined, 0, NaN, "a" and "b" came in, each with the value undefined',
    ).toEqual([
      [
        [undefined, undefined],
        [0, undefined],
        [Number.NaN, undefined],
      ],
      2,
    ]);
  });

  test('onEvict is the last step of set: it may call the cache, and it may throw', () => {
    const seen: unknown[] = [];
    const cache: Lru<string, number> = filled(['a', 'b'], (key, value) => {
      seen.push([key, held(cache, ['a', 'b', 'c']), cache.size]);
      // An entry that its owner wants back.
      if (key === 'a') cache.set(key, value);
    });
    cache.set('c', 2);
    expect(
      seen,
      'in each call of onEvict: its key, the keys held, the size. "c" evicts "a"; onEvict sets "a" again, which evicts "b"',
    ).toEqual([
      ['a', ['b', 'c'], 2],
      ['b', ['a', 'c'], 2],
    ]);
    expect([held(cache, ['a', 'b', 'c']), cache.size], 'keys and size after that set of "c"').toEqual([
      ['a', 'c'],
      2,
    ]);

    const refused = filled(['a', 'b'], (key) => {
      throw new Error(`cannot close ${key}`);
    });
    expect(() => refused.set('c', 2), 'set must throw what onEvict throws').toThrow('cannot close a');
    expect(() => refused.set('d', 3), 'the next eviction must take "b", and throw again').toThrow(
      'cannot close b',
    );
    expect(
      [held(refused, ['a', 'b', 'c', 'd']), refused.size],
      'keys and size after two sets whose onEvict threw: the new entries are in, the evicted ones are out',
    ).toEqual([['c', 'd'], 2]);
  });

  test('each call costs the same at any capacity', () => {
    const random = seeded(4);
    const someKey = () => Math.floor(random() * LARGE);
    const numbers = numbered(LARGE);
    const { cache } = numbers;
    const inLookUps = stopwatchOfLookUps(LARGE, LIMIT);
    const replaceOldest = () => {
      cache.delete(numbers.next - LARGE);
      cache.set(numbers.next++, 0);
    };
    const works: readonly (readonly [call: string, work: () => void])[] = [
      ['a get', () => cache.get(someKey())],
      ['a set that overwrites', () => cache.set(someKey(), 0)],
      ['a delete, and a set into the free place', () => deleteAndSet(cache, someKey())],
    ];
    for (const [call, work] of works) {
      expect(
        inLookUps(work),
        `look-ups in a Map of 140,000 entries that take as long as ${call} among as many: it must neither search nor move entries`,
      ).toBeLessThan(LIMIT);
    }
    atMostASecond(0.8 * LARGE, replaceOldest);
    expect(
      inLookUps(() => cache.set(numbers.next++, 0)),
      'look-ups in a Map of 140,000 entries that take as long as a set which evicts, after most entries were replaced: it must not search for the oldest entry',
    ).toBeLessThan(LIMIT);
    const newest = numbers.next - 1;
    atMostASecond(50_000, () => cache.get(newest));
    expect(
      inLookUps(() => cache.get(newest)),
      'look-ups in a Map of 140,000 entries that take as long as a get, after 50,000 of the same key: a hit must not slow down the next one',
    ).toBeLessThan(LIMIT);
  });

  test('neither uses nor removed entries leave memory behind', async () => {
    const { cache } = numbered(100);
    cache.set(100, 0);
    const useAll = (times: number) => {
      for (let use = 0; use < times; use++) {
        const key = 1 + (use % 100);
        if (use % 5 === 0) cache.set(key, use);
        else cache.get(key);
      }
    };
    useAll(10_000);
    const before = usedMb();
    useAll(400_000);
    expect(
      usedMb() - before,
      'MB of memory that 400,000 uses of 100 entries have left behind, without an eviction among them: a use must keep nothing of what was before it',
    ).toBeLessThan(4);

    const { cache: emptied, values } = emptiedCache();
    // A value is not collected in the turn that has made its WeakRef.
    await setImmediate();
    collectGarbage();
    const inMemory = values.filter((value) => value.deref()).length;
    // In use until here: else the cache itself would be collected, with all that it keeps.
    emptied.delete(0);
    expect(
      inMemory,
      'values still in memory, of 20 that were deleted and 20 that were evicted: the cache must let go of them',
    ).toBeLessThan(10);
  });
});

/** A cache and the values of its 40 former entries: the first 20 were evicted, the others deleted. */
function emptiedCache() {
  const cache = new Lru<number, object>(20);
  const values = Array.from({ length: 40 }, (_, key) => {
    const value = { key };
    cache.set(key, value);
    return new WeakRef(value);
  });
  for (let key = 20; key < 40; key++) cache.delete(key);
  return { cache, values };
}

/** The keys that the cache holds, of those asked for. */
const held = <K>(cache: Lru<K, unknown>, keys: readonly K[]) => keys.filter((key) => cache.has(key));

/** A full cache of these keys, set in this order, with the values 0, 1, 2, … */
function filled(keys: readonly string[], onEvict?: (key: string, value: number) => void) {
  const cache = new Lru<string, number>(keys.length, { onEvict });
  for (const [value, key] of keys.entries()) cache.set(key, value);
  return cache;
}

/** Compares the cache with an array in order of use, oldest first. */
function firstWrongCall(calls: number): string {
  const random = seeded(14);
  const cache = new Lru<number, number>(4);
  const keys = [0, 1, 2, 3, 4, 5, 6];
  let order: number[] = [];
  for (let call = 1; call <= calls; call++) {
    const key = Math.floor(random() * keys.length);
    const name = (['get', 'set', 'set', 'delete'] as const)[Math.floor(random() * 4)] ?? 'get';
    const isHeld = order.includes(key);
    if (name === 'set') cache.set(key, call);
    else cache[name](key);
    order = order.filter((other) => other !== key);
    if (name === 'set' || (name === 'get' && isHeld)) order = [...order, key].slice(-4);
    const [seen, wanted] = [held(cache, keys), order.toSorted()];
    if (seen.join() !== wanted.join()) {
      return `call ${call}, ${name}(${key}): it holds ${seen}, and must hold ${wanted}`;
    }
  }
  return 'none';
}

// A little above a power of two: a Map of that size has twice the room, and keeps a mark for each deleted key in it.
const LARGE = 140_000;

/** In look-ups: a list takes 1 to 4, also on a busy machine. What searches takes 40 and more. */
const LIMIT = 15;

/** A full cache of the keys 0, 1, 2, …, and the next key that was never set. */
function numbered(capacity: number) {
  const numbers = { cache: new Lru<number, number>(capacity), next: 0 };
  atMostASecond(capacity, () => numbers.cache.set(numbers.next++, 0));
  return numbers;
}

function deleteAndSet(cache: Lru<number, number>, key: number): void {
  cache.delete(key);
  cache.set(key, 0);
}
