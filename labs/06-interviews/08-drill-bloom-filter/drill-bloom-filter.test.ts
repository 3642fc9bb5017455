import { describe, expect, test } from 'vitest';
import { BloomFilter } from './drill-bloom-filter';
import { digest } from './given';

describe('Core', () => {
  test('an empty filter denies everything', () => {
    for (const [items, rate] of [
      [1, 0.01],
      [5_000, 0.01],
      [5_000, 0.3],
      [5_000, 0.8],
    ] as const) {
      const filter = new BloomFilter(items, rate);
      const claimed = ['', ...strings('any', 200)].filter((item) => filter.mightContain(item));
      expect(claimed, `items that an empty filter for ${items} items claims to contain`).toEqual([]);
    }
  });

  test('an item that was added is never denied', () => {
    const filter = new BloomFilter(1_000, 0.01);
    // Three times as many as it was made for: more wrong answers, and still no wrong "no".
    const added = ['', 'x'.repeat(10_000), ...strings('added', 3_000)];
    for (const item of added) filter.add(item);
    const denied = added.filter((item) => !filter.mightContain(item));
    expect(denied.slice(0, 5), `of ${denied.length} items that were added and are denied`).toEqual([]);
    for (const byte of [0x00, 0x01, 0x7f, 0x80, 0xff]) {
      const fixed = new BloomFilter(1_000, 0.01, () => Buffer.alloc(16, byte));
      fixed.add('item');
      expect(
        fixed.mightContain('item'),
        `whether the filter contains its only item: each byte of its hash is ${byte}`,
      ).toBe(true);
    }
  });

  test('its size follows from the number of items and the rate', () => {
    for (const [items, rate] of [
      [40, 0.01],
      [1_000, 0.01],
      [10_000, 0.001],
      [70_000, 0.05],
    ] as const) {
      const bytes = (-items * Math.log(rate)) / Math.log(2) ** 2 / 8;
      const { length } = new BloomFilter(items, rate).bytes;
      const made = `bytes of a filter for ${items} items and a rate of ${rate}`;
      expect(length, `${made}: fewer cannot keep the rate`).toBeGreaterThanOrEqual(Math.floor(bytes));
      expect(length, `${made}: memory is what you pay for`).toBeLessThanOrEqual(bytes * 1.02 + 8);
    }
  });

  test('a full filter claims about the given share of the strings that were not added', () => {
    for (const [rate, questions] of [
      [0.2, 10_000],
      [0.01, 20_000],
      [0.001, 60_000],
    ] as const) {
      const filter = new BloomFilter(5_000, rate);
      for (const item of strings('added', 5_000)) filter.add(item);
      const asked = strings('never added', questions);
      const claimed = asked.filter((item) => filter.mightContain(item)).length / asked.length;
      expect(claimed, `share of wrong answers, made for ${rate}`).toBeLessThan(
        rate * (rate < 0.01 ? 1.75 : 1.5),
      );
    }
    const large = new BloomFilter(2_000_000, 0.01);
    for (const item of strings('added', 200)) large.add(item);
    const last = large.bytes.findLastIndex((byte) => byte !== 0) / large.bytes.length;
    expect(
      last,
      'the last byte of a large filter that 200 items use: a part of it stays empty',
    ).toBeGreaterThan(0.9);
  });

  test('an item is hashed once', () => {
    let hashed = 0;
    const filter = new BloomFilter(1_000, 0.001, (text) => {
      hashed++;
      return digest(text);
    });
    filter.add('a long text');
    expect(hashed, 'calls of hash by add: all places follow from one hash').toBe(1);
    filter.mightContain('a long text');
    expect(hashed, 'calls of hash by add and mightContain').toBeLessThanOrEqual(2);
  });

  test('a filter with the bytes of another filter gives the same answers', () => {
    const [here, elsewhere] = [new BloomFilter(2_000, 0.05), new BloomFilter(2_000, 0.05)];
    const added = strings('added', 2_000);
    for (const item of added) here.add(item);
    for (const item of added) elsewhere.mightContain(item);
    elsewhere.bytes.set(here.bytes);
    const denied = added.filter((item) => !elsewhere.mightContain(item));
    expect(
      denied.length,
      'items that are denied by a filter which got the bytes, as another process does, and was asked before, too',
    ).toBe(0);
    const asked = strings('never added', 2_000);
    const answers = (filter: BloomFilter) => asked.map((item) => filter.mightContain(item));
    expect(answers(elsewhere), 'answers about strings that were not added, with the same bytes').toEqual(
      answers(here),
    );
  });
});

/** Of several scripts: a user's text is not ASCII. */
function strings(what: string, count: number): string[] {
  const words = ['mug', 'Tasse', 'чашка', 'カップ', '杯子', '☕️'];
  return Array.from({ length: count }, (_, i) => `${words[i % words.length]} ${i} ${what}`);
}
