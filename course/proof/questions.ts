import { shown } from '../base/root';
import { isDrill, type Lab, labs, type Overview, overviews } from '../content/catalog';
import { parse, plain } from '../content/markdown';
import { BANK, LEVELS, type Link, type Question, questions, withQuestion } from '../content/questions';
import { rungsOf } from './ladder';
import { countWords, openPage } from './page';

/** In words; a strong answer takes 30 seconds to say. */
const LIMITS = { weak: [1, 40], good: [1, 60], strong: [20, 80], redFlag: [1, 40] } as const;
const FOLLOW_UPS = { atLeast: 1, atLeastInLesson: 2, atMost: 3 };
const FEWEST = 100;

/** What the whole bank owes its readers: enough questions, of each level, with ids of their own. */
export function bankProblems(bank: readonly Question[] = questions()): string[] {
  const ids = bank.map(({ id }) => id);
  const unused = LEVELS.filter((level) => !bank.some((question) => question.level === level));
  return [
    ...(bank.length < FEWEST ? [`${shown(BANK)}: ${bank.length} questions: make them ${FEWEST}`] : []),
    ...unused.map((level) => `${shown(BANK)}: no question is of the level ${level}: add some`),
    ...bank.flatMap((question, at) => [
      ...questionProblems(question),
      ...(ids.indexOf(question.id) < at
        ? [`${placeOf(question)}: another question has the id ${question.id}: give it one of its own`]
        : []),
    ]),
  ];
}

/** "In an interview" of a lesson is its own question of the bank. A drill is a question as it stands. */
export function ownQuestionProblems(lesson: Lab | Overview, bank: readonly Question[]): string[] {
  const { lesson: path } = lesson.files;
  if (isDrill(lesson) || bank.length === 0) return [];
  const own = bank.find(({ id }) => id === lesson.id);
  if (!own) return [`${shown(BANK)}: no question has the id ${lesson.id}: each lesson has its own`];
  const { text } = openPage(path);
  const wanted = withQuestion(text, path, own);
  if (wanted === undefined) {
    return [
      `${shown(path)}: there is no place for its question: write <!-- question --> and <!-- /question --> into "In an interview"`,
    ];
  }
  const count = own.followUps.length;
  return [
    ...(own.lesson.path === path ? [] : [`${placeOf(own)}: its lesson must be ${shown(path)}`]),
    ...(count < FOLLOW_UPS.atLeastInLesson
      ? [
          `${placeOf(own)}: "If they go on" has ${count} points: a lesson shows ${FOLLOW_UPS.atLeastInLesson} or ${FOLLOW_UPS.atMost}`,
        ]
      : []),
    ...(wanted === text
      ? []
      : [`${shown(path)}: "In an interview" is not what the bank says (${placeOf(own)}): npm run sync`]),
  ];
}

function questionProblems(question: Question): string[] {
  const { id, level, strong, followUps, lesson } = question;
  const problems = [
    ...(id ? [] : ['it has no id: write <!-- id: … --> below its heading']),
    ...(LEVELS.some((known) => known === level)
      ? []
      : [`its level is "${level}": write one of ${LEVELS.join(', ')}`]),
    ...lessonNameProblems(lesson),
    ...proofProblems(question),
    ...lengthProblems(question),
    ...(/^["“]/.test(strong) ? [] : ['"Strong" is not in quotation marks: write it as one says it']),
    ...(followUps.length < FOLLOW_UPS.atLeast || followUps.length > FOLLOW_UPS.atMost
      ? [
          `"If they go on" has ${followUps.length} points: make them ${FOLLOW_UPS.atLeast} to ${FOLLOW_UPS.atMost}`,
        ]
      : []),
    ...followUps
      .filter((point) => !/^\*[^*]+\?\*\s+\S/.test(point) && !/^\*[^*]+\.\*\s+\S/.test(point))
      .map((point) => `"${point.slice(0, 30)}…" must be *a question?* and its answer`),
  ];
  return problems.map((problem) => `${placeOf(question)}: ${problem}`);
}

function lessonNameProblems({ label, path }: Link): string[] {
  const named = [...labs(), ...overviews()].find(({ files }) => files.lesson === path);
  if (!named) return ['it names no lesson: link to one behind the level'];
  const name = `${named.number} ${named.title}`;
  return label === name ? [] : [`it calls its lesson "${label}", which is "${name}": correct the label`];
}

function proofProblems({ proof }: Question): string[] {
  const lab = labs().find(({ files }) => files.test === proof.path);
  if (!lab) return ["it has no proof: link to the test of a lab, labelled with the test's name"];
  const names = rungsOf(lab).map(({ title }) => title);
  return names.includes(proof.label)
    ? []
    : [`"${proof.label}" is no test of ${lab.id}: label the proof with the exact name of one`];
}

const lengthProblems = (question: Question): string[] =>
  Object.entries(LIMITS).flatMap(([field, [atLeast, atMost]]) => {
    const words = wordsIn(question[field as keyof typeof LIMITS]);
    return words < atLeast || words > atMost
      ? [`"${TITLES[field as keyof typeof LIMITS]}" has ${words} words: make them ${atLeast} to ${atMost}`]
      : [];
  });

const TITLES = { weak: 'Weak', good: 'Good', strong: 'Strong', redFlag: 'Red flag' } as const;

/** Spoken, a name from the code is a word too. */
const wordsIn = (markdown: string): number => countWords(parse(markdown).children.map(plain).join(' '));

const placeOf = ({ file, line }: Question): string => `${shown(file)}:${line}`;
