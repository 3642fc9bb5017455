import { shown } from '../base/root';
import type { Entry, Lesson } from '../content/bank';
import type { Card, Pile } from '../run/deck';
import { GRADES, type Grade, type Memory, reviewed } from '../run/memory';
import { asText } from './markdown';
import { bold, cyan, dim, wrap } from './terminal';

/** Wrapped before it is bold: the marks of bold are no columns. */
const strong = (text: string): string => wrap(text).split('\n').map(bold).join('\n');

export const lessonTitle = ({ number, title }: Lesson): string => `${number} ${title}`;

export const questionText = (entry: Entry): string =>
  [`${lessonTitle(entry.of)} · ${entry.level}`, strong(entry.asked)].join('\n\n');

/** The strong answer first, as one says it; then what to compare one's own with. */
export function answerText(entry: Entry): string {
  const { weak, good, followUps, redFlag, proof, of } = entry;
  return [
    strong(entry.asked),
    part('Strong', entry.strong),
    part('Weak', weak),
    part('Good', good),
    ...(followUps.length > 0
      ? [part('If they go on', followUps.map((point) => `- ${point}`).join('\n'))]
      : []),
    ...(redFlag ? [part('Red flag', redFlag)] : []),
    part('Lesson', `${lessonTitle(of)}\n\n${shown(of.file)}`, ''),
    ...(proof.path ? [part('Proof', `"${proof.label}"\n\n${shown(proof.path)}`, '')] : []),
  ].join('\n\n');
}

const part = (lead: string, markdown: string, gap = '\n'): string => {
  const text = asText(markdown, '  ');
  return `${bold(lead)}\n${gap === '' ? text.replaceAll('\n\n', '\n') : text}`;
};

export interface LabCase {
  readonly memory: Memory | undefined;
  /** Since when it is built again (ms). */
  readonly begun: number | undefined;
  readonly command: string;
  readonly now: number;
}

export function labText({ of }: Card, { memory, begun, command, now }: LabCase): string {
  const passed = memory ? `You passed it ${ago(memory.last, now)}.` : '';
  const words =
    begun === undefined
      ? `${passed} Can you still build it? At the start your file is kept aside, and the starter is put back.`
      : `You began it ${ago(begun, now)}. When its Core passes, the next npm run cards counts it.`;
  return [
    `${lessonTitle(of)} · lab`,
    strong('Core again, from an empty starter'),
    wrap(words.trim()),
    ...(begun === undefined ? [] : [`Go on: ${cyan(command)}`]),
  ].join('\n\n');
}

/** What each grade does to the card. */
export function gradeKeys(memory: Memory | undefined, now: number): Record<'1' | '2' | '3' | '4', string> {
  const does = (grade: Grade) =>
    grade === 'again' ? 'again, soon' : `${grade}, ${interval(reviewed(memory, grade, now).days)}`;
  const [again, hard, good, easy] = GRADES;
  return { 1: does(again), 2: does(hard), 3: does(good), 4: does(easy) };
}

export function interval(days: number): string {
  if (days < 60) return count(days, 'day');
  return days < 365 ? count(Math.round(days / 30), 'month') : '1 year';
}

const ago = (at: number, now: number): string => {
  const days = Math.floor(Math.max(0, now - at) / 86_400_000);
  return days === 0 ? 'today' : `${interval(days)} ago`;
};

export const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

/** Without a terminal: how many cards there are, by chapter. */
export function tally({ due, fresh, labs, known }: Pile): string {
  const all = [...due, ...fresh, ...labs, ...known];
  const chapters = new Map(all.map(({ of }) => [of.number.split('.')[0] ?? '', of.chapter]));
  const row = (name: string, cells: readonly (number | string)[]) =>
    `${name.padEnd(18)}${cells.map((cell) => String(cell).padStart(6)).join('')}`;
  const within = (cards: readonly Card[], chapter: string) =>
    cards.filter(({ of }) => of.chapter === chapter).length;
  const rows = [...chapters].sort().map(([number, chapter]) => {
    const counts = [[...due, ...labs], fresh, known].map((cards) => within(cards, chapter));
    return row(`${number} ${chapter}`, counts);
  });
  const sums = [due.length + labs.length, fresh.length, known.length];
  return [dim(row('Chapter', ['due', 'new', 'known'])), ...rows, row('all', sums)].join('\n');
}

/** What was done. */
export interface Done {
  /** The first grade of each card, by its id. */
  readonly grades: ReadonlyMap<string, Grade>;
  /** The lessons of the cards that were graded again. */
  readonly again: readonly Lesson[];
  readonly recalled: readonly Card[];
  readonly begun: readonly string[];
  readonly dueTomorrow: number;
  /** What is still due today. */
  readonly left: number;
  /** What was never asked. */
  readonly fresh: number;
}

export function doneText({ grades, again, recalled, begun, dueTomorrow, left, fresh }: Done): string {
  const counts = GRADES.map(
    (grade) => [grade, [...grades.values()].filter((each) => each === grade).length] as const,
  )
    .filter(([, n]) => n > 0)
    .map(([grade, n]) => `${n} ${grade}`);
  return [
    ...(grades.size > 0
      ? [`${bold(count(grades.size, 'card'))}: ${counts.join(', ')}`]
      : begun.length + recalled.length === 0
        ? ['No card was graded.']
        : []),
    ...recalledText(recalled),
    ...(begun.length > 0 ? [`Go on:        ${begun.map((command) => cyan(command)).join(', ')}`] : []),
    ...(again.length > 0
      ? ['Read again:', ...again.map((of) => `  ${lessonTitle(of)}\n    ${dim(shown(of.file))}`)]
      : []),
    ...(left > 0 ? [`Still due:    ${count(left, 'card')}`] : []),
    ...(fresh > 0 ? [`Never asked:  ${count(fresh, 'question')}`] : []),
    `Due tomorrow: ${count(dueTomorrow, 'card')}`,
  ].join('\n');
}

/** What there would be, had the learner asked for it. */
interface Nothing {
  readonly fresh: readonly Card[];
  /** The new questions of today, where they are as many as its limit; `each`: how many come of what is named. */
  readonly full: { readonly asked: number; readonly limit: number; readonly each: number } | undefined;
  /** The command that asks new ones. */
  readonly more: string;
  readonly dueTomorrow: number;
}

export function nothingText({ fresh: [next, ...others], full, more, dueTomorrow }: Nothing): string {
  const ask = full
    ? [
        `New today:    ${count(full.asked, 'question')}, and the limit is ${full.limit} a day`,
        `Ask ${full.each} more:  ${cyan(more)}`,
        `Of a chapter: ${cyan(`npm run cards -- ${next?.of.chapter}`)} (up to ${full.each} each time)`,
      ]
    : [`Ask some now: ${cyan(more)}`];
  return [
    next ? 'Nothing is due.' : 'Nothing is due, and no question is new.',
    ...(next ? [`Never asked:  ${count(others.length + 1, 'question')}`, ...ask] : []),
    `Due tomorrow: ${count(dueTomorrow, 'card')}`,
  ].join('\n');
}

export const recalledText = (recalled: readonly Card[]): string[] =>
  recalled.map(({ of }) => `Built again:  ${lessonTitle(of)}`);
