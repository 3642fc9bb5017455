import { describe, expect, test } from 'vitest';
import { atMostASecond, stopwatchOfLookUps, usedMb } from '#kit/effort';
import { seeded } from '#kit/random';
import { type Entry, Lfu } from './drill-lfu';

describe('Core', () => {
  test('a full cache evicts the entry with the fewest uses', () => {
    const cache = new Lfu<string, number>(3);
    expect(evictedBy(cache, ['a', 'b', 'c']), 'keys evicted by three sets with a capacity of 3').toEqual([]);
    for (const key of ['c', 'c', 'c', 'a', 'b', 'a']) cache.get(key);
    expect(
      keyAndValue(cache.set('d', 4)),
      'the entry that a set of d evicts, after two reads of a, one of b and three of c: b, with its value',
    ).toEqual(['b', 2]);
    expect(
      [cache.get('b'), cache.get('d')],
      'values of b, which was evicted, and of d, which was set last',
    ).toEqual([undefined, 4]);
    cache.get('d');
    cache.get('d');
    expect(
      keyAndValue(cache.set('e', 5)),
      'the entry that a set of e evicts: a was used 3 times, c and d 4 times each, counting their set',
    ).toEqual(['a', 1]);

    const popular = new Lfu<string, number>(2);
    evictedBy(popular, ['a', 'b']);
    for (let reads = 1; reads <= 300; reads++) popular.get('a');
    for (let reads = 1; reads < 300; reads++) popular.get('b');
    expect(
      evictedBy(popular, ['c']),
      'keys evicted by a set of c, after 300 reads of a, and then 299 of b: no count may stop at a highest number',
    ).toEqual(['b']);
  });

  test('among entries with as few uses, the one used least recently goes', () => {
    const cache = new Lfu<string, number>(3);
    evictedBy(cache, ['a', 'b', 'c']);
    for (const key of ['b', 'c', 'a']) cache.get(key);
    expect(
      evictedBy(cache, ['d']),
      'keys evicted by a set of d: a, b and c have two uses each, and b was used before c and a',
    ).toEqual(['b']);
    for (const capacity of [1, 2, 3, 6]) {
      expect(
        firstWrongCall(2_000, capacity),
        `the first of 2,000 random calls after which a cache of ${capacity} does not do what it must`,
      ).toBe('none');
    }
  });

  test('a new value is a use, and evicts nothing', () => {
    const cache = new Lfu<string, number>(2);
    evictedBy(cache, ['a', 'b']);
    expect(
      [cache.set('a', 10), cache.set('a', 11)],
      'the entries that two new values for a evict: the cache holds a, so it needs no room',
    ).toEqual([undefined, undefined]);
    expect([cache.get('a'), cache.get('b')], 'values of a and b').toEqual([11, 2]);
    expect(
      keyAndValue(cache.set('c', 3)),
      'the entry that a set of c evicts: a was set three times and read once, b was set and read once',
    ).toEqual(['b', 2]);
  });

  test('a new entry has one use, and the next new one takes its place', () => {
    const cache = new Lfu<string, number>(3);
    evictedBy(cache, ['a', 'b', 'c']);
    for (const key of ['a', 'b', 'c', 'a', 'b', 'c']) cache.get(key);
    expect(
      evictedBy(cache, ['d', 'e', 'f']),
      'keys evicted by sets of d, e and f: a, b and c had three uses each, so d makes a go, and then each new entry has the fewest',
    ).toEqual(['a', 'd', 'e']);
    for (let reads = 0; reads < 9; reads++) cache.get('f');
    expect(
      evictedBy(cache, ['g', 'h']),
      'keys evicted by sets of g and h, after nine reads of f: b has the fewest uses, and then g',
    ).toEqual(['b', 'g']);
  });

  test('an entry that was deleted or evicted and comes back starts again', () => {
    const cache = new Lfu<string, number>(2);
    evictedBy(cache, ['a', 'b']);
    for (const key of ['a', 'a', 'a', 'b']) cache.get(key);
    expect(
      [cache.delete('a'), cache.delete('a'), cache.get('a')],
      'delete of a, delete of a again, and its value then',
    ).toEqual([true, false, undefined]);
    expect(
      evictedBy(cache, ['a']),
      'keys evicted by a set of a: there is a free place, because a was deleted',
    ).toEqual([]);
    expect(
      evictedBy(cache, ['c']),
      'keys evicted by a set of c: a has one use since it came back, b has two',
    ).toEqual(['a']);
    cache.delete('b');
    cache.delete('c');
    expect(
      evictedBy(cache, ['d', 'e', 'f']),
      'keys evicted by sets of d, e and f into an emptied cache of two',
    ).toEqual(['d']);
  });

  test('any key and any value can be stored, also in a cache of one', () => {
    const keys = new Lfu<unknown, string>(10);
    keys.set(1, 'a number');
    keys.set('1', 'a text');
    expect(
      [keys.get(1), keys.get('1'), keys.get('constructor')],
      'values of 1, of "1" and of "constructor", which was never set',
    ).toEqual(['a number', 'a text', undefined]);
    for (const value of [undefined, null, 0, false, '']) {
      const shown = value === '' ? '""' : String(value);
      const cache = new Lfu<string, unknown>(2);
      cache.set('a', value);
      cache.set('b', 1);
      expect(cache.get('a'), `value of a after set("a", ${shown})`).toBe(value);
      expect(
        keyAndValue(cache.set('c', 1)),
        `the entry that a set of c evicts: a, with the value ${shown}, was read`,
      ).toEqual(['b', 1]);
      const one = new Lfu<string, unknown>(1);
      one.set('a', value);
      one.get('a');
      expect(
        keyAndValue(one.set('b', 1)),
        `the entry that a set of b evicts from a cache of one, which holds ${shown} for a`,
      ).toEqual(['a', value]);
      expect([one.get('a'), one.get('b')], 'values of a and b in a cache of one, b was set last').toEqual([
        undefined,
        1,
      ]);
    }
  });

  test('each call costs the same at any capacity', () => {
    const random = seeded(8);
    const inLookUps = stopwatchOfLookUps(LARGE, LIMIT);
    const within = 'look-ups in a Map of 140,000 entries that take as long as';
    const cache = new Lfu<number, number>(LARGE);
    let next = 0;
    const setNew = () => cache.set(next++, 0);
    atMostASecond(LARGE, setNew);
    let oldest = 0;
    atMostASecond(LARGE / 2, () => {
      cache.delete(oldest++);
      setNew();
    });
    expect(
      inLookUps(setNew),
      `${within} a set that evicts, when 140,000 entries have one use each: it must not search for the oldest`,
    ).toBeLessThan(LIMIT);
    expect(
      inLookUps(() => cache.get(next - 1 - Math.floor(random() * LARGE))),
      `${within} a get among as many: it must neither search nor move entries`,
    ).toBeLessThan(LIMIT);

    // One entry with 1 use, one with 2, one with 3 …
    const varied = new Lfu<number, number>(900);
    for (let key = 0; key < 900; key++) varied.set(key, 0);
    for (let key = 0; key < 900; key++) {
      for (let use = 0; use < key; use++) varied.get(key);
    }
    let newKey = 900;
    const setOther = () => varied.set(newKey++, 0);
    expect(
      inLookUps(setOther),
      `${within} a set that evicts, when 900 entries have 900 different numbers of uses: it must not search for the fewest`,
    ).toBeLessThan(COLLECTED_LIMIT);
    varied.delete(newKey - 1);
    const popular = new Lfu<number, number>(2);
    popular.set(0, 0);
    for (let use = 0; use < 20_000; use++) popular.get(0);
    for (const [others, at] of [
      [varied, 'when 899 entries have 899 different numbers of uses'],
      [popular, 'when the other entry has 20,001 uses'],
    ] as const) {
      expect(
        inLookUps(() => {
          others.set(newKey, 0);
          others.delete(newKey++);
        }),
        `${within} a set of a new key and its delete, ${at}: a delete must not search for the fewest`,
      ).toBeLessThan(COLLECTED_LIMIT);
    }
  });

  test('neither uses nor entries that are gone leave memory behind', () => {
    const cache = new Lfu<number, number>(100);
    const use = (times: number) => {
      for (let use = 0; use < times; use++) {
        if (use % 5 === 0) cache.set(1, use);
        else cache.get(1);
      }
    };
    cache.set(2, 0);
    use(5_000);
    const before = usedMb();
    use(200_000);
    expect(
      usedMb() - before,
      'MB of memory that 200,000 uses of one entry have left behind: a use must keep nothing of what was before it',
    ).toBeLessThan(4);
    cache.get(1);
    let next = 100;
    const comeAndGo = (times: number) => {
      for (let time = 0; time < times; time++) {
        cache.set(next++, 0);
        cache.set(next++, 0);
        cache.delete(next - 1);
      }
    };
    comeAndGo(1_000);
    const full = usedMb();
    comeAndGo(100_000);
    expect(
      usedMb() - full,
      'MB of memory that 200,000 entries have left behind, which were evicted or deleted',
    ).toBeLessThan(4);
    cache.get(1);
  });
});

