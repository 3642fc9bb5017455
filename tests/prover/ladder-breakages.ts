import { all, type Breakages, edit, leaveOut, text } from './breakages';

const SHARE = 'callers at the same time share a load';
const ROOM = 'the oldest value makes room for a new one';
const SHARED_MISTAKE = 'mistakes/keeps-the-value-only.diff';
const AWAITED = 'const value = await this.#load(key);';

/** Takes the line that makes room out as well. */
const rejectedByTwo = all(
  edit(SHARED_MISTAKE, '     if (this.#values.size', '-    if (this.#values.size'),
  edit(SHARED_MISTAKE, ',10 @@', ',9 @@'),
);

/** What is done to the sound ladder, where only a run can tell. */
export const LADDER: Breakages = {
  'no core': [
    all(leaveOut('core.ts'), edit('lesson.md', /<details>[\s\S]+<\/details>/, '')),
    'solutions/PLACE/core.ts is missing: a lab with tests of In production keeps what passes Core alone',
  ],
  'a core that fails Core': [
    edit('core.ts', 'return value;', 'return key;'),
    "solutions/PLACE/core.ts: fails \"each key has its own value\" of Core (AssertionError: expected [ 'x', 'y' ] to deeply equal [ 'X', 'Y' ]): it must pass Core",
    'chapters/PLACE.md: the block from solutions/PLACE/core.ts#get differs from the file: npm run sync',
  ],
  'a core that passes a test of production': [
    edit('core.ts', AWAITED, `if (this.#values.size === 3) this.#values.clear();\n    ${AWAITED}`),
    `solutions/PLACE/core.ts: passes "${ROOM}" of In production: make it a test of Core, or sharpen it`,
    'chapters/PLACE.md: the block from solutions/PLACE/core.ts#get differs from the file: npm run sync',
  ],
  'a core that crashes in production': [
    edit('core.ts', AWAITED, `if (this.#values.size === 3) throw new TypeError('boom');\n    ${AWAITED}`),
    `solutions/PLACE/core.ts: must be rejected by an assertion of "${ROOM}", not by: TypeError: boom: let the test expect what it should see`,
    'chapters/PLACE.md: the block from solutions/PLACE/core.ts#get differs from the file: npm run sync',
  ],
  'a core without an export': [
    edit('core.ts', 'import ', "import './nowhere';\nimport "),
    /^solutions\/PLACE\/core.ts: its tests did not run \(.+\): it must export what the tests import$/,
  ],

  'a starter with defects that one test does not see': [
    all(
      edit('lesson.md', 'guide: []', 'guide: []\nstarter: defects'),
      edit('starter.ts', "throw new Error('not implemented');", 'return key.toUpperCase();'),
    ),
    /^solutions\/PLACE\/starter.ts: the test ".+" must fail by an assertion and passed: each test is for one defect/,
  ],

  'only one variant': [
    leaveOut('variants/a-list.ts'),
    'solutions/PLACE/variants: a lab keeps at least 2 correct solutions in other styles: add 1',
  ],
  'a variant that is refused': [
    edit('variants/a-list.ts', 'slice(-LIMIT)', 'slice(-99)'),
    new RegExp(`^solutions/PLACE/variants/a-list.ts: is refused by "${ROOM}" \\(AssertionError: .+\\): fix`),
  ],
  'a variant that does not load': [
    edit('variants/a-list.ts', '../given', '../nowhere'),
    /^solutions\/PLACE\/variants\/a-list.ts: its tests did not run \(.+\): correct it$/,
  ],

  'a test of production without a mistake of its own': [
    edit(
      SHARED_MISTAKE,
      `Rejected-by: ${SHARE}`,
      `Rejected-by: ${SHARE}\nRejected-by: each key has its own value`,
    ),
    `solutions/PLACE/${SHARED_MISTAKE}: survives: the test "each key has its own value" does not reject it: sharpen the test`,
    `labs/PLACE/memo.test.ts: no mistake is rejected by "${SHARE}" alone: add one, or make one test of both`,
  ],
  'a mistake that two tests reject': [
    rejectedByTwo,
    `labs/PLACE/memo.test.ts: no mistake is rejected by "${SHARE}" alone (keeps-the-value-only is rejected by "${ROOM}" too): add one, or make one test of both`,
  ],
  // It is found, though another one is tried first.
  'a second mistake that one test rejects': [
    (files) => {
      const sole = text(files, SHARED_MISTAKE);
      rejectedByTwo(files);
      files.set('mistakes/a-first.diff', text(files, SHARED_MISTAKE));
      files.set(SHARED_MISTAKE, sole);
    },
  ],
};
