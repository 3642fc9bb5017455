import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import { checkClaims, checkResult } from '../course/claims/check';
import type { Claim, Plot } from '../course/claims/claims';
import { bound, figure } from '../course/claims/figures';
import { type MeasuredRecord, readRecord, recordOf, serialise } from '../course/claims/record';
import { render } from '../course/claims/render';
import { runMeasures } from '../course/claims/run';
import type { Target } from '../course/claims/targets';
import { stalePages, write } from '../course/claims/write';

const CLAIM: Claim = {
  name: 'get-vs-select',
  says: 'GET against SELECT | p50',
  value: 1.9,
  unit: '×',
  atLeast: 1.2,
};
const PLOT: Plot = {
  name: 'hits',
  title: 'Hits & <misses> by size',
  x: { label: 'size', scale: 'log' },
  y: { label: 'hit rate (%)', scale: 'linear' },
  series: [{ name: 'LRU', points: [[10, 12.3]] }],
};
const RECORD: MeasuredRecord = {
  date: '2026-02-28',
  node: '20.19.0',
  servers: ['Redis 7.0.15'],
  cpu: { model: 'Example CPU', count: 2 },
  claims: [CLAIM],
  plots: [PLOT],
};
const LESSON = `# 1.4 LRU

A GET is <!-- measured:get-vs-select --><!-- /measured --> as fast.

<!-- measured:table -->
<!-- /measured -->

<!-- measured:plot hits -->
typed by hand
<!-- /measured -->

The end.
`;

test('a lesson is filled with the figure, the table and the plot of its record', () => {
  expect(render(LESSON, RECORD, 'lru')).toBe(`# 1.4 LRU

A GET is <!-- measured:get-vs-select -->1.9×<!-- /measured --> as fast.

<!-- measured:table -->

| Compared | Here | Bound |
| --- | ---: | --- |
| GET against SELECT \\| p50 | 1.9× | at least 1.2× |

Measured on 2 × Example CPU, Node 20.19.0, Redis 7.0.15, on 2026-02-28. Again on yours: \`npm run measure -- lru\`.

<!-- /measured -->

<!-- measured:plot hits -->

![Hits & &lt;misses> by size](images/lru-hits.svg)

<!-- /measured -->

The end.
`);
});

test('filling a filled lesson changes nothing', () => {
  const once = render(LESSON, RECORD, 'lru');
  expect(render(once, RECORD, 'lru')).toBe(once);
});

test('a marker that names nothing is refused with the lesson, the marker and the remedy', () => {
  const filling = (text: string) => () => render(text, RECORD, 'lru');
  expect(filling('\n\nis <!-- measured:get --><!-- /measured -->')).toThrow(
    'lesson lru, line 3: <!-- measured:get --> names no claim of measure.ts. Its claims: get-vs-select. Correct the marker; ' +
      'if measure.ts has changed, run npm run measure -- lru --write',
  );
  expect(filling('<!-- measured:plot hit --><!-- /measured -->')).toThrow(
    '<!-- measured:plot hit --> names no plot of measure.ts. Its plots: hits.',
  );
});

test('a marker that would swallow text or break Markdown is refused', () => {
  const filling = (text: string) => () => render(text, RECORD, 'lru');
  expect(filling('a <!-- measured:table --> b <!-- measured:get-vs-select --><!-- /measured -->')).toThrow(
    'is not closed',
  );
  expect(filling('a\n- <!-- measured:get-vs-select --><!-- /measured --> as *fast*')).toThrow(
    'begins its line',
  );
});

