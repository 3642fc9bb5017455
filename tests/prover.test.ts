import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { all, type Breakage, type Breakages, LAB, TEXT } from './prover/breakages';
import { LADDER } from './prover/ladder-breakages';
import { type Change, scratchCourse } from './prover/scratch';
import { type Ended, run } from './support/course';

const SOUND = 'memo';
const BROKEN_TEXT = 'a broken text';

const course = scratchCourse(
  {},
  {
    [SOUND]: () => {},
    ...changes(LAB),
    [BROKEN_TEXT]: all(...Object.values(changes(TEXT))),
    ...changes(LADDER),
  },
);
afterAll(() => rmSync(course.root, { recursive: true }));

const prove = (...names: string[]) =>
  run(course.root, ['course/cli.cjs', 'verify', ...names.map(course.place)]);
let proofs: readonly Ended[];
beforeAll(async () => {
  proofs = await Promise.all([prove(SOUND), prove(...Object.keys(LAB), BROKEN_TEXT, ...Object.keys(LADDER))]);
}, 120_000);

test('a sound lab is proven, a broken one is not', () => {
  expect(proofs[0]?.output).toContain('2 passed, 0 failed');
  expect(proofs.map(({ code }) => code)).toEqual([0, 1]);
});

test.each(Object.entries({ ...LAB, ...LADDER }))('%s is told, and nothing else', (name, breakage) => {
  expect(told(name)).toHaveLength(problems(breakage).length);
  expect(told(name)).toEqual(expect.arrayContaining(problems(breakage)));
});

test.each(Object.entries(TEXT))('%s is told', (_, breakage) => {
  expect(told(BROKEN_TEXT)).toEqual(expect.arrayContaining(problems(breakage)));
});

test('nothing else is told of a broken text', () => {
  expect(told(BROKEN_TEXT)).toHaveLength(Object.values(TEXT).flatMap(problems).length);
});

/** What was said of one lab, as if it were `memo` at PLACE. */
function told(name: string): string[] {
  const place = course.place(name);
  return proofs
    .flatMap(({ output }) => output.split('\n'))
    .filter((line) => line.includes(place))
    .map((line) => line.trim().replaceAll(place, 'PLACE').replaceAll(name.replaceAll(' ', '-'), 'memo'));
}

function problems([, ...texts]: Breakage): unknown[] {
  return texts.map((text) => (typeof text === 'string' ? text : expect.stringMatching(text)));
}

function changes(breakages: Breakages): Record<string, Change> {
  return Object.fromEntries(Object.entries(breakages).map(([name, [change]]) => [name, change]));
}
