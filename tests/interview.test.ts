import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import type { Entry } from '../course/content/bank';
import type { Task } from '../course/content/tasks';
import type { Deck } from '../course/run/deck';
import { type Mark, type Mock, newMock, nextStep } from '../course/run/mock';
import { improvements } from '../course/screen/mock';
import { scratchCourse } from './prover/scratch';
import { run } from './support/course';
import { Terminal } from './support/terminal';

/** A course of so many questions, by chapter and level. */
const LEVELS = ['junior', 'mid', 'senior', 'staff'] as const;
const ENTRIES = ['a', 'b', 'c', 'd', 'e', 'f'].flatMap((chapter) =>
  LEVELS.map(
    (level) =>
      ({ id: `${chapter}-${level}`, level, of: { chapter, id: `${chapter}-${level}` } }) as unknown as Entry,
  ),
);
const TASKS = ['design:one', 'design:two', 'drill-three', 'drill-four'].map(
  (id) => ({ id, kind: id.startsWith('design') ? 'design' : 'drill' }) as unknown as Task,
);
const STOCK = { entries: ENTRIES, tasks: TASKS, met: new Set<string>() };
const ANY = { level: undefined, drill: false };

/** Numbers that look random, the same in each run. */
function seeded(seed = 1): () => number {
  let state = (seed * 79_241_111) % 2147483647;
  return () => {
    state = (state * 16807) % 2147483647;
    return state / 2147483647;
  };
}

describe('a new mock', () => {
  const mocks = Array.from({ length: 60 }, (_, seed) => newMock(STOCK, undefined, ANY, seeded(seed + 1), 0));
  const chapterOf = (id: string) => id.split('-')[0];

  test('has five questions of different chapters, around the level', () => {
    for (const { questions } of mocks) {
      expect(new Set(questions.map(chapterOf)).size).toBe(5);
      expect(questions.every((id) => /mid|senior/.test(id))).toBe(true);
    }
    const staff = newMock(STOCK, undefined, { ...ANY, level: 'staff' }, seeded(), 0);
    expect(staff.questions.every((id) => id.endsWith('staff'))).toBe(true);
  });

  test('has neither the questions nor the task of the last one', () => {
    mocks.reduce((last, _, seed) => {
      const next = newMock(STOCK, last, ANY, seeded(seed + 1), 0);
      expect(next.questions.filter((id) => last.questions.includes(id))).toEqual([]);
      expect(next.task).not.toBe(last.task);
      return next;
    });
  });

  test('asks of lessons that the learner has met, if they are enough', () => {
    const asks = (met: readonly string[]) =>
      newMock({ ...STOCK, met: new Set(met) }, undefined, ANY, seeded(), 0).questions;
    const met = ENTRIES.map(({ of }) => of.id).filter((id) => !/^[ab]/.test(id));
    expect(asks(met.slice(0, 10)).filter((id) => !met.slice(0, 10).includes(id))).toEqual([]);
    expect(new Set(asks(met.slice(0, 9)).map(chapterOf)).size).toBe(5);
  });

  test('has a design, and a drill only where one is asked for', () => {
    expect(mocks.every(({ task }) => task.startsWith('design'))).toBe(true);
    expect(newMock(STOCK, undefined, { ...ANY, drill: true }, seeded(), 0).task).toMatch(/^drill/);
    const [design] = TASKS;
    if (design)
      expect(
        newMock({ ...STOCK, tasks: [design] }, undefined, { ...ANY, drill: true }, seeded(), 0).task,
      ).toBe(design.id);
    expect(newMock({ ...STOCK, entries: [], tasks: [] }, undefined, ANY, seeded(), 0)).toMatchObject({
      task: '',
      questions: [],
    });
  });
});

const MOCK: Mock = {
  at: 0,
  levels: ['mid'],
  task: 'design:one',
  questions: ['a-mid', 'b-mid'],
  marks: {},
  usedMs: 0,
  compared: 0,
  drill: null,
};
const marked = (marks: Readonly<Record<string, Mark>>, task = MOCK.task): Mock => ({ ...MOCK, task, marks });

