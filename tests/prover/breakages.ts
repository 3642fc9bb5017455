import { digest } from '../../course/content/seal';
import type { Change, Files } from './scratch';

/** What is done to the sound lab, and what must be said of it. */
export type Breakage = readonly [change: Change, ...problems: (string | RegExp)[]];
export type Breakages = Readonly<Record<string, Breakage>>;

const AGAIN = 'a second get does not load again';
const OWN = 'each key has its own value';
const MISTAKE = 'mistakes/keeps-the-last.diff';

export const text = (files: Files, name: string) => files.get(name) ?? '';
export const edit =
  (name: string, from: string | RegExp, to: string): Change =>
  (files) => {
    const edited = text(files, name).replace(from, () => to);
    if (edited === files.get(name)) throw new Error(`${name} does not hold ${from}`);
    files.set(name, edited);
  };
export const add =
  (name: string, more: string): Change =>
  (files) => {
    files.set(name, text(files, name) + more);
  };
export const leaveOut =
  (name: string): Change =>
  (files) => {
    files.delete(name);
  };
export const all =
  (...changes: readonly Change[]): Change =>
  (files) => {
    for (const change of changes) change(files);
  };
const inMistake = (code: string) => edit(MISTAKE, 'this.#values.clear();', code);
const inStarter = (code: string) => edit('starter.ts', "throw new Error('not implemented');", code);
const FAILURE = 'a load that fails is not kept';
const SHARE = 'callers at the same time share a load';
const ROOM = 'the oldest value makes room for a new one';
/** A fourth test of Core, with its hint and its line in the lesson. */
const newTest = (body: string) =>
  all(
    edit(
      'checks.ts',
      "\n});\n\ndescribe('In production'",
      `\n\n  test('it works', ${body});\n});\n\ndescribe('In production'`,
    ),
    add('hints.md', '\n## it works\n\n1. Think.\n'),
    edit('lesson.md', `3. ${FAILURE}`, `3. ${FAILURE}\n4. it works`),
  );

const NOT_BY = (reason: string) =>
  `solutions/PLACE/${MISTAKE}: must be rejected by an assertion of "${AGAIN}", not by: ${reason}: let the test expect what it should see, or choose another mistake`;
const NOT_AS_STARTER = (test: string, how: string) =>
  `solutions/PLACE/starter.ts: the test "${test}" must fail by "not implemented" and ${how}: let it throw where the learner has to write, and the test come there`;
const IDLE =
  'labs/PLACE/memo.test.ts: no mistake is rejected by the test "it works": add the one it is for, or a line Rejected-by';
const NOT_ALONE = [SHARE, ROOM].map(
  (test) =>
    `labs/PLACE/memo.test.ts: no mistake is rejected by "${test}" alone: add one, or make one test of both`,
);
const NO_MISTAKE = (test: string) => IDLE.replace('it works', test);
const NOT_RUN = 'labs/PLACE/memo.test.ts: the test "it works" was not run: let nothing skip it';

