import type { RootContent } from 'mdast';
import { shown } from '../base/root';
import type { Entry, Lesson } from '../content/bank';
import { HEADINGS, partsOf, type Task } from '../content/tasks';
import { DRILL_MS, shortName } from '../run/drills';
import { MARKS, type Mark, MOCK_MS, type Mock } from '../run/mock';
import type { DrillState } from '../run/open-mock';
import { questionText } from './card';
import { asText } from './markdown';
import { bold, cut, cyan, dim, minutes, wrap } from './terminal';

/** How many minutes a question and the task take; with 5 for clarifying, and 5 at the end, 45. */
const MINUTES = {
  design: { question: 3, task: 20 },
  drill: { question: 2, task: DRILL_MS / 60_000 },
} as const;

/** What the learner may be asked about in this mock. */
export interface Pool {
  readonly entries: readonly Entry[];
  readonly tasks: readonly Task[];
}

export function introText(mock: Mock, task: Task | undefined, last: Mock | undefined): string {
  const { question: each, task: forTask } = MINUTES[task?.kind ?? 'design'];
  const asked = mock.questions.length;
  return [
    bold(`A mock interview of ${minutes(MOCK_MS)}`),
    [
      ...(task ? [part(1, 'Clarify: a vague task, and what you ask about it', 5)] : []),
      part(2, `${asked} questions (${mock.levels.join(', ')}), answered aloud`, asked * each),
      ...(task
        ? [part(3, task.kind === 'drill' ? 'A drill: code, with tests' : 'The design, aloud', forTask)]
        : []),
      part(4, 'What was weak, and what to do about it', 5),
    ].join('\n'),
    wrap('Speak aloud, as you would there. You grade yourself. Time is not a test: the clock goes on.'),
    ...(last ? [`Last time: ${marksLine(last)}, in ${minutes(last.usedMs)}`] : []),
  ].join('\n\n');
}

const part = (number: number, what: string, minutes: number): string =>
  `${number}  ${what.padEnd(50)}${String(minutes).padStart(2)} minutes`;

export const mockQuestionText = (entry: Entry, task: Task | undefined): string =>
  `${questionText(entry)}\n\nAnswer aloud, in about ${MINUTES[task?.kind ?? 'design'].question} minutes.`;

export const designText = (task: Task, parts: readonly string[]): string =>
  askedText(
    task,
    `Work it out aloud and on paper, in about ${MINUTES.design.task} minutes: ${parts.join(', ').toLowerCase()}.`,
  );

export function askedText(task: Task, then: string): string {
  const parts = partsOf(task);
  return [bold(task.title), asText(parts.get(HEADINGS[task.kind].asked) ?? []), wrap(then)].join('\n\n');
}

/** One section of the task's page. */
export function partText(task: Task, title: string): string {
  const content: readonly RootContent[] = partsOf(task).get(title) ?? [];
  return [bold(`${task.title} · ${title}`), asText(content), dim(shown(task.file))].join('\n\n');
}

/** Before the learner goes to the drill, and if it is not finished at the return. */
export function drillText(task: Task, { left, ms, command, replaces }: DrillState): string {
  const soFar = ms === undefined ? '' : `: ${minutes(ms)} of ${minutes(DRILL_MS)}`;
  const file = replaces && shown(replaces);
  const kept = `${file} is not the starter. The drill begins with the starter, and your file is kept in .course/attempts.`;
  return [
    askedText(task, left ? `Not finished${soFar}.` : `Now the code, in ${minutes(DRILL_MS)}.`),
    `Enter closes this screen, and the mock waits. Then type:\n  ${cyan(command)}`,
    ...(file ? [wrap(kept)] : []),
    `And for its result, and the end of the mock:\n  ${cyan('npm run interview')}`,
  ].join('\n\n');
}

export function resultText(task: Task, { done, ms }: DrillState): string {
  const time = ms === undefined ? '' : `, ${minutes(ms)} of ${minutes(DRILL_MS)}`;
  const result = done ? `All its tests pass${time}.` : `Its tests do not all pass yet${time}.`;
  return `${result}\n\n${partText(task, HEADINGS.drill.rubric)}`;
}

/** `12:10 of 45:00` */
export function mockClock(ms: number): string {
  const over = ms - MOCK_MS;
  return over > 0 ? `${minutes(ms)}, ${minutes(over)} over` : `${minutes(ms)} of ${minutes(MOCK_MS)}`;
}