test('what has a mark is over, and what the course has no more is passed over', () => {
  const all = () => true;
  expect(nextStep(MOCK, all)).toBe('clarify');
  expect(nextStep(marked({ clarify: 'good' }), all)).toEqual({ question: 'a-mid' });
  expect(nextStep(marked({ clarify: 'good' }), (id) => id !== 'a-mid')).toEqual({ question: 'b-mid' });
  const answered = marked({ clarify: 'good', 'a-mid': 'weak', 'b-mid': 'weak' });
  expect(nextStep(answered, all)).toBe('task');
  expect(nextStep(answered, (id) => id !== MOCK.task)).toBe('over');
  expect(nextStep({ ...MOCK, marks: { ...answered.marks, task: 'strong' } }, all)).toBe('over');
});

test('what has become better is told by chapter and part, against the last time that it was asked', () => {
  const pool = { entries: ENTRIES, tasks: TASKS };
  const past = [
    marked({ clarify: 'weak', 'a-mid': 'weak', task: 'weak' }),
    marked({ clarify: 'good', 'b-mid': 'strong', task: 'strong' }, 'drill-three'),
  ];
  const now = marked({ clarify: 'strong', 'a-senior': 'good', 'b-senior': 'good', task: 'strong' });
  expect(improvements(now, past, pool)).toEqual([
    'clarifying good → strong',
    'a weak → good',
    'design weak → strong',
  ]);
});

const course = scratchCourse({ once: () => {}, 'drill-once': () => {} });
afterAll(() => rmSync(course.root, { recursive: true, force: true }));

const interviews = join(course.root, 'chapters/06-interviews');
mkdirSync(join(interviews, 'questions'), { recursive: true });
mkdirSync(join(interviews, '12-design-prompts'), { recursive: true });
const place = course.place('once');
const question = (id: string) => `## What is ${id}?

<!-- id: ${id} -->

mid · [99.1 Memo](../../${place}.md) · proof: [a test](../../../labs/${place}/once.test.ts)

**Weak.** Weak ${id}.

**Good.** Good ${id}.

**Strong.** "Strong ${id}."

`;
const bank = ['one', 'two', 'three', 'four', 'five'].map(question).join('');
writeFileSync(join(interviews, 'questions/memory.md'), `# Memory\n\n${bank}`);
writeFileSync(
  join(interviews, '12-design-prompts/feed.md'),
  `# Design: a feed

## The prompt

"Build a feed."

## Ask first

- *How many readers?* Many. See [the lesson](../../${place}.md).

## Numbers

| | Value |
| --- | ---: |
| readers | <!-- measured:x -->many<!-- /measured --> |

## Design

\`\`\`mermaid
flowchart LR
\`\`\`

A walk.

## Rubric

**Weak.** Nothing.
`,
);
writeFileSync(
  join(course.root, 'chapters', `${course.place('drill-once')}.md`),
  '---\ntitle: "Drill: memo"\n---\n\n## The interviewer\n\n"Write a memo."\n\n## Clarifying questions\n\n- *Bounded?* No.\n\n## Rubric\n\n- **Weak**: none.\n',
);

const state = (name: string) => join(course.root, `.course/${name}.json`);
const stored = <T>(name: string): T => JSON.parse(readFileSync(state(name), 'utf8'));
const marks = () => stored<{ underWay: Mock }>('interview').underWay.marks;
const interview = (...args: string[]) => run(course.root, ['course/cli.cjs', 'interview', ...args]);
const open = (args = '') =>
  new Terminal(course.root, `stty cols 80 rows 24; exec node course/cli.cjs interview ${args}`);
const shows = (terminal: Terminal, text: string | RegExp) =>
  expect.poll(() => terminal.output, { timeout: 20_000, interval: 20 }).toMatch(text);
async function press(terminal: Terminal, keys: string, text: string | RegExp): Promise<void> {
  terminal.output = '';
  terminal.type(keys);
  await shows(terminal, text);
}
/** A question and its mark. */
async function answer(terminal: Terminal, mark: string, then: string | RegExp): Promise<void> {
  await press(terminal, '\r', /Strong \w+\.[\s\S]+1 weak/);
  await press(terminal, mark, then);
}
beforeEach(() => rmSync(join(course.root, '.course'), { recursive: true, force: true }));

test('without a terminal it is refused', { timeout: 30_000 }, async () => {
  const [plain, level] = await Promise.all([interview(), interview('--level=boss')]);
  expect(plain).toMatchObject({ code: 2, output: expect.stringContaining('needs a terminal') });
  expect(level).toMatchObject({ code: 2, output: expect.stringContaining('junior, mid, senior or staff') });
});

