import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { shown } from '../../course/base/root';
import type { Lab } from '../../course/content/catalog';
import { formProblems } from '../../course/proof/form';
import { ladderLessonProblems } from '../../course/proof/ladder-lesson';
import { codeLanguage, pageLanguage } from '../../course/proof/language';
import { drillProblems, pageProblems, promptProblems } from '../../course/proof/other-pages';
import { openPage } from '../../course/proof/page';
import { add, all, type Breakages, edit, text } from './breakages';
import { type Change, writeLab } from './scratch';

const SHARE = 'callers at the same time share a load';
const TEST = 'labs/PLACE/memo.test.ts';
const lines = (count: number, line: string) => `${line}\n`.repeat(count);
const OPEN = '\n```ts file=solutions/99-proof/01-memo/memo.ts#get\n```\n\n<details>';

const FORM: Breakages = {
  'a test in neither part': [
    add('checks.ts', "\ntest('it works', () => {});\n"),
    `${TEST}: "it works" is in neither Core nor In production: move it into one`,
  ],
  'a test in another group': [
    edit('checks.ts', "describe('In production'", "describe('Extras'"),
    ...[SHARE, 'the oldest value makes room for a new one'].map(
      (name) => `${TEST}: "${name}" is in neither Core nor In production: move it into one`,
    ),
  ],
  'Core after production': [
    add('checks.ts', "\ndescribe('Core', () => {\n  test('it works', () => {});\n});\n"),
    `${TEST}: "it works" of Core stands after In production: move it up`,
  ],
  'two tests of one name': [
    edit('checks.ts', 'each key has its own value', 'a second get does not load again'),
    `${TEST}: "a second get does not load again" is the name of two tests: rename one`,
  ],
  'a placeholder': [
    edit('checks.ts', "test('each key", "test.each(['a'])('%s: each key"),
    `${TEST}: "%s: each key has its own value" has a placeholder, and all cases are one promise: name it without`,
  ],
  'a long test': [
    edit('checks.ts', /^ {4}const cache = .*toUpperCase.*\n/m, lines(53, '    expect(1).toBe(1);')),
    `${TEST}: the test "memo: each key has its own value" has 56 lines: make them 55 at most, with helpers for its scenes`,
  ],
  'only two tests of Core': [
    edit('checks.ts', /^ {2}test\('a load that[\s\S]+?\n {2}}\);\n/m, ''),
    `${TEST}: Core has 2 tests: make them 3 to 6`,
  ],
  'eleven tests of production': [
    edit(
      'checks.ts',
      "describe('In production', () => {\n",
      `describe('In production', () => {\n${tests(9)}`,
    ),
    `${TEST}: In production has 11 tests: make them 10 at most`,
  ],
  'eleven tests of Core alone': [
    edit(
      'checks.ts',
      /^describe\('In production[\s\S]+?^}\);\n/m,
      `describe('Core', () => {\n${tests(8)}});\n`,
    ),
    `${TEST}: Core has 11 tests: make them 3 to 10`,
  ],
  'a long starter': [
    add('starter.ts', lines(140, 'export {};')),
    'labs/PLACE/memo.ts: 151 lines: make them 150 at most, and give the rest in given.ts',
  ],
  'a long contract': [
    all(
      edit('starter.ts', '  /** The value', `  // ${'word '.repeat(100)}\n  /** The value`),
      add(
        'given.ts',
        `\n/** ${'word '.repeat(90)}In production: ${'word '.repeat(90)}*/\nexport type Key = string;\n`,
      ),
    ),
    'labs/PLACE/memo.ts: 220 words of contract before Core, with those of given.ts: make them 200 at most',
  ],
  'a long solution': [
    add('memo.ts', `// #region more\n${lines(107, 'export {};')}\n}\n// #endregion\n`),
    'solutions/PLACE/memo.ts: 121 lines of its own: make them 120 at most',
  ],
  'a long core': [
    add('core.ts', lines(60, 'export {};')),
    'solutions/PLACE/core.ts: 69 lines of its own: make them 60 at most',
  ],
};

const LESSON: Breakages = {
  'no minutes for production': [
    edit('lesson.md', ', production: 10', ''),
    'the front matter needs minutes: { core: …, production: … }, in this order',
  ],
  'no title': [edit('lesson.md', 'title: Memo\n', ''), 'the front matter lacks "title": add it'],
  'a heading too many': [
    add('lesson.md', '\n## And\n'),
    'the headings must be: In 60 seconds, How it works, In production, Measured, The lab, In an interview, Read more',
  ],
  'no scene': [
    edit('lesson.md', /^A page computed.*\n/m, ''),
    'the scene before "In 60 seconds" has 0 words: make them 1 to 60',
  ],
  'four points': [
    edit('lesson.md', '- A failure is not a value.\n', ''),
    '"In 60 seconds" has 4 points: make them 5, the pattern and its price',
  ],
  'no picture': [
    edit('lesson.md', '```mermaid', '```text'),
    '"In 60 seconds" has no picture: draw the pattern as a sequence',
  ],
  'an incident without a link': [
    edit('lesson.md', ` Test: [${SHARE}](../../labs/99-proof/01-memo/memo.test.ts).`, ''),
    '"Many callers" links to no test: end it with [its name](…/memo.test.ts)',
    `In production has no heading for the test "${SHARE}": add it, with a link to it`,
  ],
  'an incident of no test': [
    edit('lesson.md', `[${SHARE}]`, '[callers share]'),
    '"callers share" is linked as a test of In production and is none: correct the name',
    `In production has no heading for the test "${SHARE}": add it, with a link to it`,
  ],
  'incidents in another order': [
    (files) => {
      const [, callers = '', keys = ''] =
        /(### Many callers[\s\S]+?)(### Many keys[\s\S]+?)(?=## Measured)/.exec(text(files, 'lesson.md')) ??
        [];
      edit('lesson.md', callers + keys, keys + callers)(files);
    },
    'the headings of In production must follow the order of the tests',
  ],
  'no place for the ladder': [
    edit('lesson.md', '<!-- /ladder -->', ''),
    'there is no place for the ladder: write <!-- ladder --> and <!-- /ladder --> into "The lab" (of a drill: "Rubric")',
  ],
  'another ladder': [
    edit('lesson.md', '2. each key', '2. every key'),
    `the ladder is not that of ${TEST}: npm run sync`,
  ],
  'an open solution': [
    edit('lesson.md', '<details>', OPEN),
    'the block file=solutions/PLACE/memo.ts#get shows the solution: fold it with <details>',
  ],
  'too many rows': [
    edit('lesson.md', 'Nothing.', `| a | b |\n| --- | --- |\n${'| 1 | 2 |\n'.repeat(6)}`),
    '"Measured" shows 6 rows: name 5 of them, and fold the others (<!-- measured:table rest -->)',
  ],
  'too many words': [
    add('lesson.md', `\n<details>\n\n${'word '.repeat(500)}\n\n</details>\n`),
    /^15\d\d words: make them 1500 at most$/,
  ],
};

const LANGUAGE: Breakages = {
  'banned English in a lesson': [
    edit('lesson.md', 'Nothing.', 'It stays\nfor ever.'),
    'chapters/PLACE.md: "for ever": write "forever"',
  ],
  'banned English in a heading': [
    edit('lesson.md', '### Many keys', '### Dear keys'),
    'chapters/PLACE.md: "Dear": write "expensive"',
  ],
  'banned English in hints': [
    edit('hints.md', 'When is a value', 'A failure is no value. When is one'),
    'labs/PLACE/hints.md: "is no value": write "is not a …", or "there is no …"',
  ],
  'banned English in the message of a test': [
    edit('checks.ts', 'expect(loaded)', 'expect(loaded, `a value is kept for ever, \n`)'),
    'labs/PLACE/memo.test.ts: "for ever": write "forever"',
  ],
  'banned English in a docstring': [
    edit('given.ts', 'Resolves with', 'Whoever calls it gets'),
    'labs/PLACE/given.ts: "Whoever": name the caller, the reader or the process',
  ],
  'banned English in a mistake': [
    edit('mistakes/keeps-a-failure.diff', 'Why: ', 'Why: for want of a check, '),
    'solutions/PLACE/mistakes/keeps-a-failure.diff: "for want of": say it in everyday words',
  ],
};

test('a sound ladder, and one of Core alone, have no problem', () => {
  expect(told(() => {}, formProblems)).toEqual([]);
  expect(told(() => {}, lessonProblems)).toEqual([]);
  const coreOnly = all(
    edit('checks.ts', /^describe\('In production[\s\S]+?^}\);\n/m, ''),
    edit('lesson.md', /^In production:[\s\S]+?(?=<!-- \/ladder)/m, ''),
    edit('lesson.md', 'load that fails is not kept\n\n<', 'load that fails is not kept\n<'),
    edit('lesson.md', /^## In production[\s\S]+?(?=## Measured)/m, ''),
    edit('lesson.md', ', production: 10', ''),
  );
  expect(told(coreOnly, formProblems)).toEqual([]);
  expect(told(coreOnly, lessonProblems)).toEqual([]);
});

test.each(Object.entries(FORM))('%s is told, and nothing else', (_, [change, ...problems]) => {
  expect(told(change, formProblems)).toEqual(problems);
});

test.each(Object.entries(LESSON))('%s is told, and nothing else', (_, [change, ...problems]) => {
  expect(told(change, lessonProblems)).toEqual(
    problems.map((problem) => (typeof problem === 'string' ? problem : expect.stringMatching(problem))),
  );
});

test.each(Object.entries(LANGUAGE))('%s is told, and nothing else', (_, [change, ...problems]) => {
  expect(told(() => {}, language)).toEqual([]);
  expect(told(change, language)).toEqual(problems);
});

test('a drill has headings of its own, and is short', () => {
  expect(told(() => {}, asDrill)).toEqual([
    'the front matter needs minutes: { core: … }, in this order',
    'the headings must be: The interviewer, Clarifying questions, Rubric, Follow-ups',
    '1018 words: make them 150 to 400',
  ]);
});

test('an overview has headings of its own', () => {
  const asPage = (lab: Lab) => pageProblems(openPage(lab.files.lesson));
  expect(told(() => {}, asPage)).toEqual([]);
  expect(told(edit('lesson.md', '## In 60 seconds', '## In short'), asPage)).toEqual([
    'the headings must begin with In 60 seconds and end with In an interview, Read more',
  ]);
});

test('a design prompt has headings of its own, a diagram, and a length', () => {
  const asPrompt = (lab: Lab) => promptProblems(openPage(lab.files.lesson));
  expect(told(edit('lesson.md', '```mermaid', '```text'), asPrompt)).toEqual([
    'the headings must be: The prompt, Ask first, Requirements, Numbers, Design, Write path, Staleness, Failure modes, Cost, Rubric',
    'it has no diagram: draw the design in mermaid',
    expect.stringMatching(/^\d+ words: make them 500 to 800$/),
  ]);
});

const asDrill = (lab: Lab) => drillProblems(lab, openPage(lab.files.lesson));

/** What `check` says of the ladder after the change. */
function told(change: Change, check: (lab: Lab) => string[]): string[] {
  const root = mkdtempSync(join(tmpdir(), 'course-pages-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  writeLab(root, '99-proof/01-memo', change, 'ladder');
  return check(labIn(root)).map((problem) =>
    problem.replaceAll(`${shown(root)}/`, '').replaceAll('99-proof/01-memo', 'PLACE'),
  );
}

function lessonProblems(lab: Lab): string[] {
  return ladderLessonProblems(lab, openPage(lab.files.lesson));
}

function language(lab: Lab): string[] {
  return [...pageLanguage(lab.files.lesson), ...pageLanguage(lab.files.hints), ...codeLanguage(lab)];
}

function labIn(root: string): Lab {
  const place = '99-proof/01-memo';
  const [lab, solution] = [join(root, 'labs', place), join(root, 'solutions', place)];
  return {
    id: 'memo',
    number: '99.1',
    chapter: 'proof',
    place,
    title: 'Memo',
    files: {
      lesson: join(root, 'chapters', `${place}.md`),
      starter: join(lab, 'memo.ts'),
      test: join(lab, 'memo.test.ts'),
      given: join(lab, 'given.ts'),
      parts: join(lab, 'parts'),
      hints: join(lab, 'hints.md'),
      solution: join(solution, 'memo.ts'),
      core: join(solution, 'core.ts'),
      variants: join(solution, 'variants'),
      pristine: join(solution, 'starter.ts'),
      seal: join(solution, 'memo.test.ts.sha256'),
      mistakes: join(solution, 'mistakes'),
      measure: join(solution, 'measure.ts'),
    },
  };
}

function tests(count: number): string {
  return Array.from({ length: count }, (_, at) => `  test('it works ${at}', () => {});\n`).join('');
}