/** Each is a lab of its own, and proven with the others in one run. */
export const LAB: Breakages = {
  'a weak test': [newTest("async () => expect(await new Memo(async () => 'a').get('')).toBe('a')"), IDLE],
  'an empty test': [newTest('() => {}'), NOT_AS_STARTER('it works', 'passed'), IDLE],
  'a test without a body': [newTest('{}'), NOT_RUN, ...NOT_ALONE],
  'a test that skips itself': [newTest('({ skip }) => skip()'), NOT_RUN, ...NOT_ALONE],
  'a skipped test': [
    edit('checks.ts', 'test(', 'test.skip('),
    'labs/PLACE/memo.test.ts: test.skip hides tests: remove it',
  ],
  'a focused test': [
    edit('checks.ts', 'test(', 'test.concurrent.only('),
    'labs/PLACE/memo.test.ts: test.concurrent.only hides tests: remove it',
  ],
  'a test file without tests': [
    edit('checks.ts', /^describe\([\s\S]*/m, ''),
    'labs/PLACE/memo.test.ts: no test was run (No test suite found in file labs/PLACE/memo.test.ts): a run that executes nothing proves nothing',
    'labs/PLACE/memo.test.ts: Core has 0 tests: make them 3 to 10',
    ...[
      'the front matter needs minutes: { core: … }, in this order',
      'the headings must be: In 60 seconds, How it works, Measured, The lab, In an interview, Read more',
      'the ladder is not that of labs/PLACE/memo.test.ts: npm run sync',
    ].map((problem) => `chapters/PLACE.md: ${problem}`),
  ],
  'an edited test file': [
    (files) => files.set('seal', 'of another text'),
    'labs/PLACE/memo.test.ts differs from its seal memo.test.ts.sha256: git checkout labs/PLACE/memo.test.ts, or npm run sync if you are its author',
    'labs/PLACE/given.ts differs from its seal memo.test.ts.sha256: git checkout labs/PLACE/given.ts, or npm run sync if you are its author',
  ],
  'a given part without a seal': [
    all(add('given.ts', 'export const MORE = 100;\n'), (files) =>
      files.set(
        'seal',
        `${digest(text(files, 'checks.ts').replaceAll('memo', 'a-given-part-without-a-seal'))}  ../memo.test.ts\n`,
      ),
    ),
    'labs/PLACE/given.ts differs from its seal memo.test.ts.sha256: git checkout labs/PLACE/given.ts, or npm run sync if you are its author',
  ],

  'a mistake that survives': [
    inMistake('this.#values.delete(key);'),
    `solutions/PLACE/${MISTAKE}: survives: the test "${AGAIN}" does not reject it: sharpen the test`,
  ],
  'a mistake that crashes': [inMistake("throw new TypeError('boom');"), NOT_BY('TypeError: boom')],
  'a mistake that never settles': [
    inMistake("if (key === 'b') return new Promise(() => {});"),
    NOT_BY('Error: Test timed out in 1000ms.'),
  ],
  'a mistake that does not apply': [
    edit(MISTAKE, 'this.#load(key)', 'load(key)'),
    `solutions/PLACE/${MISTAKE}: does not apply to the solution: make the diff again`,
  ],
  'a mistake that does not load': [
    inMistake('this.#values.clear('),
    /^solutions\/PLACE\/mistakes\/keeps-the-last.diff: could not be run \(.+\): correct the diff$/,
  ],
  'a mistake that names no test': [
    edit(MISTAKE, `Rejected-by: ${AGAIN}`, 'Rejected-by: it works'),
    `solutions/PLACE/${MISTAKE}: no test is called "it works": correct the line Rejected-by`,
  ],
  'a mistake without a header': [
    edit(MISTAKE, /^Mistake: [\s\S]+?(?=^---)/m, ''),
    `solutions/PLACE/${MISTAKE}: the line "Mistake: …" is missing above the diff: add it`,
  ],
  'only three mistakes': [
    all(
      ...['keeps-the-last', 'loads-every-time', 'one-value-for-all'].map((name) =>
        leaveOut(`mistakes/${name}.diff`),
      ),
    ),
    'solutions/PLACE/mistakes: a lab keeps at least 4 mistakes: add 1',
    NO_MISTAKE(AGAIN),
    NO_MISTAKE(OWN),
  ],

  'a starter that passes a test': [
    inStarter("if (key !== 'b') return key.toUpperCase();\n    throw new Error('not implemented');"),
    NOT_AS_STARTER(OWN, 'passed'),
    ...[FAILURE, SHARE, ROOM].map(
      (test) =>
        new RegExp(`^solutions/PLACE/starter.ts: the test "${test}" must fail .* failed by: AssertionError`),
    ),
  ],
  'a starter that never settles': [
    inStarter("if (key === 'x') return new Promise(() => {});\n    throw new Error('not implemented');"),
    NOT_AS_STARTER(OWN, 'failed by: Error: Test timed out in 1000ms.'),
  ],
  'a starter that does not load': [
    edit('starter.ts', '/** ', "import './nowhere';\n\n/** "),
    "solutions/PLACE/starter.ts: its tests did not run (Cannot find module './nowhere' imported from solutions/PLACE/starter.ts): it must load",
  ],
  'a starter with an answer in it': [
    all((files) => files.set('pristine', text(files, 'starter.ts')), inStarter("return 'an answer';")),
    'labs/PLACE/memo.ts differs from solutions/PLACE/starter.ts: npm run reset -- memo, or npm run sync if you are its author',
  ],

  'a solution that fails': [
    edit('memo.ts', '#load = load;', "#load = async () => 'same';"),
    ...[
      `${AGAIN}" (AssertionError: expected [] to deeply equal [ 'a', 'b' ])`,
      `${OWN}" (AssertionError: expected [ 'same', 'same' ] to deeply equal [ 'X', 'Y' ])`,
    ].map((how) => `solutions/PLACE/memo.ts: fails its own test "${how}: fix the one or the other`),
    ...[FAILURE, SHARE, ROOM].map(
      (test) => new RegExp(`^solutions/PLACE/memo.ts: fails its own test "${test}"`),
    ),
    ...[SHARE, ROOM].map(
      (test) => new RegExp(`^labs/PLACE/memo.test.ts: no mistake is rejected by "${test}" alone`),
    ),
  ],
  'no solution': [leaveOut('memo.ts'), 'solutions/PLACE/memo.ts is missing: each lab has its solution'],
  'a test without hints': [
    edit('hints.md', '1. Under which name is a value kept?', ''),
    `labs/PLACE/hints.md: no hints for the test "${OWN}": write "1. …" under "## ${OWN}"`,
  ],
  'hints without a test': [
    add('hints.md', '\n## it works\n\n1. Think.\n'),
    'labs/PLACE/hints.md: "it works" is no test: rename the heading',
  ],
};

const OPEN = (file: string) =>
  `chapters/PLACE.md: the block file=solutions/PLACE/${file} shows the solution: fold it with <details>`;

/** All of them are in one lab. */
export const TEXT: Breakages = {
  'a broken link': [
    edit(
      'lesson.md',
      '## How it works\n',
      '## How it works\n\n[The tests](../../labs/99-proof/01-memo/tests.ts) count.\n',
    ),
    'chapters/PLACE.md: the link ../../labs/PLACE/tests.ts leads nowhere: correct it or add labs/PLACE/tests.ts',
  ],
  'a broken anchor': [
    edit('hints.md', '#many-callers', '#many'),
    'labs/PLACE/hints.md: the link ../../../chapters/PLACE.md#many names no heading of chapters/PLACE.md: correct the one or the other',
  ],
  'a snippet that differs': [
    edit('lesson.md', '  return value;', '  return known;'),
    'chapters/PLACE.md: the block from solutions/PLACE/core.ts#get differs from the file: npm run sync',
  ],
  'a snippet from nowhere': [
    add('lesson.md', '\n```ts file=solutions/99-proof/01-memo/memo.ts#set\n```\n'),
    'chapters/PLACE.md: solutions/PLACE/memo.ts#set does not exist: name a file, and a region that is in it',
    OPEN('memo.ts#set'),
  ],
  'an unmarked code block': [
    add('lesson.md', '\n```ts\ncache.clear();\n```\n'),
    'chapters/PLACE.md: the block "cache.clear();" has no source: mark it file=PATH#REGION, fragment or wrong',
  ],
  'a code block in a list': [
    add('lesson.md', '\n- Clear it:\n\n  ```ts\n  cache.purge();\n  ```\n'),
    'chapters/PLACE.md: the block "cache.purge();" has no source: mark it file=PATH#REGION, fragment or wrong',
  ],
  'a snippet in a list': [
    add('lesson.md', '\n- Read:\n\n  ```ts file=solutions/99-proof/01-memo/starter.ts\n  ```\n'),
    'chapters/PLACE.md: the block from solutions/PLACE/starter.ts is indented: begin its line with three backticks',
    OPEN('starter.ts'),
  ],
  'a title that only a parser of YAML reads': [
    edit('lesson.md', 'title: Memo', 'title: >\n  Memo'),
    'chapters/PLACE.md: the title is "Memo" to a parser of YAML and ">" to the course: write title: Memo on one line',
  ],
  'banned English': [
    edit('lesson.md', 'Each keeps its own.', 'Each keeps its own for ever.'),
    'chapters/PLACE.md: "for ever": write "forever"',
  ],
  'a figure that nothing measured': [
    edit('lesson.md', 'Nothing.', 'It is <!-- measured:ratio --><!-- /measured --> as fast.'),
    'chapters/PLACE.md: nothing was measured for <!-- measured:ratio -->: npm run measure -- memo --write',
  ],
};