test('a table has the claims that it names, or the rest', () => {
  const [claim] = RECORD.claims;
  if (!claim) throw new Error('the record has no claim');
  const other = { ...claim, name: 'other', says: 'another row' };
  const record = { ...RECORD, claims: [claim, other] };
  const rowsOf = (text: string) =>
    render(text, record, 'lru').match(/^\| .*(?:another row|GET against).*$/gm);
  const named = '<!-- measured:table other --><!-- /measured -->';
  expect(rowsOf(named)).toEqual([expect.stringContaining('another row')]);
  const both = `${named}\n\n<!-- measured:table rest --><!-- /measured -->`;
  expect(rowsOf(both)).toEqual([
    expect.stringContaining('another row'),
    expect.stringContaining('GET against'),
  ]);
  expect(() => render('<!-- measured:table nothing --><!-- /measured -->', record, 'lru')).toThrow(
    'names no claim',
  );
});

test('figures have three digits, small counts all of theirs', () => {
  const shown = [1.904, 0.01234, 11_814, 1_234_567, 99.96, 0].map((value) => figure(value, '×'));
  expect(shown).toEqual(['1.9×', '0.0123×', '11,814×', '1,230,000×', '100×', '0×']);
  expect(figure(12.34, 'ms')).toBe('12.3 ms');
  const counted = ['loads', 'queries', 'misses', 'entries', 'bytes', 'loads/s'];
  expect(counted.map((unit) => figure(1, unit))).toEqual([
    '1 load',
    '1 query',
    '1 miss',
    '1 entry',
    '1 byte',
    '1 loads/s',
  ]);
  expect(figure(0, 'loads')).toBe('0 loads');
  expect(bound({ unit: '%', atLeast: 2, atMost: 5 })).toBe('2 % to 5 %');
  expect(bound({ unit: '%', atLeast: 0, atMost: 0 })).toBe('exactly 0 %');
});

test('a record survives its file, at the precision that it is kept in', () => {
  const record = recordOf({ claims: [{ ...CLAIM, value: 1.90000049 }], plots: [PLOT] }, ['Redis 7.0.15']);
  expect(JSON.parse(serialise(record))).toEqual(record);
  expect(record.claims[0]?.value).toBe(1.9);
  expect(JSON.parse(serialise({ ...record, claims: [], plots: [] })).plots).toEqual([]);
});

test('a claim out of its bound is told with its file and what to do', async () => {
  const target = targetWith(
    '{ claims: [{ name: "ratio", says: "a against b", value: 0.8, unit: "×", atLeast: 1.5 }] }',
  );
  const check = checkResult(await resultOf(target));
  expect(check.claims[0]).toMatchObject({ holds: false, recorded: undefined });
  expect(check.problems[0]).toMatch(
    /measure\.mjs: claim ratio is 0\.8× and must be at least 1\.5× \("a against b"\)\. .*npm run measure -- fake/,
  );
  expect(check.problems[1]).toMatch(/measured\.json is missing\. Run npm run measure -- fake --write/);
});

test('a claim that fails while the machine is busy is measured again after all others', async () => {
  const order: string[] = [];
  vi.stubGlobal('measured', (name: string) => order.push(name));
  onTestFinished(() => {
    vi.unstubAllGlobals();
  });
  const claim = (value: string) => `{ claims: [{ ...base, value: ${value}, atLeast: 3 }] }`;
  const spoilt = targetWith(claim('measured("spoilt")'));
  const other = targetWith(claim('measured("other") + 3'));
  const checks = await checkClaims([spoilt, other], 'quick');
  expect(order).toEqual(['spoilt', 'spoilt', 'other', 'spoilt']);
  expect(checks.map(({ claims }) => claims[0]?.holds)).toEqual([true, true]);
});

test('a record of other claims than the measure makes is told', async () => {
  const target = targetWith(
    '{ claims: [{ name: "ratio", says: "a against b", value: 2, unit: "×", atLeast: 1.5 }] }',
  );
  const outcome = await resultOf(target);
  const old = { ...RECORD, claims: [CLAIM, { ...CLAIM, name: 'ratio', atLeast: 1 }] };
  expect(checkResult(outcome, old).problems).toEqual([
    expect.stringContaining('holds other words or another bound for claim ratio'),
    expect.stringContaining('holds claim get-vs-select, which the measure does not make'),
  ]);
});

