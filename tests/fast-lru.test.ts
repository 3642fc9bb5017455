import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FastLru } from '../solutions/01-fundamentals/04-lru/fast-lru';
import { Lru, type LruOptions } from '../solutions/01-fundamentals/04-lru/lru';

type Key = string | number | null;
type Cache = Pick<Lru<Key, unknown>, 'get' | 'peek' | 'has' | 'set' | 'delete' | 'size'>;

/** An LRU that nobody can doubt: an array, oldest first. */
class Model implements Cache {
  #entries: [Key, unknown][] = [];
  constructor(
    readonly capacity: number,
    readonly options: LruOptions<Key, unknown>,
  ) {}
  get size() {
    return this.#entries.length;
  }
  #find(key: Key) {
    return this.#entries.find(([held]) => held === key || Object.is(held, key));
  }
  #take(key: Key) {
    const entry = this.#find(key);
    this.#entries = this.#entries.filter((held) => held !== entry);
    return entry;
  }
  get(key: Key) {
    const entry = this.#take(key);
    if (entry) this.#entries.push(entry);
    return entry?.[1];
  }
  peek(key: Key) {
    return this.#find(key)?.[1];
  }
  has(key: Key) {
    return this.#find(key) !== undefined;
  }
  set(key: Key, value: unknown) {
    const held = this.#take(key);
    this.#entries.push([held ? held[0] : key, value]);
    const evicted = this.#entries.length > this.capacity ? this.#entries.shift() : undefined;
    if (evicted) this.options.onEvict?.(...evicted);
  }
  delete(key: Key) {
    return this.#take(key) !== undefined;
  }
}

// Ends alike, all of it alike in length, strings that look like numbers, and keys that are no strings.
const key: fc.Arbitrary<Key> = fc.oneof(
  fc.nat(12),
  fc.nat(12).map(String),
  fc.nat(400).map((id) => `product:${id}:description`),
  fc.nat(40).map((id) => `product:${id}`),
  fc.constantFrom(null, Number.NaN, 0, -0, '', '__proto__', 'constructor'),
);
const operation = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(fc.constant('set' as const), key, fc.option(fc.nat(), { nil: undefined })),
  },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom('get' as const, 'peek' as const, 'has' as const), key) },
  { weight: 1, arbitrary: fc.tuple(fc.constant('delete' as const), key) },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

function play(
  make: (options: LruOptions<Key, unknown>) => Cache,
  operations: readonly Operation[],
): unknown[] {
  const seen: unknown[] = [];
  const cache = make({ onEvict: (...evicted) => seen.push(['evicted', ...evicted]) });
  for (const [name, key, value] of operations) {
    seen.push([name, key, name === 'set' ? cache.set(key, value) : cache[name](key), cache.size]);
  }
  return seen;
}

test('the fast, the plain and the obvious LRU agree on any run of operations', () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 60, max: 120 })),
      fc.array(operation, { maxLength: 600, size: 'max' }),
      (capacity, operations) => {
        const expected = play((options) => new Model(capacity, options), operations);
        expect(play((options) => new Lru(capacity, options), operations)).toEqual(expected);
        expect(play((options) => new FastLru(capacity, options), operations)).toEqual(expected);
      },
    ),
    { numRuns: 150, seed: 1 },
  );
});

test('keys that end alike, and keys that all fall into one bucket, are still found', () => {
  const capacity = 3_000;
  const fast = new FastLru<string, number>(capacity);
  const plain = new Lru<string, number>(capacity);
  const keys = Array.from({ length: 2 * capacity }, (_, id) => `user:${id}:notification-settings`);
  for (const [id, key] of keys.entries()) {
    fast.set(key, id);
    plain.set(key, id);
    if (id % 3 === 0) expect(fast.delete(keys[id >> 1] ?? '')).toBe(plain.delete(keys[id >> 1] ?? ''));
  }
  expect(fast.size).toBe(plain.size);
  expect(keys.map((key) => fast.get(key))).toEqual(keys.map((key) => plain.get(key)));
});

test('bad capacities are refused', () => {
  for (const capacity of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 28]) {
    expect(() => new FastLru(capacity)).toThrow(RangeError);
  }
});
