import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { expect, test, vi } from 'vitest';
import { ROOT } from '../course/base/root';
import { chart } from '../course/experiments/collapse/chart';
import { LIMITER } from '../course/experiments/collapse/remedies';
import { drawHelp, drawScreen, type View } from '../course/experiments/collapse/screen';
import { learnersEnv } from './support/course';

/** They start processes, or read whole traces, on a machine that may be busy. */
vi.setConfig({ testTimeout: 30_000 });

/** The collapse of 40 samples: warm, flushed, lowered twice, cured by the limit. */
const COLLAPSED: View = {
  offered: 400,
  remedy: LIMITER,
  redis: 'up',
  products: 400,
  hits: 88.4,
  busy: 2,
  connections: 4,
  queries: 46,
  wasted: 0,
  samples: Array.from({ length: 40 }, (_, at) => ({
    goodput: at < 10 ? 100 : at === 10 ? Number.NaN : at < 30 ? 4 : Math.min(100, (at - 29) * 25),
    queued: at < 10 ? 0 : at < 30 ? Math.min(2000, (at - 9) * 300) : 1,
    event: { 10: 'f', 16: '-', 20: '-', 30: '8' }[at] ?? '',
  })),
};
const KILLED: View = { ...COLLAPSED, redis: 'down', hits: Number.NaN, samples: [] };

const SCREENS: readonly (readonly [name: string, draw: (columns: number) => string])[] = [
  ['collapse', (columns) => drawScreen(COLLAPSED, columns)],
  ['collapse-killed', (columns) => drawScreen(KILLED, columns)],
  ['collapse-help', drawHelp],
];

test.each(SCREENS)('the screen %s is as it is kept, and fits a terminal', async (name, draw) => {
  for (const columns of [80, 140]) {
    const text = stripVTControlCharacters(draw(columns));
    const lines = text.split('\n');
    expect(lines.length, `rows of ${name}`).toBeLessThanOrEqual(24);
    expect(Math.max(...lines.map((line) => line.length)), `width of ${name}`).toBeLessThanOrEqual(columns);
    await expect(`${text}\n`).toMatchFileSnapshot(`texts/${name}-${columns}.txt`);
  }
});

test('a narrow terminal gets rows that are cut', () => {
  const lines = stripVTControlCharacters(drawScreen(COLLAPSED, 40)).split('\n');
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(40);
});

test('a chart shows a zero as a line on the ground, and a missing value as a gap', () => {
  const plain = (text: string) => text;
  const columns = [0, 50, 100, Number.NaN, 25].map((value) => [value, plain] as const);
  expect(chart(columns, { rows: 2, most: 100, axis: 6, unit: '%' })).toEqual(['100% │  █', '  0% │▁██ ▄']);
});

test('without a terminal it refuses, and names what gives the same as numbers', () => {
  const { status, stderr } = spawnSync(process.execPath, [join(ROOT, 'course/cli.cjs'), 'collapse'], {
    cwd: ROOT,
    env: learnersEnv(),
    encoding: 'utf8',
  });
  expect(stderr).toContain('npm run measure -- cold-cache');
  expect(status).toBe(2);
});
