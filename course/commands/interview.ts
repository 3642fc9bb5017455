import { Refusal } from '../base/refusal';
import { onEnd } from '../base/signals';
import { bank, type Lesson, lessons } from '../content/bank';
import type { Lab } from '../content/catalog';
import { LEVELS } from '../content/questions';
import { DESIGN_PARTS, HEADINGS, lessonsIn, partsOf, type Task, tasks } from '../content/tasks';
import { recordGrade } from '../run/deck';
import {
  beginMock,
  finishMock,
  MARKS,
  type Mark,
  metLessons,
  mockUnderWay,
  newMock,
  nextStep,
  pastMocks,
  type Wish,
} from '../run/mock';
import { drillState, OpenMock } from '../run/open-mock';
import { answerText } from '../screen/card';
import { Desk } from '../screen/desk';
import {
  askedText,
  designText,
  drillText,
  introText,
  mockClock,
  mockQuestionText,
  type Pool,
  partText,
  resultText,
  summary,
} from '../screen/mock';
import { cyan, minutes } from '../screen/terminal';

const MARK_KEYS = { 1: 'weak', 2: 'good', 3: 'strong' } as const;
/** What a mark says to the cards. */
const GRADE = { weak: 'again', good: 'good', strong: 'easy' } as const;

export interface Wishes {
  readonly level: string | undefined;
  readonly drill: boolean;
  /** A new mock, although one is under way. */
  readonly again: boolean;
}

/** `npm run interview`: a mock of 45 minutes. It goes on where it was left. */
export async function interview({ again, drill, level }: Wishes): Promise<number> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new Refusal(
      'npm run interview is a conversation and needs a terminal. Its questions to read: chapters/06-interviews/questions',
    );
  }
  const wish = { drill, level: LEVELS.find((each) => each === level) };
  const underWay = again ? null : mockUnderWay();
  if (underWay && (wish.level !== undefined || wish.drill)) {
    throw new Refusal(
      'A mock is under way. Go on with it: npm run interview\nOr begin a new one: add --again',
    );
  }
  const pages = lessons();
  const pool = { entries: bank(pages), tasks: tasks() };
  const desk = new Desk();
  const talk = new Interview(desk, pool, pages);
  const close = () => {
    desk.close();
    talk.close();
  };
  onEnd(async () => close());
  try {
    const open = underWay ? Promise.resolve(underWay) : talk.begin(wish);
    return await Promise.race([open.then((mock) => talk.walk(new OpenMock(mock))), desk.left]);
  } finally {
    close();
    if (talk.words) console.log(talk.words);
  }
}

class Interview {
  /** Printed once the learner's screen is back. */
  words = '';
  readonly #desk: Desk;
  readonly #pool: Pool;
  readonly #pages: readonly Lesson[];
  #mock: OpenMock | undefined;

  constructor(desk: Desk, pool: Pool, pages: readonly Lesson[]) {
    this.#desk = desk;
    this.#pool = pool;
    this.#pages = pages;
  }