/** At the end: the time, the marks, what to work on, what has become better. */
export function summary(
  mock: Mock,
  pool: Pool,
  lessonsOf: (task: Task) => readonly Lesson[],
  past: readonly Mock[],
): string {
  const task = pool.tasks.find(({ id }) => id === mock.task);
  const rows = rowsOf(mock, pool, task);
  const weak = rows.filter(({ mark }) => mark === 'weak');
  return [
    `${bold('Mock interview')}  ${mockClock(mock.usedMs)}  ${marksLine(mock)}`,
    rows.map(({ title, mark }) => `  ${cut(title, 60).padEnd(62)}${mark}`).join('\n'),
    ...(weak.length === 0
      ? ['Nothing was weak.']
      : [
          [
            bold('To work on'),
            ...weak.flatMap(({ title, work }) => [`  ${cut(title, 76)}`, ...work(lessonsOf)]),
          ].join('\n'),
        ]),
    ...betterText(mock, past, pool),
    `The questions come back in ${cyan('npm run cards')}. Another mock: ${cyan('npm run interview')}`,
  ].join('\n\n');
}

interface Row {
  readonly title: string;
  readonly mark: Mark;
  /** What to read, and the command to type. */
  work(lessonsOf: (task: Task) => readonly Lesson[]): string[];
}

function rowsOf({ marks, questions }: Mock, { entries }: Pool, task: Task | undefined): Row[] {
  const row = (key: string, title: string, work: Row['work']): Row[] =>
    marks[key] ? [{ title, mark: marks[key], work }] : [];
  const asked = questions.flatMap((id) => entries.find((entry) => entry.id === id) ?? []);
  return [
    ...(task ? row('clarify', 'Clarify', () => [read(task.file)]) : []),
    ...asked.flatMap(({ id, of, asked: title }) => row(id, `${of.number} ${title}`, () => lessonWork(of))),
    ...(task ? row('task', task.title, (lessonsOf) => taskWork(task, lessonsOf)) : []),
  ];
}

function taskWork(task: Task, lessonsOf: (task: Task) => readonly Lesson[]): string[] {
  const labs = lessonsOf(task).filter(({ lab }) => lab);
  if (!task.lab) return [read(task.file), ...labs.slice(0, 2).flatMap(lessonWork)];
  const again = build(`npm run drill -- ${shortName(task.lab)} --again`);
  return [read(task.file), ...labs.slice(0, 1).map(({ file }) => read(file)), again];
}

const lessonWork = ({ file, id, lab }: Lesson): string[] => [
  read(file),
  ...(lab ? [build(`npm test -- ${id} --core`)] : []),
];

const read = (file: string): string => `    ${dim(shown(file))}`;
const build = (command: string): string => `    ${cyan(command)}`;

/** `2 strong, 3 good, 1 weak` */
const marksLine = ({ marks }: Mock): string =>
  [...MARKS]
    .reverse()
    .map((mark) => [Object.values(marks).filter((each) => each === mark).length, mark] as const)
    .filter(([n]) => n > 0)
    .map(([n, mark]) => `${n} ${mark}`)
    .join(', ') || 'no marks';

function betterText(mock: Mock, past: readonly Mock[], pool: Pool): string[] {
  const last = past.at(-1);
  if (!last) return [];
  const better = improvements(mock, past, pool);
  return [
    [
      `${bold('Last time')}  ${marksLine(last)}, in ${minutes(last.usedMs)}`,
      better.length > 0 ? wrap(`Better: ${better.join('; ')}`) : 'Nothing has become better yet.',
    ].join('\n'),
  ];
}

/** What has a better mark than when it was last part of a mock: clarifying, designs, drills, and questions by chapter. */
export function improvements(mock: Mock, past: readonly Mock[], pool: Pool): string[] {
  const now = averages(mock, pool);
  return [...now].flatMap(([what, mark]) => {
    const before = past
      .map((each) => averages(each, pool).get(what))
      .filter((each) => each !== undefined)
      .at(-1);
    const word = (average: number) => MARKS[Math.round(average)] ?? '';
    if (before === undefined || mark <= before) return [];
    return [word(before) === word(mark) ? `${what} a little` : `${what} ${word(before)} → ${word(mark)}`];
  });
}

function averages({ marks, task }: Mock, { entries, tasks }: Pool): Map<string, number> {
  const kind = tasks.find(({ id }) => id === task)?.kind;
  const all = new Map<string, number[]>();
  for (const [key, mark] of Object.entries(marks)) {
    const chapter = entries.find(({ id }) => id === key)?.of.chapter;
    const what = key === 'task' ? kind : key === 'clarify' ? 'clarifying' : chapter;
    if (what) all.set(what, [...(all.get(what) ?? []), MARKS.indexOf(mark)]);
  }
  return new Map(
    [...all].map(([what, some]) => [what, some.reduce((sum, each) => sum + each) / some.length]),
  );
}
