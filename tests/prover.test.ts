import { rmSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Change, type ScratchCourse, scratchCourse, verify } from './prover/scratch';

/** What is done to a sound lab, and what must be said of it: nothing more, nothing less. */
type Breakage = readonly [change: Change, ...problems: (string | RegExp)[]];

const edit =
  (name: string, from: string, to: string): Change =>
  (files) => {
    const text = files.get(name) ?? '';
    if (!text.includes(from)) throw new Error(`${name} does not hold ${from}`);
    files.set(
      name,
      text.replace(from, () => to),
    );
  };
const add =
  (name: string, text: string): Change =>
  (files) =>
    files.set(name, (files.get(name) ?? '') + text);
const leaveOut =
  (name: string): Change =>
  (files) =>
    files.delete(name);
const both =
  (...changes: Change[]): Change =>
  (files) => {
    for (const change of changes) change(files);
  };

const LAST = 'mistakes/keeps-the-last.diff';
const inMistake = (code: string) => edit(LAST, 'this.#values.clear();', code);
const inStarter = (code: string) => edit('starter.ts', "throw new Error('not implemented');", code);
const newTest = (name: string, body: string) =>
  both(add('checks.ts', `\ntest('${name}', ${body});\n`), add('hints.md', `\n## ${name}\n\n1. Think.\n`));

const AGAIN = 'a second get does not load again';
const OWN = 'each key has its own value';

