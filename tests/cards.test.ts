import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import type { Lesson } from '../course/content/bank';
import {
  type Deck,
  graded,
  type LabCard,
  labCards,
  NO_DECK,
  pileOf,
  type QuestionCard,
  withLabs,
} from '../course/run/deck';
import { builtAt, isDue, isDueTomorrow, reviewed } from '../course/run/memory';
import type { Progress } from '../course/run/progress';
import { paged } from '../course/screen/desk';
import { scratchCourse } from './prover/scratch';
import { run } from './support/course';
import { Terminal } from './support/terminal';

const NOON = new Date(2026, 10, 26, 12).getTime();
const DAY = 86_400_000;

describe('a memory', () => {
  test('comes back at once, or after days that grow with each recall', () => {
    expect(reviewed(undefined, 'again', NOON).due).toBe(NOON);
    const first = reviewed(undefined, 'good', NOON);
    const second = reviewed(first, 'good', first.due);
    const third = reviewed(second, 'good', second.due);
    expect(first.days).toBeLessThan(second.days);
    expect(second.days).toBeLessThan(third.days);
    expect(reviewed(first, 'hard', first.due).days).toBeLessThan(second.days);
    expect(reviewed(first, 'easy', first.due).days).toBeGreaterThan(second.days);
  });

  test('is due for the whole day on which its time comes', () => {
    const memory = reviewed(undefined, 'good', NOON);
    const morning = new Date(memory.due).setHours(0, 0, 0, 0);
    expect(isDue(memory, morning)).toBe(true);
    expect(isDue(memory, morning - 1)).toBe(false);
    expect(isDueTomorrow(memory, morning - 1)).toBe(true);
  });

  test('of a lab lasts two weeks at first', () => {
    const memory = builtAt(NOON);
    expect(isDue(memory, NOON + 13 * DAY)).toBe(false);
    expect(isDue(memory, NOON + 14 * DAY)).toBe(true);
    expect(reviewed(memory, 'good', NOON + 14 * DAY).days).toBeGreaterThan(28);
  });

  test('of a clock that has gone back is due, and is reviewed like any other', () => {
    const ahead = reviewed(undefined, 'easy', NOON + 900 * DAY);
    expect(isDue(ahead, NOON)).toBe(true);
    const back = reviewed(ahead, 'good', NOON);
    expect(back.last).toBe(NOON);
    expect(isDue(back, NOON)).toBe(false);
    expect(back.due).toBeLessThan(NOON + 400 * DAY);
  });
});

const PASS = (at: number) => ({ at: new Date(at).toISOString(), tests: '' });
const NO_PROGRESS: Progress = {
  version: 2,
  passed: {},
  core: {},
  failing: {},
  hints: {},
  named: null,
  production: [],
  path: null,
};

describe('a deck', () => {
  const of: Lesson = {
    id: 'lru',
    number: '1.4',
    title: 'LRU',
    chapter: 'fundamentals',
    file: '',
    lab: undefined,
  };
  const card = { kind: 'lab', id: 'lab:lru', of, topic: '' } as unknown as LabCard;
  const question = (id: string, lesson = of) =>
    ({ kind: 'question', id, of: lesson, topic: 'memory' }) as unknown as QuestionCard;

  test('asks what is longest overdue first, and what was built before what was not', () => {
    const cards = ['a', 'b', 'c'].map((id) => question(id)).concat(question('d', { ...of, id: 'ttl' }));
    let deck: Deck = graded(NO_DECK, 'b', 'again', NOON - DAY);
    deck = graded(deck, 'a', 'again', NOON);
    deck = graded(deck, 'gone from the bank', 'again', NOON);
    const { due, fresh } = pileOf(deck, cards, (id) => id === 'ttl', NOON);
    expect(due.map(({ id }) => id)).toEqual(['b', 'a']);
    expect(fresh.map(({ id }) => id)).toEqual(['d', 'c']);
    expect(Object.keys(deck.cards)).toContain('gone from the bank');
  });

  test('asks one new question of each lesson, its own first, before the second of any', () => {
    const ttl = { ...of, id: 'ttl' };
    const cards = ['a', 'b', 'c'].map((id) => question(id)).concat(question('d', ttl), question('e', ttl));
    const fresh = (deck: Deck, first: (lesson: string) => boolean) =>
      pileOf(deck, cards, first, NOON).fresh.map(({ id }) => id);
    expect(fresh(NO_DECK, () => true)).toEqual(['a', 'd', 'b', 'e', 'c']);
    expect(fresh(graded(NO_DECK, 'a', 'good', NOON), () => true)).toEqual(['d', 'b', 'e', 'c']);
    expect(fresh(NO_DECK, (id) => id === 'ttl')).toEqual(['d', 'e', 'a', 'b', 'c']);
  });

  test('has a card for a passed lab, due two weeks after the pass', () => {
    expect(labCards([of], NO_PROGRESS)).toEqual([]);
    const progress = { ...NO_PROGRESS, passed: { lru: PASS(NOON) } };
    const deck = withLabs(NO_DECK, [card], progress, NOON + DAY);
    const due = (days: number) => pileOf(deck, [card], () => true, NOON + days * DAY).labs.length;
    expect([13, 14].map(due)).toEqual([0, 1]);
    const later = { ...NO_PROGRESS, passed: { lru: PASS(NOON + 5 * DAY) } };
    expect(withLabs(deck, [card], later, NOON + 6 * DAY), 'a run of the old file is no recall').toBe(deck);
  });

  test('counts a lab as recalled once its Core has passed after it was begun', () => {
    const before = { ...NO_PROGRESS, core: { lru: PASS(NOON) } };
    const deck = {
      ...withLabs(NO_DECK, [card], before, NOON),
      begun: { 'lab:lru': { at: NOON + 14 * DAY, pass: before.core.lru.at } },
    };
    expect(withLabs(deck, [card], before, NOON + 15 * DAY)).toEqual(deck);
    const again = { ...before, core: { lru: PASS(NOON + 15 * DAY) } };
    const recalled = withLabs(deck, [card], again, NOON + 16 * DAY);
    expect(recalled.begun).toEqual({});
    expect(recalled.cards['lab:lru']).toMatchObject({ last: NOON + 15 * DAY, reps: 2 });
  });
});