  async begin(wish: Wish) {
    const stock = { ...this.#pool, met: metLessons(this.#pool.entries) };
    const last = pastMocks().at(-1);
    const mock = newMock(stock, last, wish, Math.random, Date.now());
    const text = () => introText(mock, this.#taskOf(mock.task), last);
    await this.#desk.ask({ text, keys: { return: 'begin' }, status: () => mockClock(0) });
    beginMock(mock);
    return mock;
  }

  /** @returns the exit code */
  async walk(mock: OpenMock): Promise<number> {
    this.#mock = mock;
    const known = (id: string) => this.#taskOf(id) !== undefined || this.#entryOf(id) !== undefined;
    for (let step = nextStep(mock.now, known); step !== 'over'; step = nextStep(mock.now, known)) {
      const task = this.#taskOf(mock.now.task);
      if (typeof step === 'object') await this.#question(mock, step.question);
      else if (task && step === 'clarify') await this.#clarify(mock, task);
      else if (task?.lab && !(await this.#drill(mock, task, task.lab))) return 0;
      else if (task?.kind === 'design') await this.#design(mock, task);
    }
    mock.close();
    this.#mock = undefined;
    const past = pastMocks();
    finishMock(mock.now);
    const text = () => summary(mock.now, this.#pool, (task) => lessonsIn(task, this.#pages), past);
    this.words = text();
    await this.#desk.ask({ text, keys: { return: 'done' }, status: () => 'The mock is over.' });
    return 0;
  }

  async #clarify(mock: OpenMock, task: Task): Promise<void> {
    const status = clock(mock, 'Clarify');
    const then =
      'Ask aloud what you need to know, and say what you assume. Then see what a strong candidate asks.';
    await this.#desk.ask({ text: () => askedText(task, then), keys: { return: 'see' }, status });
    mock.mark('clarify', await this.#grade(() => partText(task, HEADINGS[task.kind].clarified), status));
  }

  async #question(mock: OpenMock, id: string): Promise<void> {
    const entry = this.#entryOf(id);
    const { questions } = mock.now;
    if (!entry) return;
    const status = clock(mock, `Question ${questions.indexOf(id) + 1} of ${questions.length}`);
    const text = () => mockQuestionText(entry, this.#taskOf(mock.now.task));
    await this.#desk.ask({ text, keys: { return: 'compare' }, status });
    const mark = await this.#grade(() => answerText(entry), status);
    // First, because a question that is asked twice does less harm than a mark that the cards never hear of.
    recordGrade(id, GRADE[mark], Date.now());
    mock.mark(id, mark);
  }

  async #design(mock: OpenMock, task: Task): Promise<void> {
    const status = clock(mock, 'Design');
    const pages = partsOf(task);
    const parts = DESIGN_PARTS.filter((title) => pages.has(title));
    if (mock.now.compared === 0) {
      await this.#desk.ask({ text: () => designText(task, parts), keys: { return: 'compare' }, status });
      mock.change({ compared: 1 });
    }
    for (const title of parts.slice(mock.now.compared - 1)) {
      const next = parts[parts.indexOf(title) + 1] ?? HEADINGS.design.rubric;
      const keys = { return: next.toLowerCase() };
      await this.#desk.ask({ text: () => partText(task, title), keys, status });
      mock.change({ compared: parts.indexOf(title) + 2 });
    }
    mock.mark('task', await this.#grade(() => partText(task, HEADINGS.design.rubric), status));
  }

  /** @returns whether it has its mark: else the learner has left for it */
  async #drill(mock: OpenMock, task: Task, lab: Lab): Promise<boolean> {
    const status = clock(mock, 'Drill');
    const state = drillState(mock.now, lab);
    if (!state.done) {
      const keys = { return: 'leave for the drill', g: 'grade it as it stands' };
      if ((await this.#desk.ask({ text: () => drillText(task, state), keys, status })) === 'return') {
        mock.change({ drill: state.left ?? { at: Date.now(), pass: state.pass } });
        this.words = `The drill:  ${cyan(state.command)}\nThen go on: ${cyan('npm run interview')}`;
        return false;
      }
    }
    const mark = await this.#grade(() => resultText(task, state), status);
    mock.change({ usedMs: mock.now.usedMs + (state.ms ?? 0), marks: { task: mark } });
    return true;
  }

  async #grade(text: () => string, status: () => string): Promise<Mark> {
    const key = await this.#desk.ask({ text, keys: MARK_KEYS, status });
    return MARKS[Number(key) - 1] ?? 'weak';
  }

  close(): void {
    if (!this.#mock) return;
    this.#mock.close();
    this.words ||= `The mock stands at ${mockClock(this.#mock.now.usedMs)}, and goes on: ${cyan('npm run interview')}`;
    this.#mock = undefined;
  }

  readonly #taskOf = (id: string) => this.#pool.tasks.find((task) => task.id === id);
  readonly #entryOf = (id: string) => this.#pool.entries.find((entry) => entry.id === id);
}

/** The time of this step, and of all. */
function clock(mock: OpenMock, step: string): () => string {
  const before = mock.usedMs;
  return () => `${step} · ${minutes(mock.usedMs - before)} · ${mockClock(mock.usedMs)}`;
}