/** All that a test looks at: an entry may hold more. */
const keyAndValue = (entry: Entry<unknown, unknown> | undefined) => entry && [entry.key, entry.value];

/** The keys evicted by a set of each key, with the values 1, 2, 3, … */
const evictedBy = (cache: Lfu<string, number>, keys: readonly string[]): string[] =>
  keys.flatMap((key, at) => cache.set(key, at + 1)?.key ?? []);

interface Known extends Entry<number, number> {
  readonly uses: number;
}

/** Compares the cache with a list in order of use, oldest first. */
function firstWrongCall(calls: number, capacity: number): string {
  const random = seeded(capacity);
  const cache = new Lfu<number, number>(capacity);
  let known: readonly Known[] = [];
  for (let call = 1; call <= calls; call++) {
    const key = Math.floor(random() * 9);
    const found = known.find((entry) => entry.key === key);
    const others = known.filter((entry) => entry !== found);
    const name = (['get', 'get', 'set', 'set', 'delete'] as const)[Math.floor(random() * 5)] ?? 'get';
    if (name === 'get') {
      known = found ? [...others, { ...found, uses: found.uses + 1 }] : known;
      if (cache.get(key) !== found?.value) return `call ${call}, get(${key}): it must give ${found?.value}`;
    } else if (name === 'delete') {
      known = others;
      if (cache.delete(key) !== Boolean(found))
        return `call ${call}, delete(${key}): it must give ${!!found}`;
    } else {
      const victim = found || known.length < capacity ? undefined : fewestOf(known);
      known = [
        ...others.filter((entry) => entry !== victim),
        { key, value: call, uses: (found?.uses ?? 0) + 1 },
      ];
      const evicted = cache.set(key, call)?.key;
      if (evicted !== victim?.key) {
        return `call ${call}, set(${key}): it evicts ${evicted}, and must evict ${victim?.key ?? 'nothing'}`;
      }
    }
  }
  return 'none';
}

const fewestOf = (known: readonly Known[]): Known | undefined => known.toSorted((a, b) => a.uses - b.uses)[0];

// A little above a power of two: a Map of that size has twice the room, and keeps a mark for each deleted key in it.
const LARGE = 140_000;

/** In look-ups: lists take 1 to 6, also on a busy machine. What searches takes 40 and more. */
const LIMIT = 15;

/** Where each set drops a list and makes one: 5 to 11, and up to 33 while a busy machine collects garbage. A search takes 60 and more. */
const COLLECTED_LIMIT = 45;