test('a computed value must be the recorded one on every machine, and a timed value need not', async () => {
  const outcome = await resultOf(
    targetWith(
      '{ claims: [{ ...base, value: 7, unit: "nodes", exact: true }, { ...base, name: "timed", value: 7 }] }',
    ),
  );
  const recorded = (value: number) => ({
    ...RECORD,
    claims: [
      { name: 'ratio', says: 'a against b', value, unit: 'nodes', exact: true as const },
      { name: 'timed', says: 'a against b', value: 6, unit: '×' },
    ],
  });
  expect(checkResult(outcome, recorded(7)).problems).toEqual([]);
  expect(checkResult(outcome, recorded(6)).problems).toEqual([
    expect.stringMatching(
      /measured\.json holds 6 for claim ratio, which is 7 now\. .*npm run measure -- fake --write/,
    ),
  ]);
});

test('a measure that throws, or gives no number, is told by its file', async () => {
  const broken = [
    '(() => { throw new Error("no rows") })()',
    '{ claims: [{ ...base, value: 0 / 0 }] }',
    'servers()',
  ];
  const results = [];
  for (const body of broken) results.push(String((await resultOf(targetWith(body))).result));
  expect(results).toEqual([
    expect.stringMatching(/measure\.mjs: no rows/),
    expect.stringMatching(/measure\.mjs: claim ratio is NaN/),
    expect.stringMatching(/measure\.mjs: .*Add needs: 'servers'/),
  ]);
});

test('writing fills lesson, record and images, and takes away a plot that is no more', () => {
  const target = targetWith('{ claims: [] }');
  const lesson = String(target.lesson);
  writeFileSync(lesson, LESSON);
  const images = join(lesson, '../images');

  write(target, { ...RECORD, plots: [PLOT, { ...PLOT, name: 'old' }] });
  expect(readFileSync(join(images, 'fake-old.svg'), 'utf8')).toContain('<svg');

  expect(write(target, RECORD)).toEqual([target.record]);
  expect(() => readFileSync(join(images, 'fake-old.svg'))).toThrow('ENOENT');
  expect(readRecord(target.record)).toEqual(RECORD);
  expect(stalePages(target)).toEqual([]);

  writeFileSync(lesson, readFileSync(lesson, 'utf8').replace('1.9×', '19×'));
  expect(stalePages(target)).toEqual([
    expect.stringMatching(/lesson\.md is not what measured\.json says\. Run npm run measure -- fake --write/),
  ]);
});

test('a further page of a lesson shows the record too', () => {
  const target = targetWith('{ claims: [] }');
  const page = join(String(target.lesson), '../more.md');
  for (const path of [String(target.lesson), page]) writeFileSync(path, LESSON);
  const both = { ...target, further: [page] };

  write(both, { ...RECORD, plots: [PLOT] });
  expect(readFileSync(page, 'utf8')).toEqual(readFileSync(String(target.lesson), 'utf8'));
  writeFileSync(page, readFileSync(page, 'utf8').replace('1.9×', '19×'));
  expect(stalePages(both)).toEqual([expect.stringMatching(/more\.md is not what measured\.json says/)]);
});

/** A measure in a folder of its own, whose run returns what `body` says. */
function targetWith(body: string): Target {
  const folder = mkdtempSync(join(tmpdir(), 'caching-deep-dive-claims-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'chapter'));
  const measure = join(folder, 'measure.mjs');
  writeFileSync(
    measure,
    `const base = { name: 'ratio', says: 'a against b', value: 1, unit: '×' };
     export default { run: async ({ servers }) => (${body}) };`,
  );
  return {
    id: 'fake',
    title: '9.9 Fake',
    measure,
    record: join(folder, 'measured.json'),
    lesson: join(folder, 'chapter/lesson.md'),
  };
}

async function resultOf(target: Target) {
  for await (const outcome of runMeasures([target], 'quick')) return outcome;
  throw new Error('nothing was measured');
}
