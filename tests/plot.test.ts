import { expect, test } from 'vitest';
import { drawBars } from '../course/claims/bars';
import type { Bars, Plot } from '../course/claims/claims';
import { drawPlot } from '../course/claims/plot';
import { spread } from '../course/claims/plot-text';

const PLOT: Plot = {
  name: 'hits',
  title: 'Hits & <misses> by size',
  x: { label: 'size', scale: 'log' },
  y: { label: 'hit rate (%)', scale: 'linear' },
  series: [
    {
      name: 'LRU',
      points: [
        [1000, 68.4],
        [10, 12.3],
        [100, 40.04],
      ],
    },
    {
      name: '"SIEVE" <new>',
      points: [
        [10, 14],
        [1000, 74],
      ],
    },
  ],
};
test('a plot is the same text each time, has no NaN, and escapes what it is given', () => {
  const svg = drawPlot(PLOT);
  expect(drawPlot(structuredClone(PLOT))).toBe(svg);
  expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  expect(svg).toContain('<title>Hits &#38; &#60;misses&#62; by size</title>');
  expect(svg).toContain('&#34;SIEVE&#34; &#60;new&#62;');
  expect(svg, 'coordinates are rounded to a tenth').not.toMatch(/ d="[^"]*\.\d\d/);
});

test('a plot of one point, of equal values or of a narrow range has no NaN', () => {
  for (const scale of ['linear', 'log'] as const) {
    for (const points of [
      [[5, 5]],
      [[1, 7] as const, [2, 7] as const],
      [[120, 1.2] as const, [130, 1.21] as const],
    ]) {
      const axes = { x: { label: 'x', scale }, y: { label: 'y', scale } };
      const series = [{ name: 'only', points: points as [number, number][] }];
      expect(drawPlot({ name: 'small', title: 'Small', ...axes, series })).not.toMatch(
        /NaN|undefined|Infinity/,
      );
    }
  }
});

test('a value that no axis can show is refused by the name of its plot', () => {
  const zero = { ...PLOT, series: [{ name: 'LRU', points: [[0, 1] as const] }] };
  expect(() => drawPlot(zero)).toThrow('plot hits: 0 cannot stand on a log x axis');
  expect(() => drawPlot({ ...PLOT, series: [] })).toThrow('plot hits: there are no points');
});

test('bars keep their numbers inside, begin at zero, and name what has no length', () => {
  const bars: Bars = {
    name: 'loads',
    title: 'Loads for 1,000 readers',
    label: 'loads',
    bars: [
      ['nothing shared', 1000],
      ['one load for each process & no more than that', 4],
      ['none', 0],
    ],
  };
  const svg = drawBars(bars);
  const widths = [...svg.matchAll(/ width="([\d.]+)" height="20"/g)].map(([, width]) => Number(width));
  expect(widths[0]).toBeGreaterThan(300);
  expect((widths[1] ?? 0) / (widths[0] ?? 1)).toBeCloseTo(0.004, 2);
  expect(svg).toContain('>1,000</text>');
  expect(svg).not.toMatch(/NaN|undefined|Infinity/);
  expect(() => drawBars({ ...bars, bars: [] })).toThrow('bars loads: there are none');
  expect(() => drawBars({ ...bars, bars: [['gone', Number.NaN]] })).toThrow('bars loads: NaN has no length');
});

test('labels keep apart and inside', () => {
  const blocks = [98, 99, 99, 20].map((want) => ({ want, height: 20 }));
  const middles = [...spread(blocks, 0, 110).values()].sort((a, b) => a - b);
  expect(middles).toEqual([20, 60, 80, 100]);
});
