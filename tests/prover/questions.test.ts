import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { labs } from '../../course/content/catalog';
import { asInLesson, questionsIn, withQuestion } from '../../course/content/questions';
import { rungsOf } from '../../course/proof/ladder';
import { bankProblems, ownQuestionProblems } from '../../course/proof/questions';

const lab = labs().find(({ id }) => id === 'lru');
if (!lab) throw new Error('the course has no lab lru');
const NAME = `${lab.number} ${lab.title}`;
const TEST = rungsOf(lab)[0]?.title ?? '';

const folder = mkdtempSync(join(tmpdir(), 'course-questions-'));
const file = join(folder, 'memory.md');
afterAll(() => rmSync(folder, { recursive: true }));
const to = (path: string) => relative(folder, path);

const ENTRY = `## Why not LFU?

<!-- id: lru -->

mid · [${NAME}](${to(lab.files.lesson)}) · proof: [${TEST}](${to(lab.files.test)})

**Weak.** "LRU is the best." It names no workload.

**Good.** Says what each counts, and no case in which one loses.

**Strong.** "LFU keeps what was popular, LRU what was used last. ${'Popularity shifts. '.repeat(8)}"

**If they go on.**

- *And ties?* The least recently used goes ([1.4](${to(lab.files.lesson)})).
- *And a scan?* LRU forgets everything.

**Red flag**: "more counters are always better".
`;

function bankOf(...entries: string[]) {
  writeFileSync(file, `# Memory\n\n${entries.join('\n')}`);
  return questionsIn(file);
}

/** What is said of the entries; not how many questions a bank needs. */
function told(...entries: string[]): string[] {
  return bankProblems(bankOf(...entries))
    .filter((problem) => problem.includes('memory.md'))
    .map((problem) => problem.replace(/^\S+ /, ''));
}

test('a sound entry is read whole', () => {
  expect(told(ENTRY)).toEqual([]);
  expect(bankOf(ENTRY)).toMatchObject([
    {
      id: 'lru',
      asked: 'Why not LFU?',
      level: 'mid',
      line: 3,
      lesson: { label: NAME, path: lab.files.lesson },
      proof: { label: TEST, path: lab.files.test },
      followUps: [/And ties/, '*And a scan?* LRU forgets everything.'].map((point) =>
        typeof point === 'string' ? point : expect.stringMatching(point),
      ),
      redFlag: '"more counters are always better".',
    },
  ]);
});

const WRONG: Readonly<Record<string, [from: string | RegExp, to: string, told: string]>> = {
  'no id': ['<!-- id: lru -->', '', 'it has no id: write <!-- id: … --> below its heading'],
  'a level of its own': [
    'mid ·',
    'expert ·',
    'its level is "expert": write one of junior, mid, senior, staff',
  ],
  'a proof of another name': [
    `[${TEST}]`,
    '[it works]',
    '"it works" is no test of lru: label the proof with the exact name of one',
  ],
  'a proof elsewhere': [
    'lru.test.ts)',
    'lru.ts)',
    "it has no proof: link to the test of a lab, labelled with the test's name",
  ],
  'another name of the lesson': [
    `[${NAME}]`,
    '[LRU]',
    `it calls its lesson "LRU", which is "${NAME}": correct the label`,
  ],
  'no weak answer': [/\*\*Weak.+/, '', '"Weak" has 0 words: make them 1 to 40'],
  'a long strong answer': [
    '"LFU',
    `"${'Well, '.repeat(80)}LFU`,
    '"Strong" has 106 words: make them 20 to 80',
  ],
  'an answer that nobody says': [
    '"LFU',
    'LFU',
    '"Strong" is not in quotation marks: write it as one says it',
  ],
  'a follow-up that asks nothing': [
    '*And a scan?*',
    'And a scan?',
    '"And a scan? LRU forgets everyt…" must be *a question?* and its answer',
  ],
};

test.each(Object.entries(WRONG))('%s is told, and nothing else', (_, [from, to, problem]) => {
  expect(told(ENTRY.replace(from, () => to))).toEqual([problem]);
});

test('two entries with one id are told', () => {
  expect(told(ENTRY, ENTRY)).toEqual(['another question has the id lru: give it one of its own']);
});

test('a lesson shows its own question, with links of its own', () => {
  const [own] = bankOf(ENTRY);
  if (!own) throw new Error('the entry was not read');
  const lesson = 'Text\n<!-- question -->\nold\n<!-- /question -->\nmore\n';
  const shown = withQuestion(lesson, lab.files.lesson, own);
  expect(shown).toContain(asInLesson(own, lab.files.lesson));
  expect(shown).toContain('([1.4](04-lru.md))');
  expect(withQuestion('Text', lab.files.lesson, own)).toBeUndefined();
  expect(ownQuestionProblems(lab, [own]).join()).toMatch('is not what the bank says');
  expect(ownQuestionProblems(lab, [{ ...own, id: 'lfu' }]).join()).toMatch('no question has the id lru');
});
