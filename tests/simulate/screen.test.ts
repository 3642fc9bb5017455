import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { MemoryBlocks, traceOf } from '../../course/experiments/simulator/blocks';
import { bytes, counted, percent, short } from '../../course/experiments/simulator/figures';
import { lruCurve } from '../../course/experiments/simulator/lru-curve';
import { kneeOf } from '../../course/experiments/simulator/meaning';
import { writePicture } from '../../course/experiments/simulator/picture';
import { report } from '../../course/experiments/simulator/report';
import { defaultSizes, type Simulation, simulate } from '../../course/experiments/simulator/simulate';
import { seeded } from '../../course/kit/random';
import { zipf } from '../../course/kit/workload';

function simulated(requests: readonly number[], rate?: number): Simulation {
  const trace = traceOf(requests);
  const sizes = defaultSizes(trace.distinct);
  const steps = simulate(trace, { sizes, rate, makeBlocks: () => new MemoryBlocks() });
  for (let step = steps.next(); ; step = steps.next()) if (step.done) return step.value;
}

const popular = zipf({ n: 3000, skew: 0.9, random: seeded(4) });
/** Readers, and every now and then somebody who reads everything once. */
const SHOP = Array.from({ length: 30_000 }, (_, at) => (at % 10_000 < 2000 ? at % 2000 : popular()));
const LOOP = Array.from({ length: 5000 }, (_, at) => at % 50);
const ONCE = [7];

const NAMED = { format: 'one key a line', entryBytes: 1100, entryBytesFrom: 'as --bytes says' };

test.each([
  ['shop', SHOP],
  ['loop', LOOP],
  ['once', ONCE],
])('the report of %s is as it is kept, and fits a terminal', async (name, requests) => {
  const simulation = simulated(requests);
  for (const columns of [80, 140]) {
    const text = stripVTControlCharacters(report(simulation, { name, ...NAMED }, columns));
    expect(Math.max(...text.split('\n').map((line) => line.length))).toBeLessThanOrEqual(columns);
    await expect(`${text}\n`).toMatchFileSnapshot(`../texts/simulate-${name}-${columns}.txt`);
  }
});

test('a sample of the keys says nearly what all of them say', () => {
  const [exact, sampled] = [simulated(SHOP), simulated(SHOP, 0.3)];
  expect(sampled.sampled).toBeLessThan(1200);
  expect(report(sampled, { name: 'shop', ...NAMED }, 80)).toContain('Estimated from a sample');
  exact.curves.forEach(({ policy, misses }, curve) => {
    const errors = misses.map(
      (count, at) => Math.abs(count - (sampled.curves[curve]?.misses[at] ?? 0)) / SHOP.length,
    );
    expect(errors.reduce((sum, error) => sum + error) / errors.length, policy).toBeLessThan(0.05);
  });
});

test('the knee is where a megabyte begins to buy less than the mean', () => {
  // 100 keys in a loop, of which the first 10 are asked for every second time: they are worth most.
  const mixed = Array.from({ length: 20_000 }, (_, at) =>
    at % 2 === 0 ? (at / 2) % 10 : 10 + ((at * 7) % 90),
  );
  const knee = kneeOf(lruCurve(traceOf(mixed)), new Set(mixed).size);
  expect(knee).toBeGreaterThanOrEqual(10);
  expect(knee).toBeLessThan(30);
  expect(kneeOf(lruCurve(traceOf(LOOP)), 50), 'a loop has none').toBeUndefined();
});

test('the size for a hit ratio is the smallest that reaches it', () => {
  const curve = lruCurve(traceOf(SHOP));
  const text = report(simulated(SHOP), { name: 'shop', ...NAMED }, 80).replaceAll('\n', ' ');
  const named = [...text.matchAll(/([\d,]+)(?: entries)? \([\d.]+ .B\) for (?:a hit ratio of )?(\d+) %/g)];
  expect(named.length, 'ratios that this trace can reach').toBeGreaterThan(1);
  for (const [, entries = '', percent] of named) {
    const [wanted, size] = [Number(percent) / 100, Number(entries.replaceAll(',', ''))];
    expect(1 - curve.missRatioAt(size)).toBeGreaterThanOrEqual(wanted);
    expect(1 - curve.missRatioAt(size - 1)).toBeLessThan(wanted);
  }
});

test('sizes go from a thousandth of the keys to all of them, each once', () => {
  expect(defaultSizes(1)).toEqual([1]);
  expect(defaultSizes(5)).toEqual([1, 2, 3, 5]);
  const sizes = defaultSizes(100_000);
  expect([sizes.length, sizes[0], sizes.at(-1)]).toEqual([16, 100, 100_000]);
});

test('a picture is written over one of its own, and over nothing else', () => {
  const folder = mkdtempSync(join(tmpdir(), 'picture-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [ours, theirs] = [join(folder, 'ours.svg'), join(folder, 'theirs.svg')];
  const simulation = simulated(LOOP);
  writePicture(ours, 'a <loop>', simulation);
  writePicture(ours, 'a <loop>', simulation);
  const svg = readFileSync(ours, 'utf8');
  expect(svg).toContain('a &#60;loop&#62;');
  expect(svg).toContain('W-TinyLFU');
  writeFileSync(theirs, '<svg/>');
  expect(() => writePicture(theirs, 'x', simulation)).toThrow('npm run simulate did not make it');
  expect(() => writePicture(folder, 'x', simulation)).toThrow('npm run simulate did not make it');
  expect(() => writePicture(join(folder, 'no', 'x.svg'), 'x', simulation)).toThrow(
    'cannot be written: ENOENT',
  );
  expect(readFileSync(theirs, 'utf8')).toBe('<svg/>');
});

test('numbers are short', () => {
  expect([999, 1000, 999_999, 1_234_567].map(bytes)).toEqual(['999 B', '1 kB', '1 MB', '1.23 MB']);
  expect([0.0004, 0.0999, 0.5, 1].map(percent)).toEqual(['0.04 %', '9.99 %', '50.0 %', '100 %']);
  expect([counted(1, 'key'), counted(2000, 'key')]).toEqual(['1 key', '2,000 keys']);
  expect([7, 999, 1000, 60_734, 2_500_000].map(short)).toEqual(['7', '999', '1k', '60.7k', '2.5M']);
});
