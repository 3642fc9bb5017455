import { existsSync, readFileSync } from 'node:fs';
import { shown } from '../base/root';
import type { Lab } from '../content/catalog';
import { PARTS } from '../run/messages';
import { commentsOf, openCode } from './code';
import { rungsOf, titlesIn } from './ladder';
import { countWords, hasDefects } from './page';

/** In lines, but for the contract. */
const LIMITS = { test: 55, starter: 150, solution: 120, core: 60, contractWords: 200 };
/** Of a starter that is a complete program, with its defects. */
const COMPLETE_STARTER = 300;
const CORE = { atLeast: 3, atMost: 6, aloneAtMost: 10 };
const PRODUCTION_AT_MOST = 10;

/** Tests that may be longer, as `LAB: TEST`, each with the reason. */
const LONG_TESTS: Readonly<Record<string, string>> = {};

/** What can be told of a ladder from its code: where its tests stand, and that all of it can be read in time. */
export const formProblems = (lab: Lab): string[] => [
  ...rungProblems(lab),
  ...countProblems(lab),
  ...sizeProblems(lab),
];

function rungProblems(lab: Lab): string[] {
  const rungs = rungsOf(lab);
  const titles = rungs.map(({ title }) => title);
  return rungs
    .flatMap(({ title, part, lines }, at) => [
      ...(part ? [] : [`"${title}" is in neither ${PARTS.core} nor ${PARTS.production}: move it into one`]),
      ...(titles.indexOf(title) < at ? [`"${title}" is the name of two tests: rename one`] : []),
      ...(/%[a-z#$]|\$\w/.test(title)
        ? [`"${title}" has a placeholder, and all cases are one promise: name it without`]
        : []),
      ...(part === 'core' && rungs.slice(0, at).some((before) => before.part === 'production')
        ? [`"${title}" of ${PARTS.core} stands after ${PARTS.production}: move it up`]
        : []),
      ...lengthProblems(`${lab.id}: ${title}`, lines),
    ])
    .map((problem) => `${shown(lab.files.test)}: ${problem}`);
}

function lengthProblems(name: string, lines: number): string[] {
  const isLong = lines > LIMITS.test;
  if (isLong === name in LONG_TESTS) return [];
  return isLong
    ? [`the test "${name}" has ${lines} lines: make them ${LIMITS.test} at most, with helpers for its scenes`]
    : [`the test "${name}" is not long any more: take it off LONG_TESTS in course/proof/form.ts`];
}

function countProblems(lab: Lab): string[] {
  const [core, production] = [titlesIn(lab, 'core').length, titlesIn(lab, 'production').length];
  const atMost = production > 0 ? CORE.atMost : CORE.aloneAtMost;
  const test = shown(lab.files.test);
  return [
    ...(core < CORE.atLeast || core > atMost
      ? [`${test}: ${PARTS.core} has ${core} tests: make them ${CORE.atLeast} to ${atMost}`]
      : []),
    ...(production > PRODUCTION_AT_MOST
      ? [`${test}: ${PARTS.production} has ${production} tests: make them ${PRODUCTION_AT_MOST} at most`]
      : []),
  ];
}

function sizeProblems(lab: Lab): string[] {
  const { starter, solution, core } = lab.files;
  const lines = readFileSync(starter, 'utf8').trimEnd().split('\n').length;
  const limit = hasDefects(lab) ? COMPLETE_STARTER : LIMITS.starter;
  const words = contractWords(lab);
  return [
    ...(lines > limit
      ? [`${shown(starter)}: ${lines} lines: make them ${limit} at most, and give the rest in given.ts`]
      : []),
    ...(words > LIMITS.contractWords
      ? [
          `${shown(starter)}: ${words} words of contract before Core, with those of given.ts: make them ${LIMITS.contractWords} at most`,
        ]
      : []),
    ...ownLineProblems(solution, starter, LIMITS.solution),
    ...(existsSync(core) ? ownLineProblems(core, starter, LIMITS.core) : []),
  ];
}

/** Lines that the learner has to write: neither blank, nor in the starter, nor marks for the lesson. */
function ownLineProblems(path: string, starter: string, limit: number): string[] {
  const linesOf = (file: string) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '' && !/^\/\/ #(?:end)?region/.test(line));
  const given = new Set(linesOf(starter));
  const own = linesOf(path).filter((line) => !given.has(line)).length;
  return own > limit ? [`${shown(path)}: ${own} lines of its own: make them ${limit} at most`] : [];
}

/**
 * What a learner has to hold in mind before Core: what the starter says, and what `given.ts` asks of them. A part of a
 * folder `parts` is looked up when it is used.
 */
function contractWords({ files }: Lab): number {
  const starter = commentsOf(openCode(files.starter));
  const given = existsSync(files.given) ? commentsOf(openCode(files.given)) : [];
  const texts = [...starter, ...given.filter(({ isContract }) => isContract)].map(
    ({ text }) => text.split(`${PARTS.production}:`)[0] ?? '',
  );
  return countWords(texts.join('\n'));
}
