import { Refusal } from '../base/refusal';
import { onEnd } from '../base/signals';
import { bank, chosen, type Lesson, lessons } from '../content/bank';
import { isDrill } from '../content/catalog';
import {
  type Card,
  freshToday,
  type LabCard,
  labCards,
  meetLabs,
  type Pile,
  pileOf,
  type QuestionCard,
  questionCard,
  readDeck,
  recordBegun,
  recordGrade,
} from '../run/deck';
import { shortName } from '../run/drills';
import { GRADES, type Grade, isDue, isDueTomorrow } from '../run/memory';
import { readProgress, recordNamed } from '../run/progress';
import {
  answerText,
  count,
  doneText,
  gradeKeys,
  labText,
  nothingText,
  questionText,
  recalledText,
  tally,
} from '../screen/card';
import { Desk } from '../screen/desk';
import { cyan, dim } from '../screen/terminal';
import { resetLab } from './reset';

/** New questions: so many a day, and of what is named so many each time. */
const NEW = 10;
/** How many other cards come before one that was forgotten. */
const SOON = 4;

export interface Choice {
  readonly level: string | undefined;
  /** Only what is due. */
  readonly dueOnly: boolean;
  /** New questions at most, in place of `NEW`. */
  readonly fresh: number | undefined;
}

/** `npm run cards`: the question bank, and labs passed long ago, each again when it is about to be forgotten. */
export async function cards(names: readonly string[], choice: Choice): Promise<number> {
  const pages = lessons();
  const labs = labCards(pages, readProgress());
  const picked = chosen(names, [...bank(pages).map(questionCard), ...labs]).filter(
    (card) => choice.level === undefined || (card.kind === 'question' && card.entry.level === choice.level),
  );
  if (picked.length === 0) {
    throw new Refusal(`No question of the level ${choice.level} is there. Leave --level out, or name more.`);
  }
  const recalled = meetLabs(labs, readProgress(), Date.now());
  const pileNow = () => pileOf(readDeck(), picked, comesFirst(names), Date.now());
  const pile = pileNow();
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    console.log([...recalledText(recalled), tally(pile)].join('\n'));
    console.log(dim('\nAt a terminal, npm run cards asks them.'));
    return 0;
  }
  const asked = names.length > 0 ? 0 : freshToday(readDeck(), Date.now());
  const limit = choice.fresh ?? NEW;
  const room = choice.dueOnly ? 0 : Math.max(0, limit - asked);
  const questions = [...pile.due, ...pile.fresh.slice(0, room)];
  const session = new Session(questions, pile.labs[0], recalled);
  if (questions.length === 0 && pile.labs.length === 0) {
    const wanted = [
      ...(choice.level === undefined ? [] : [`--level=${choice.level}`]),
      ...(asked === 0 ? [] : [`--new=${asked + NEW}`]),
    ];
    const more = ['npm run cards', '--', ...names, ...wanted].join(' ').replace(/ --$/, '');
    const full = !choice.dueOnly && asked > 0 ? { asked, limit, each: NEW } : undefined;
    const nothing = nothingText({ fresh: pile.fresh, full, more, dueTomorrow: dueTomorrow(picked) });
    console.log([...recalledText(recalled), nothing].join('\n'));
    return 0;
  }
  const code = await session.run();
  console.log(session.summary(pileNow(), dueTomorrow(picked)));
  return code;
}

/** Of what is named, each lesson counts alike; else those come first that the learner has built. */
function comesFirst(names: readonly string[]): (lesson: string) => boolean {
  const { core, passed } = readProgress();
  return (id) => names.length > 0 || id in core || id in passed;
}

const dueTomorrow = (picked: readonly Card[]): number => {
  const { cards: known } = readDeck();
  return picked.filter(({ id }) => known[id] && isDueTomorrow(known[id], Date.now())).length;
};

/** One sitting. Each grade is saved at once, so that it may end at any moment. */
class Session {
  readonly #questions: QuestionCard[];
  readonly #lab: LabCard | undefined;
  readonly #recalled: readonly Card[];
  readonly #grades = new Map<string, Grade>();
  readonly #again = new Set<Lesson>();
  readonly #begun: string[] = [];

  constructor(questions: readonly QuestionCard[], lab: LabCard | undefined, recalled: readonly Card[]) {
    this.#questions = [...questions];
    this.#lab = lab;
    this.#recalled = recalled;
  }

  /** @returns the exit code */
  async run(): Promise<number> {
    const desk = new Desk();
    onEnd(async () => desk.close());
    try {
      return await Promise.race([this.#walk(desk).then(() => 0), desk.left]);
    } finally {
      desk.close();
    }
  }

  async #walk(desk: Desk): Promise<void> {
    for (let card = this.#questions.shift(); card; card = this.#questions.shift()) {
      if (this.#isDoneElsewhere(card)) continue;
      const grade = await this.#ask(desk, card);
      if (grade === 'again') this.#questions.splice(SOON, 0, card);
    }
    if (this.#lab) await this.#offer(desk, this.#lab);
  }

  /** In another terminal. */
  #isDoneElsewhere({ id }: QuestionCard): boolean {
    const memory = readDeck().cards[id];
    return memory !== undefined && !isDue(memory, Date.now());
  }

  async #ask(desk: Desk, card: QuestionCard): Promise<Grade> {
    const { entry } = card;
    const status = () => `${count(this.#questions.length + 1, 'card')} to go`;
    const text = () => `${questionText(entry)}\n\nSay your answer aloud.`;
    await desk.ask({ text, keys: { return: 'show the answer' }, status });
    const key = await desk.ask({
      text: () => answerText(entry),
      keys: gradeKeys(readDeck().cards[card.id], Date.now()),
      status,
    });
    const grade = GRADES[Number(key) - 1] ?? 'again';
    recordGrade(card.id, grade, Date.now());
    if (!this.#grades.has(card.id)) this.#grades.set(card.id, grade);
    if (grade === 'again') this.#again.add(card.of);
    return grade;
  }

  async #offer(desk: Desk, card: LabCard): Promise<void> {
    const command = isDrill(card.lab)
      ? `npm run drill -- ${shortName(card.lab)}`
      : `npm start -- ${card.lab.id}`;
    const { cards: known, begun } = readDeck();
    const since = begun[card.id]?.at;
    const status = () => 'one lab a day is enough';
    const text = () => labText(card, { memory: known[card.id], begun: since, command, now: Date.now() });
    const keys = {
      b: since === undefined ? 'begin' : 'begin anew',
      s: 'not today',
      f: 'forgotten: ask again',
    };
    const key = await desk.ask({ text, keys, status });
    if (key === 'f') {
      recordGrade(card.id, 'again', Date.now());
      this.#grades.set(card.id, 'again');
      this.#again.add(card.of);
    }
    if (key !== 'b') return;
    const kept = resetLab(card.lab);
    recordBegun(card, readProgress(), Date.now());
    recordNamed(card.lab);
    this.#begun.push(command);
    const now = () =>
      `${kept}\n\nGo on: ${cyan(command)}\n\nWhen its Core passes, the next npm run cards counts it.`;
    await desk.ask({ text: now, keys: { return: 'done' }, status });
  }

  summary({ due, fresh }: Pile, dueTomorrow: number): string {
    return doneText({
      grades: this.#grades,
      again: [...this.#again],
      recalled: this.#recalled,
      begun: this.#begun,
      dueTomorrow,
      left: due.length,
      fresh: fresh.length,
    });
  }
}