test('a long text is cut into pages, a paragraph kept whole where it fits', () => {
  const text = 'a\na\n\nb\nb\nb\n\nc';
  expect(paged(text, 10)).toEqual([['a', 'a', '', 'b', 'b', 'b', '', 'c']]);
  expect(paged(text, 5)).toEqual([
    ['a', 'a'],
    ['b', 'b', 'b', '', 'c'],
  ]);
  expect(paged('1\n2\n3\n4\n5', 2)).toEqual([['1', '2'], ['3', '4'], ['5']]);
});

const course = scratchCourse({ once: () => {}, twice: () => {} });
afterAll(() => rmSync(course.root, { recursive: true, force: true }));

const entry = (id: string, lab: string, level = 'mid') => {
  const place = course.place(lab);
  return `## What is ${id}?

<!-- id: ${id} -->

${level} · [99.1 Memo](../../${place}.md) · proof: [a test](../../../labs/${place}/${lab}.test.ts)

**Weak.** "Weak ${id}."

**Good.** Good.

**Strong.** "Strong ${id}. ${'It is said aloud. '.repeat(25)}"

**If they go on.**

- *Why?* ${'Because of this. '.repeat(40)}

**Red flag**: "never".

`;
};
const bank = join(course.root, 'chapters/06-interviews/questions');
mkdirSync(bank, { recursive: true });
writeFileSync(
  join(bank, 'memory.md'),
  `# Memory\n\n${entry('first', 'once')}${entry('second', 'once', 'senior')}${entry('todo', 'once', 'TODO')}`,
);
writeFileSync(join(bank, 'more.md'), `# More\n\n${entry('third', 'twice')}`);

const state = (name: string) => join(course.root, `.course/${name}.json`);
const stored = (): Deck => JSON.parse(readFileSync(state('cards'), 'utf8'));
const cards = (...args: string[]) => run(course.root, ['course/cli.cjs', 'cards', ...args]);
beforeEach(() => rmSync(join(course.root, '.course'), { recursive: true, force: true }));

test('without a terminal: counts by chapter, for what is named', { timeout: 30_000 }, async () => {
  const [all, topic, level, wrong] = await Promise.all([
    cards(),
    cards('more'),
    cards('99.1', '--level=senior'),
    cards('memroy'),
  ]);
  expect(all).toMatchObject({ code: 0, output: expect.stringMatching(/99 proof +0 +3 +0\nall +0 +3 +0/) });
  expect(topic.output).toMatch(/all +0 +1 +0/);
  expect(level.output).toMatch(/all +0 +1 +0/);
  expect(wrong).toMatchObject({ code: 2, output: expect.stringContaining('Did you mean memory?') });
});

test('a damaged deck is set aside', { timeout: 30_000 }, async () => {
  mkdirSync(join(course.root, '.course'), { recursive: true });
  writeFileSync(state('cards'), '{"version":1,"begun":{},"cards":{"first":{"due":null}}}');
  const { output, code } = await cards();
  expect(output).toMatch(/The cards file could not be read[\s\S]+all +0 +3 +0/);
  expect(code).toBe(0);
});

const open = (args = '') =>
  new Terminal(course.root, `stty cols 80 rows 24; exec node course/cli.cjs cards ${args}`);
