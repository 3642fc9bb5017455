import type { Entry, Lesson } from '../content/bank';
import type { Lab } from '../content/catalog';
import { builtAt, type Grade, isDue, isMemory, isOfToday, type Memory, reviewed } from './memory';
import type { Progress } from './progress';
import { isRecord, StateFile } from './state-file';

/** What a learner has done with the cards. An id that is in no deck any more stays, and waits for its card. */
export interface Deck {
  readonly version: 1;
  /** By the id of a card. */
  readonly cards: Readonly<Record<string, Memory>>;
  /** Labs that are built again, by the id of a card: since when (ms), and the last pass of Core before that. */
  readonly begun: Readonly<Record<string, { readonly at: number; readonly pass: string }>>;
}

export const NO_DECK: Deck = { version: 1, cards: {}, begun: {} };

const FILE = new StateFile<Deck>({
  name: 'cards',
  none: NO_DECK,
  current: (stored) =>
    stored.version === 1 && isRecord(stored.begun) && isRecord(stored.cards) && soundCards(stored.cards)
      ? (stored as unknown as Deck)
      : undefined,
  afterDamage: 'every card is new again.',
  afterLoss: '',
});

const soundCards = (cards: Readonly<Record<string, unknown>>): boolean =>
  Object.values(cards).every((memory) => isRecord(memory) && isMemory(memory));

export const readDeck = (): Deck => FILE.read();

/** Another session may have written meanwhile: each change begins with what the file holds now. */
function change(next: (before: Deck) => Deck): void {
  const before = readDeck();
  const after = next(before);
  if (after !== before) FILE.write(after);
}

export interface QuestionCard {
  readonly kind: 'question';
  readonly id: string;
  readonly of: Lesson;
  readonly topic: string;
  readonly entry: Entry;
}

/** "Core again, from an empty starter." */
export interface LabCard {
  readonly kind: 'lab';
  readonly id: string;
  readonly of: Lesson;
  readonly topic: '';
  readonly lab: Lab;
}

export type Card = QuestionCard | LabCard;

export const questionCard = (entry: Entry): QuestionCard => {
  const { id, of, topic } = entry;
  return { kind: 'question', id, of, topic, entry };
};

const labId = (lab: Pick<Lab, 'id'>): string => `lab:${lab.id}`;

/** A card for each lab that has been passed, Core at least. */
export const labCards = (lessons: readonly Lesson[], { core, passed }: Progress): LabCard[] =>
  lessons.flatMap((of) =>
    of.lab && (of.id in core || of.id in passed)
      ? [{ kind: 'lab', id: labId(of.lab), of, topic: '', lab: of.lab }]
      : [],
  );

export function recordGrade(id: string, grade: Grade, now: number): void {
  change((deck) => graded(deck, id, grade, now));
}

export function graded(deck: Deck, id: string, grade: Grade, now: number): Deck {
  const { [id]: _begun, ...begun } = deck.begun;
  return { ...deck, cards: { ...deck.cards, [id]: reviewed(deck.cards[id], grade, now) }, begun };
}

/** From now on, a pass of Core is a recall. */
export function recordBegun({ id, of }: LabCard, { core }: Progress, now: number): void {
  change((deck) => ({
    ...deck,
    begun: { ...deck.begun, [id]: { at: now, pass: core[of.id]?.at ?? '' } },
  }));
}

/** What has happened to labs since the last time. @returns those whose Core has passed again */
export function meetLabs(cards: readonly LabCard[], progress: Progress, now: number): LabCard[] {
  const recalled = recalledIn(readDeck(), cards, progress);
  change((deck) => withLabs(deck, cards, progress, now));
  return recalled;
}

/** Labs passed meanwhile get a card, and those built again count as recalled. */
export function withLabs(
  deck: Deck,
  cards: readonly LabCard[],
  { core, passed }: Progress,
  now: number,
): Deck {
  const timeOf = ({ of }: LabCard) => {
    const times = [core[of.id], passed[of.id]].map((pass) => Date.parse(pass?.at ?? ''));
    return Math.min(now, Math.max(...times.filter(Number.isFinite)));
  };
  let next = deck;
  for (const card of cards) {
    if (card.id in deck.cards || !Number.isFinite(timeOf(card))) continue;
    next = { ...next, cards: { ...next.cards, [card.id]: builtAt(timeOf(card)) } };
  }
  for (const card of recalledIn(next, cards, { core })) next = graded(next, card.id, 'good', timeOf(card));
  return next;
}

const recalledIn = (
  { begun }: Deck,
  cards: readonly LabCard[],
  { core }: Pick<Progress, 'core'>,
): LabCard[] =>
  cards.filter(({ id, of }) => {
    const pass = core[of.id]?.at;
    return begun[id] !== undefined && pass !== undefined && pass !== begun[id].pass;
  });

/** What there is to do now. */
export interface Pile {
  /** Questions that are due, the longest overdue first. */
  readonly due: readonly QuestionCard[];
  /** Questions never asked: those of `first` lessons, then the others; the first of each lesson, then the second of each. */
  readonly fresh: readonly QuestionCard[];
  /** Labs to build again, the one under way first. */
  readonly labs: readonly LabCard[];
  /** Cards that are remembered, and not due. */
  readonly known: readonly Card[];
}

export function pileOf(
  { cards: known, begun }: Deck,
  cards: readonly Card[],
  first: (lesson: string) => boolean,
  now: number,
): Pile {
  const dueAt = ({ id }: Card) => known[id]?.due ?? 0;
  const isCardDue = ({ id }: Card) => id in begun || (known[id] !== undefined && isDue(known[id], now));
  const questions = cards.filter((card) => card.kind === 'question');
  const unseen = mixed(questions).filter(({ id }) => !(id in known));
  const dueOf = <T extends Card>(some: readonly T[]) =>
    some.filter(isCardDue).sort((a, b) => dueAt(a) - dueAt(b));
  const labs = dueOf(cards.filter((card) => card.kind === 'lab'));
  return {
    due: dueOf(questions),
    fresh: [...unseen.filter(({ of }) => first(of.id)), ...unseen.filter(({ of }) => !first(of.id))],
    labs: [...labs.filter(({ id }) => id in begun), ...labs.filter(({ id }) => !(id in begun))],
    known: cards.filter((card) => card.id in known && !isCardDue(card)),
  };
}

/** Turn by turn: the first question of each lesson, which is its own, then the second of each. */
function mixed(questions: readonly QuestionCard[]): QuestionCard[] {
  const turns = new Map<string, number>();
  const placed = questions.map((card) => {
    const turn = turns.get(card.of.id) ?? 0;
    turns.set(card.of.id, turn + 1);
    return { card, turn };
  });
  return placed.sort((a, b) => a.turn - b.turn).map(({ card }) => card);
}

/** How many questions were asked for the first time today. */
export const freshToday = ({ cards }: Deck, now: number): number =>
  Object.entries(cards).filter(([id, { since }]) => !id.startsWith('lab:') && isOfToday(since, now)).length;
