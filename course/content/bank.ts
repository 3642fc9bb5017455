import { nearest } from '../base/nearest';
import { Refusal } from '../base/refusal';
import { chapters, type Lab, labs, overviews } from './catalog';
import { LEVELS, type Level, type Question, questions } from './questions';

/** What a question or a lab belongs to. */
export interface Lesson {
  readonly id: string;
  /** `3.4` */
  readonly number: string;
  readonly title: string;
  /** `invalidation` */
  readonly chapter: string;
  /** The absolute path of its page. */
  readonly file: string;
  /** Undefined for a page without a lab. */
  readonly lab: Lab | undefined;
}

/** A question of the bank that is complete, with its lesson. */
export interface Entry extends Question {
  readonly level: Level;
  readonly of: Lesson;
  /** The name of its file: `stampedes`. */
  readonly topic: string;
}

export function lessons(): Lesson[] {
  const withLab = labs().map((lab) => ({ ...lab, file: lab.files.lesson, lab }));
  const chapterOf = (number: string) =>
    chapters().find((chapter) => number.startsWith(`${chapter.number}.`))?.id ?? '';
  const without = overviews().map((page) => ({
    ...page,
    chapter: chapterOf(page.number),
    file: page.files.lesson,
    lab: undefined,
  }));
  return [...withLab, ...without].sort((a, b) => (a.file < b.file ? -1 : 1));
}

/** The bank: the own questions of all lessons in their order, then the further ones. What is incomplete is left out. */
export function bank(pages: readonly Lesson[] = lessons()): Entry[] {
  const entries = questions().flatMap((question) => {
    const of = pages.find(({ file }) => file === question.lesson.path);
    const level = LEVELS.find((each) => each === question.level);
    const { id, asked, weak, good, strong } = question;
    const complete = [id, asked, weak, good, strong].every((field) => field !== '');
    const topic = question.file.replace(/^.*\//, '').replace(/\.md$/, '');
    return of && level && complete ? [{ ...question, level, of, topic }] : [];
  });
  const place = ({ of, id }: Entry) => pages.indexOf(of) + (id === of.id ? 0 : pages.length);
  return entries.sort((a, b) => place(a) - place(b));
}

/** What may be named: a lesson, its number, its chapter by name or number, or a file of questions. */
const namesOf = (of: Lesson, topic: string): string[] => [
  of.id,
  of.number,
  of.chapter,
  of.number.split('.')[0] ?? '',
  topic,
];

/** What the names choose; everything where nothing is named. @throws {Refusal} with the nearest names */
export function chosen<T extends { readonly of: Lesson; readonly topic: string }>(
  names: readonly string[],
  all: readonly T[],
): T[] {
  if (names.length === 0) return [...all];
  const wanted = names.map((name) => name.toLowerCase().replace(/\/$/, ''));
  const known = new Set(all.flatMap(({ of, topic }) => namesOf(of, topic)).filter(Boolean));
  const unknown = wanted.find((name) => !known.has(name));
  if (unknown !== undefined) {
    const near = nearest(unknown, [...known]);
    const meant = near.length > 0 ? ` Did you mean ${near.join(' or ')}?` : '';
    throw new Refusal(
      `No card is called "${unknown}".${meant}\nName a chapter (invalidation), a lesson (3.4, lru) or a topic (stampedes).`,
    );
  }
  return all.filter(({ of, topic }) => namesOf(of, topic).some((name) => wanted.includes(name)));
}
