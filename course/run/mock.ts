import type { Entry } from '../content/bank';
import { LEVELS, type Level } from '../content/questions';
import type { Task } from '../content/tasks';
import { readDeck } from './deck';
import { readProgress } from './progress';
import { isRecord, StateFile } from './state-file';

export const MOCK_MS = 45 * 60_000;
export const MARKS = ['weak', 'good', 'strong'] as const;
export type Mark = (typeof MARKS)[number];

/** One mock interview. What has a mark is over. */
export interface Mock {
  /** When it began (ms since the epoch): its name too. */
  readonly at: number;
  /** The levels that it aims at. */
  readonly levels: readonly Level[];
  /** The id of a task; empty where the course has none. */
  readonly task: string;
  /** Ids of questions. */
  readonly questions: readonly string[];
  /** By `clarify`, the id of a question, or `task`. */
  readonly marks: Readonly<Record<string, Mark>>;
  /** How long it has been before the learner (ms). */
  readonly usedMs: number;
  /** How many parts of a design have been compared. */
  readonly compared: number;
  /** When the learner left for the drill (ms), and the last pass of it before that. */
  readonly drill: { readonly at: number; readonly pass: string } | null;
}

interface Mocks {
  readonly version: 1;
  readonly underWay: Mock | null;
  /** The last ones that were finished, the newest last. */
  readonly past: readonly Mock[];
}

const KEPT = 20;
const QUESTIONS = 5;
/** So many lessons give mocks that differ. */
const ENOUGH = 2 * QUESTIONS;

const FILE = new StateFile<Mocks>({
  name: 'interview',
  none: { version: 1, underWay: null, past: [] },
  current: (stored) =>
    stored.version === 1 &&
    Array.isArray(stored.past) &&
    stored.past.every(isMock) &&
    (stored.underWay === null || isMock(stored.underWay))
      ? (stored as unknown as Mocks)
      : undefined,
  afterDamage: 'earlier mocks are lost to the course.',
  afterLoss: '',
});

const isMock = (stored: unknown): boolean =>
  isRecord(stored) &&
  [stored.at, stored.usedMs, stored.compared].every(Number.isFinite) &&
  Array.isArray(stored.questions) &&
  Array.isArray(stored.levels) &&
  isRecord(stored.marks);

export const mockUnderWay = (): Mock | null => FILE.read().underWay;
export const pastMocks = (): readonly Mock[] => FILE.read().past;

export function beginMock(mock: Mock): void {
  FILE.write({ ...FILE.read(), underWay: mock });
}

/**
 * Another session may have written meanwhile: the change begins with what the file holds now.
 * @returns the mock after it; undefined where the mock was ended by another session
 */
export function changeMock({ at }: Mock, next: (mock: Mock) => Partial<Mock>): Mock | undefined {
  const mocks = FILE.read();
  if (mocks.underWay?.at !== at) return undefined;
  const underWay = { ...mocks.underWay, ...next(mocks.underWay) };
  FILE.write({ ...mocks, underWay });
  return underWay;
}

export function finishMock(mock: Mock): void {
  const { underWay, past, ...rest } = FILE.read();
  if (underWay?.at === mock.at) FILE.write({ ...rest, underWay: null, past: [...past, mock].slice(-KEPT) });
}

export interface Wish {
  readonly level: Level | undefined;
  readonly drill: boolean;
}

/** What a mock is made of. */
export interface Stock {
  readonly entries: readonly Entry[];
  readonly tasks: readonly Task[];
  /** The ids of the lessons that the learner has met. */
  readonly met: ReadonlySet<string>;
}

/** Lessons whose lab was passed, Core at least, or of which a card was asked. A question of a mock is not yet a meeting. */
export function metLessons(entries: readonly Entry[]): Set<string> {
  const { cards } = readDeck();
  const { core, passed } = readProgress();
  const ofMocks = new Set(pastMocks().flatMap(({ questions }) => questions));
  const asked = entries.filter(({ id }) => id in cards && !ofMocks.has(id)).map(({ of }) => of.id);
  return new Set([...Object.keys(core), ...Object.keys(passed), ...asked]);
}

/** @param random from 0 up to, and without, 1 */
export function newMock(
  { entries, tasks, met }: Stock,
  last: Mock | undefined,
  wish: Wish,
  random: () => number,
  now: number,
): Mock {
  const levels: readonly Level[] = wish.level === undefined ? ['mid', 'senior'] : [wish.level];
  const kind = wish.drill ? 'drill' : 'design';
  const ofKind = tasks.filter((task) => task.kind === kind);
  const choices = ofKind.length > 0 ? ofKind : tasks;
  const others = choices.filter(({ id }) => id !== last?.task);
  const task = shuffled(others.length > 0 ? others : choices, random)[0];
  return {
    at: now,
    levels,
    task: task?.id ?? '',
    questions: mixed(entries, levels, met, last?.questions ?? [], random),
    marks: {},
    usedMs: 0,
    compared: 0,
    drill: null,
  };
}

/**
 * Of lessons that the learner has met if they are enough, of different chapters while there are such, and of the levels
 * or the nearest to them; none of the last mock.
 */
function mixed(
  entries: readonly Entry[],
  levels: readonly Level[],
  met: ReadonlySet<string>,
  last: readonly string[],
  random: () => number,
): string[] {
  const distance = ({ level }: Entry) =>
    Math.min(...levels.map((each) => Math.abs(rank(each) - rank(level))));
  const isNear = (entry: Entry) => distance(entry) <= 1;
  const fresh = entries.filter(({ id }) => !last.includes(id));
  const known = fresh.filter(({ of }) => met.has(of.id));
  const isEnough = new Set(known.filter(isNear).map(({ of }) => of.id)).size >= ENOUGH;
  const pool = shuffled(isEnough ? known : fresh, random).sort((a, b) => distance(a) - distance(b));
  const picked: Entry[] = [];
  while (picked.length < QUESTIONS && picked.length < pool.length) {
    const rest = pool.filter((entry) => !picked.includes(entry));
    const times = ({ of }: Entry) => picked.filter((each) => each.of.chapter === of.chapter).length;
    const near = rest.filter(isNear);
    const candidates = near.length > 0 ? near : rest;
    const least = Math.min(...candidates.map(times));
    const next = candidates.find((entry) => times(entry) === least);
    if (next) picked.push(next);
  }
  return picked.map(({ id }) => id);
}

const rank = (level: Level) => LEVELS.indexOf(level);

const shuffled = <T>(all: readonly T[], random: () => number): T[] =>
  all
    .map((each) => ({ each, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ each }) => each);

export type Step = 'clarify' | { readonly question: string } | 'task' | 'over';

/** What comes next. A question or a task that the course has no more is passed over. */
export function nextStep({ task, questions, marks }: Mock, known: (id: string) => boolean): Step {
  const hasTask = known(task);
  if (hasTask && !('clarify' in marks)) return 'clarify';
  const question = questions.find((id) => known(id) && !(id in marks));
  if (question !== undefined) return { question };
  return hasTask && !('task' in marks) ? 'task' : 'over';
}
