import { createEmptyCard, fsrs, Rating, State } from 'ts-fsrs';

export const GRADES = ['again', 'hard', 'good', 'easy'] as const;
export type Grade = (typeof GRADES)[number];

/** What is known of how well one card is remembered. Times in ms since the epoch. */
export interface Memory {
  readonly since: number;
  readonly last: number;
  readonly due: number;
  readonly days: number;
  readonly stability: number;
  readonly difficulty: number;
  readonly reps: number;
  readonly lapses: number;
}

const DAY_MS = 24 * 60 * 60_000;
const LAB_DAYS = 14;
const RATINGS = { again: Rating.Again, hard: Rating.Hard, good: Rating.Good, easy: Rating.Easy } as const;

// No steps of minutes: "again" comes back in the same session, and everything else is a matter of days. No random
// shift: the interval that is shown is the one that is kept.
const FSRS = fsrs({ enable_fuzz: false, learning_steps: [], relearning_steps: [], maximum_interval: 365 });

/** The memory after a review. A review in the future, of a clock that was wrong, counts as one of now. */
export function reviewed(memory: Memory | undefined, grade: Grade, now: number): Memory {
  const at = new Date(now);
  const before = memory
    ? {
        due: new Date(memory.due),
        last_review: new Date(Math.min(memory.last, now)),
        scheduled_days: memory.days,
        stability: memory.stability,
        difficulty: memory.difficulty,
        reps: memory.reps,
        lapses: memory.lapses,
        state: State.Review,
        elapsed_days: 0,
        learning_steps: 0,
      }
    : createEmptyCard(at);
  const { card } = FSRS.next(before, at, RATINGS[grade]);
  return {
    since: memory?.since ?? now,
    last: now,
    due: grade === 'again' ? now : card.due.getTime(),
    days: card.scheduled_days,
    stability: card.stability,
    difficulty: card.difficulty,
    reps: card.reps,
    lapses: card.lapses,
  };
}

/** Of a lab that was passed: built by hand, it stays longer than an answer that was read. */
export function builtAt(passed: number): Memory {
  const { difficulty, reps, lapses } = reviewed(undefined, 'good', passed);
  const due = passed + LAB_DAYS * DAY_MS;
  return { since: passed, last: passed, due, days: LAB_DAYS, stability: LAB_DAYS, difficulty, reps, lapses };
}

/** A card is due for the whole of its day, so that a learner may come a little earlier than the day before. */
export const isDue = (memory: Memory, now: number): boolean =>
  memory.due < endOfDay(now) || memory.last > now + DAY_MS;

export const isDueTomorrow = (memory: Memory, now: number): boolean =>
  !isDue(memory, now) && memory.due < endOfDay(now, 1);

export const isOfToday = (at: number, now: number): boolean => endOfDay(at) === endOfDay(now);

/** By the learner's clock on the wall, also where a day has 23 hours. */
const endOfDay = (now: number, daysOn = 0): number => new Date(now).setHours(24 * (1 + daysOn), 0, 0, 0);

/** What a file holds; undefined where it is damaged. */
export const isMemory = (stored: unknown): stored is Memory => {
  const numbers = stored as Readonly<Record<string, unknown>>;
  const FIELDS = ['since', 'last', 'due', 'days', 'stability', 'difficulty', 'reps', 'lapses'];
  return FIELDS.every((field) => Number.isFinite(numbers[field]));
};