const BROKEN: Readonly<Record<string, Breakage>> = {
  'a test that rejects no mistake': [
    newTest(
      'a value is a string',
      "async () => expect(typeof (await new Memo(async () => '').get(''))).toBe('string')",
    ),
    'labs/PLACE/memo.test.ts: the test "a value is a string" rejects no mistake: sharpen it, or add the mistake it is for',
  ],
  'a mistake that survives': [
    inMistake('this.#values.delete(key);'),
    `solutions/PLACE/mistakes/keeps-the-last.diff: survives: the test "${AGAIN}" does not reject it: sharpen the test`,
  ],
  'a mistake that crashes': [
    inMistake("throw new TypeError('no such thing');"),
    `solutions/PLACE/${LAST}: must be rejected by an assertion of "${AGAIN}", not by: TypeError: no such thing: let the test expect what it should see, or choose another mistake`,
  ],
  'a mistake that never settles': [
    inMistake("if (key === 'b') await new Promise(() => {});"),
    `solutions/PLACE/${LAST}: must be rejected by an assertion of "${AGAIN}", not by: Error: Test timed out in 400ms.: let the test expect what it should see, or choose another mistake`,
  ],
  'a mistake that does not apply': [
    edit(LAST, 'await this.#load(key)', 'await load(key)'),
    'solutions/PLACE/mistakes/keeps-the-last.diff: does not apply to the solution: make the diff again',
  ],
  'a mistake of no test': [
    edit(LAST, `Rejected-by: ${AGAIN}`, 'Rejected-by: no test'),
    `solutions/PLACE/${LAST}: no test is called "no test": correct the line Rejected-by`,
  ],
  'a mistake without a reason': [
    edit(LAST, 'Why: ', ''),
    `solutions/PLACE/${LAST}: the line "Why: …" is missing above the diff: add it`,
  ],
  'only three mistakes': [
    leaveOut(LAST),
    'solutions/PLACE/mistakes: 3 mistakes: a lab keeps at least 4: add 1',
  ],
  'a starter that passes a test': [
    inStarter("return _key === 'b' ? Promise.reject(new Error('not implemented')) : _key.toUpperCase();"),
    `solutions/PLACE/starter.ts: the test "${OWN}" must fail by "not implemented" and passed: let it throw where the learner has to write, and the test come there`,
  ],
  'a starter that never settles': [
    inStarter("if (_key === 'a') return new Promise(() => {});\n    throw new Error('not implemented');"),
    `solutions/PLACE/starter.ts: the test "${AGAIN}" must fail by "not implemented" and failed by: Error: Test timed out in 400ms.: let it throw where the learner has to write, and the test come there`,
  ],
  'a starter that does not load': [
    edit('starter.ts', '/** R', "import './nowhere';\n\n/** R"),
    /solutions\/PLACE\/starter.ts: its tests did not run \(.*nowhere.*: it must load/,
  ],
  'a starter with an answer in it': [
    (files) =>
      files.set('pristine', files.get('starter.ts') ?? '') && inStarter("return 'an answer';")(files),
    'labs/PLACE/memo.ts differs from solutions/PLACE/starter.ts: npm run reset -- memo, or npm run sync if you are its author',
  ],
  'a test file that differs from its seal': [
    add('seal', 'of another text'),
    'labs/PLACE/memo.test.ts differs from its seal memo.test.ts.sha256: git checkout labs/PLACE/memo.test.ts, or npm run sync if you are its author',
  ],
  'a skipped test': [
    edit('checks.ts', `test('${OWN}'`, `test.skip('${OWN}'`),
    'labs/PLACE/memo.test.ts: test.skip hides tests: remove it',
  ],
  'a focused test': [
    edit('checks.ts', `test('${OWN}'`, `test.concurrent.only('${OWN}'`),
    'labs/PLACE/memo.test.ts: test.concurrent.only hides tests: remove it',
  ],
  'a test that skips itself': [
    newTest('a value is a string', '({ skip }) => skip()'),
    'labs/PLACE/memo.test.ts: the test "a value is a string" was not run: let nothing skip it',
  ],
  'a test without a body': [
    newTest('a value is a string', '{}'),
    'labs/PLACE/memo.test.ts: the test "a value is a string" was not run: let nothing skip it',
  ],
  'an empty test': [
    newTest('a value is a string', '() => {}'),
    'solutions/PLACE/starter.ts: the test "a value is a string" must fail by "not implemented" and passed: let it throw where the learner has to write, and the test come there',
    'labs/PLACE/memo.test.ts: the test "a value is a string" rejects no mistake: sharpen it, or add the mistake it is for',
  ],
  'a test file without tests': [
    (files) => files.set('checks.ts', "import './memo';\n"),
    /labs\/PLACE\/memo.test.ts: no test was run \(No test suite found.*\): a run that executes nothing proves nothing/,
  ],
  'a solution that fails': [
    edit('memo.ts', 'return value;', "return value + '!';"),
    `solutions/PLACE/memo.ts: fails its own test "${OWN}" (AssertionError: expected [ 'X!', 'Y!', 'X' ] to deeply equal [ 'X', 'Y', 'X' ]): mend the one or the other`,
  ],
  'no solution': [leaveOut('memo.ts'), 'solutions/PLACE/memo.ts is missing: each lab has its solution'],
  'no lesson': [leaveOut('lesson.md'), 'chapters/PLACE.md is missing: each lab has its lesson'],
  'a test without hints': [
    edit('hints.md', '1. Under which name is a value kept?', ''),
    `labs/PLACE/hints.md: no hints for the test "${OWN}": write "1. …" under "## ${OWN}"`,
  ],
  'hints without a test': [
    add('hints.md', '\n## a value is a string\n\n1. Think.\n'),
    'labs/PLACE/hints.md: "a value is a string" is no test: rename the heading',
  ],
  'a broken link': [
    edit('lesson.md', '/memo.test.ts)', '/tests.ts)'),
    'chapters/PLACE.md: the link ../../labs/PLACE/tests.ts leads nowhere: correct it or add labs/PLACE/tests.ts',
  ],
  'a broken anchor': [
    edit('hints.md', '#one-value-for-all', '#one-for-all'),
    'labs/PLACE/hints.md: the link ../../../chapters/PLACE.md#one-for-all names no heading of chapters/PLACE.md: correct the one or the other',
  ],
  'a snippet that differs': [
    edit('lesson.md', '  return value;', '  return known;'),
    'chapters/PLACE.md: the block from solutions/PLACE/memo.ts#get differs from the file: npm run sync',
  ],
  'a snippet from nowhere': [
    edit('lesson.md', 'memo.ts#get', 'memo.ts#set'),
    'chapters/PLACE.md: solutions/PLACE/memo.ts#set does not exist: name a file, and a region that is in it',
  ],
  'an unmarked code block': [
    add('lesson.md', '\n```ts\ncache.clear();\n```\n'),
    'chapters/PLACE.md: the block "cache.clear();" has no source: mark it file=PATH#REGION, fragment or wrong',
  ],
  'a code block in a list': [
    add('lesson.md', '\n- Clear it:\n\n  ```ts\n  cache.clear();\n  ```\n'),
    'chapters/PLACE.md: the block "```ts" is overlooked: begin its line with three backticks',
  ],
  'other headings': [
    edit('lesson.md', '## Read more', '## Sources'),
    'chapters/PLACE.md: the headings must be: How it works, In code, What breaks it, Measured, The lab, In an interview, Read more',
  ],
  'too few words': [
    edit('lesson.md', 'word '.repeat(100), ''),
    /chapters\/PLACE.md: 8\d\d words: make them 900 to 1800/,
  ],
  'no front matter': [
    (files) => files.set('lesson.md', files.get('lesson.md')?.replace(/^---[\s\S]*?---\n/, '') ?? ''),
    ...['title', 'minutes', 'guide'].map(
      (field) => `chapters/PLACE.md: the front matter lacks "${field}": add it`,
    ),
  ],
  'a figure that nothing measured': [
    edit('lesson.md', 'Nothing.', 'It is <!-- measured:ratio -->7×<!-- /measured --> as fast.'),
    'chapters/PLACE.md: nothing was measured for <!-- measured:ratio -->: npm run measure -- memo --write',
  ],
};

let course: ScratchCourse;
/** What was said of each broken lab, all of them proven in one run. */
let said: readonly string[];

beforeAll(async () => {
  const changes = Object.entries(BROKEN).map(([name, [change]]) => [name, change] as const);
  course = scratchCourse({ memo: () => {}, ...Object.fromEntries(changes) });
  const { output } = await verify(
    course.root,
    Object.keys(BROKEN).map((name) => course.place(name)),
  );
  said = output.split('\n').map((line) => line.trim());
}, 120_000);
afterAll(() => rmSync(course.root, { recursive: true }));

test('a sound lab is proven', { timeout: 60_000 }, async () => {
  const { code, output } = await verify(course.root, [course.place('memo')]);
  expect(code, output).toBe(0);
  expect(output).toContain('3 passed, 0 failed');
});

test.each(Object.entries(BROKEN))('%s is told, with its file and its remedy', (name, [, ...problems]) => {
  const place = course.place(name);
  // A broken lab bears the name of what is broken about it.
  const told = said
    .filter((line) => line.includes(place))
    .map((line) => line.replaceAll(place, 'PLACE').replaceAll(place.slice('99-proof/01-'.length), 'memo'));
  for (const problem of problems) {
    if (typeof problem === 'string') expect(told).toContain(problem);
    else expect(told.join('\n')).toMatch(problem);
  }
});