const shows = (terminal: Terminal, text: string | RegExp) =>
  expect.poll(() => terminal.output, { timeout: 20_000, interval: 20 }).toMatch(text);
/** What it shows after the keys. */
async function press(terminal: Terminal, keys: string, text: string | RegExp): Promise<void> {
  terminal.output = '';
  terminal.type(keys);
  await shows(terminal, text);
}

describe.runIf(process.platform === 'linux')('at a terminal', { timeout: 60_000 }, () => {
  test('a question, its answer by the page, and a grade that is kept at once', async () => {
    const terminal = open();
    await shows(terminal, /What is first\?[\s\S]+Enter show the answer[\s\S]+3 cards to go/);
    await press(terminal, '\r', /Strong[\s\S]+Strong first[\s\S]+1 again, soon[\s\S]+page 1 of 2/);
    await press(terminal, ' ', /Because of this[\s\S]+page 2 of 2/);
    await press(terminal, '3', 'What is third?');
    expect(stored().cards.first).toMatchObject({ reps: 1, days: 2 });
    await press(terminal, '\r', 'Strong third');
    await press(terminal, '1', 'What is second?');
    // Another session has gone on meanwhile: neither destroys what the other has kept.
    writeFileSync(state('cards'), JSON.stringify(graded(stored(), 'of another session', 'good', Date.now())));
    await press(terminal, '\r', 'Strong second');
    await press(terminal, '4', 'What is third?');
    expect(Object.keys(stored().cards).sort()).toEqual(['first', 'of another session', 'second', 'third']);
    await press(terminal, '\r', 'Strong third');
    await press(
      terminal,
      '2',
      /3 cards: 1 again, 1 good, 1 easy\s+Read again:\s+99.2 Memo[\s\S]+Due tomorrow: 1 card/,
    );
    expect(await terminal.ended).toBe(0);
  });

  test('Ctrl-C and a killed process lose no grade', async () => {
    const interrupted = open('--new=2');
    await shows(interrupted, 'What is first?');
    await press(interrupted, '\r', 'Strong first');
    await press(interrupted, '3', 'What is third?');
    interrupted.type('\x03');
    expect(await interrupted.ended).toBe(130);
    expect(interrupted.output).toContain('1 card: 1 good');

    const killed = open('--new=2');
    await shows(killed, /What is third\?[\s\S]+1 card to go/);
    await press(killed, '\r', 'Strong third');
    killed.hangUp();
    await killed.ended;
    expect(Object.keys(stored().cards)).toEqual(['first']);
  });

  test('new questions have a limit of a day, which never stands before what is named', async () => {
    const day = open('--new=1');
    await shows(day, 'What is first?');
    await press(day, '\r', 'Strong first');
    await press(day, '3', /Never asked: +2 questions/);
    const full = open('--new=1');
    await shows(
      full,
      /2 questions\s+New today: +1 question, and the limit is 1 a day\s+Ask 10 more: +npm run cards -- --new=11/,
    );
    expect(full.output).toMatch(/Of a chapter: npm run cards -- proof \(up to 10 each time\)/);
    expect(await full.ended).toBe(0);
    const named = open('more --new=1');
    await shows(named, 'What is third?');
    await press(named, '\r', 'Strong third');
    await press(named, '3', /1 card: 1 good/);
    const due = open('--due');
    await shows(due, /Never asked: +1 question\s+Ask some now: npm run cards -- --new=12/);
    const done = open('more');
    await shows(done, 'Nothing is due, and no question is new.');
  });

  test('a lab passed long ago begins again from the starter, and counts when its Core passes', async () => {
    const starter = join(course.root, 'labs', course.place('twice'), 'twice.ts');
    const handedOut = readFileSync(starter, 'utf8');
    const passes = (at: string) =>
      writeFileSync(
        state('progress'),
        JSON.stringify({ ...NO_PROGRESS, core: { twice: { at, tests: '' } } }),
      );
    mkdirSync(join(course.root, '.course'), { recursive: true });
    writeFileSync(starter, '// mine\n');
    passes('2026-01-01T12:00:00.000Z');

    const terminal = open('99.2 --due');
    await shows(terminal, /Core again, from an empty starter[\s\S]+b begin/);
    await press(terminal, 'b', /Your attempt is kept[\s\S]+npm start -- twice/);
    expect(readFileSync(starter, 'utf8')).toBe(handedOut);
    await press(terminal, '\r', /Go on: +npm start -- twice/);
    expect((await cards('99.2')).output).not.toContain('Built again');
    passes('2026-01-20T12:00:00.000Z');
    expect((await cards('99.2')).output).toMatch(/Built again: +99.2/);
    expect(stored()).toMatchObject({ begun: {}, cards: { 'lab:twice': { reps: 2 } } });
  });
});