describe.runIf(process.platform === 'linux')('at a terminal', { timeout: 60_000 }, () => {
  /** As if it had begun with this task, and the learner had been at it for ten minutes. */
  const begun = (task: string): void => {
    const underWay = { ...MOCK, at: 1, task, usedMs: 600_000, questions: ['one', 'two'] };
    mkdirSync(join(course.root, '.course'), { recursive: true });
    writeFileSync(state('interview'), JSON.stringify({ version: 1, underWay, past: [] }));
  };

  test('a design, from the prompt to the summary; Ctrl-C and a killed process lose no mark', async () => {
    begun('design:feed');
    const first = open();
    await shows(first, /"Build a feed\."[\s\S]+Clarify · 0:00 · 10:0\d of 45:00/);
    await press(first, '\r', /How many readers\?[\s\S]+1 weak {2}2 good {2}3 strong/);
    await press(first, '1', /What is one\?[\s\S]+Question 1 of 2/);
    await press(first, '\r', 'Strong one.');
    first.type('\x03');
    expect(await first.ended).toBe(130);
    expect(first.output).toMatch(/stands at 10:\d\d of 45:00, and goes on: npm run interview/);

    const killed = open();
    await shows(killed, /What is one\?/);
    await answer(killed, '3', /What is two\?/);
    expect(stored<Deck>('cards').cards.one).toMatchObject({ reps: 1, days: 8 });
    killed.hangUp();
    await killed.ended;
    expect(marks()).toEqual({ clarify: 'weak', one: 'strong' });

    const last = open();
    await shows(last, /What is two\?/);
    await answer(last, '1', /Work it out aloud/);
    await press(last, '\r', /Design: a feed · Numbers[\s\S]+readers {2}many/);
    await press(last, '\r', /The diagram is on the page[\s\S]+A walk[\s\S]+Enter rubric/);
    await press(last, '\r', /Weak\. Nothing\./);
    await press(
      last,
      '2',
      /1 strong, 1 good, 2 weak[\s\S]+To work on[\s\S]+feed\.md[\s\S]+npm test -- once --core/,
    );
    expect(stored('interview')).toMatchObject({
      underWay: null,
      past: [{ marks: { task: 'good', two: 'weak' } }],
    });
    last.type('\r');
    expect(await last.ended).toBe(0);

    const next = open();
    await shows(next, /A mock interview of 45:00[\s\S]+Last time: 1 strong, 1 good, 2 weak, in 10:/);
    next.type('q');
    expect(await next.ended).toBe(0);
    expect(stored('interview')).toMatchObject({ underWay: null });
  });

  test('a drill is left for, and its result is taken', async () => {
    begun('drill-once');
    expect(await new Promise<number | null>((resolve) => open('--drill').ended.then(resolve))).toBe(2);
    const first = open();
    await shows(first, '"Write a memo."');
    await press(first, '\r', 'Bounded?');
    await press(first, '2', 'What is one?');
    await answer(first, '2', 'What is two?');
    await answer(
      first,
      '2',
      /the mock waits\. Then type:\s+npm run drill -- once[\s\S]+g grade it as it stands/,
    );
    expect(first.output).not.toContain('is not the starter');
    first.type('\r');
    expect(await first.ended).toBe(0);
    expect(first.output).toMatch(/Then go on: npm run interview/);

    const starter = join(course.root, 'labs', course.place('drill-once'), 'drill-once.ts');
    const handedOut = readFileSync(starter, 'utf8');
    writeFileSync(starter, '// mine\n');
    const attempted = open();
    await shows(attempted, /drill-once\.ts is not the starter\. [\s\S]+kept in\s+\.course\/attempts/);
    attempted.type('q');
    await attempted.ended;
    writeFileSync(starter, handedOut);

    const at = new Date().toISOString();
    const none = { failing: {}, hints: {}, named: null };
    writeFileSync(
      state('progress'),
      JSON.stringify({ ...none, version: 2, core: {}, passed: { 'drill-once': { at, tests: '' } } }),
    );
    writeFileSync(
      state('drills'),
      JSON.stringify({ version: 1, underWay: null, done: { 'drill-once': { at, ms: 1_200_000 } } }),
    );
    const back = open();
    await shows(back, /All its tests pass, 20:00 of 25:00[\s\S]+Weak: none/);
    await press(back, '3', /Mock interview {2}30:\d\d of 45:00 {2}1 strong, 3 good[\s\S]+Nothing was weak/);
    back.type('q');
    expect(await back.ended).toBe(0);
  });
});
