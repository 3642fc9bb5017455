import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { ROOT, shown } from '../base/root';
import { type Lab, mistakesOf } from '../content/catalog';
import { helpFor, hintSections } from '../content/lesson';
import { applyMistake, readMistake } from '../content/mistake';
import { brokenSeals } from '../content/seal';
import type { LabRun, TestResult } from '../run/messages';
import type { Servers } from '../servers/types';
import { fileOf, runOf, runTrials, type Trial, trialsOf } from './trials';

/**
 * Proves labs: the solution passes, the starter fails as a starter, every mistake is rejected by the test that its diff
 * names, and every test rejects a mistake. @returns problems, one sentence each with file and remedy; none is a proof
 */
export async function proveLabs(labs: readonly Lab[], servers: readonly Servers[]): Promise<string[]> {
  const runnable = labs.filter((lab) => obstacles(lab).length === 0);
  const { runs, lost } = await runTrials(runnable.flatMap(trialsOf), servers);
  return [
    ...labs.flatMap(obstacles),
    ...lost,
    ...runnable.flatMap((lab) => [...paperProblems(lab), ...labProblems(lab, runs)]),
  ];
}

/** Not every lab has these. */
const OPTIONAL = new Set(['measure', 'given', 'core', 'variants']);

/** What makes it pointless to run a lab. */
function obstacles({ files }: Lab): string[] {
  const absent = Object.entries(files)
    .filter(([kind, path]) => !OPTIONAL.has(kind) && !existsSync(path))
    .map(([kind, path]) => `${shown(path)} is missing: each lab has its ${kind}`);
  if (absent.length > 0) return absent;
  const hiding = /\b(?:it|test|describe)(?:\.\w+)*\.(?:skip|only|todo|skipIf|runIf|fails)\b/g;
  return [...readFileSync(files.test, 'utf8').matchAll(hiding)].map(
    ([found]) => `${shown(files.test)}: ${found} hides tests: remove it`,
  );
}

/** What can be told from the files alone. */
function paperProblems(lab: Lab): string[] {
  const { starter, pristine, seal } = lab.files;
  const read = (path: string) => readFileSync(path, 'utf8');
  const count = mistakesOf(lab).length;
  return [
    ...(count < 4 ? [`${shown(lab.files.mistakes)}: a lab keeps at least 4 mistakes: add ${4 - count}`] : []),
    ...(read(starter) === read(pristine)
      ? []
      : [
          `${shown(starter)} differs from ${shown(pristine)}: npm run reset -- ${lab.id}, or npm run sync if you are its author`,
        ]),
    ...brokenSeals(lab).map(
      ({ file }) =>
        `${shown(file)} differs from its seal ${basename(seal)}: git checkout ${shown(file)}, or npm run sync if you are its author`,
    ),
  ];
}

function labProblems(lab: Lab, runs: readonly LabRun[]): string[] {
  const [solution, starter, ...mistakes] = trialsOf(lab).map((trial) => ({
    trial,
    run: runOf(runs, trial),
  }));
  // Where there is no run, that has been told.
  if (!solution?.run) return [];
  const results = solution.run.tests;
  const names = results.map(({ name }) => name);
  // Where the solution fails, nothing else can be told.
  if (names.length === 0 || results.some(({ state }) => state !== 'passed')) {
    return solutionProblems(lab, solution.run);
  }
  const rejecting = new Set(mistakes.flatMap(({ trial }) => trial.only ?? []));
  const idle = names.filter((name) => !rejecting.has(name));
  return [
    ...solutionProblems(lab, solution.run),
    ...(starter?.run ? starterProblems(lab, starter.run) : []),
    ...mistakes.flatMap(({ trial, run }) => (run ? mistakeProblems(trial, run) : [])),
    ...idle.map(
      (name) =>
        `${shown(lab.files.test)}: no mistake is rejected by the test "${name}": add the one it is for, or a line Rejected-by`,
    ),
    ...hintProblems(lab, names),
  ];
}

function solutionProblems(lab: Lab, { tests, fileErrors, ms }: LabRun): string[] {
  const test = shown(lab.files.test);
  const solution = shown(lab.files.solution);
  if (tests.length === 0) {
    return [`${test}: no test was run${because(fileErrors)}: a run that executes nothing proves nothing`];
  }
  return [
    ...tests
      .filter(({ state }) => state !== 'passed')
      .map((result) =>
        result.state === 'not run'
          ? `${test}: the test "${result.name}" was not run: let nothing skip it`
          : `${solution}: fails its own test "${result.name}" (${reason(result)}): mend the one or the other`,
      ),
    ...fileErrors.map(({ message }) => `${solution}: ${message}: the tests must leave nothing behind`),
    ...(ms > 8000
      ? [`${test}: took ${Math.round(ms)} ms beside other work: alone it must finish in 2 s`]
      : []),
  ];
}

function starterProblems(lab: Lab, { tests, fileErrors }: LabRun): string[] {
  const starter = shown(lab.files.pristine);
  if (tests.length === 0) {
    return [`${starter}: its tests did not run${because(fileErrors)}: it must load`];
  }
  return tests
    .filter(({ error }) => !error?.message.includes('not implemented'))
    .map(
      (test) =>
        `${starter}: the test "${test.name}" must fail by "not implemented" and ${test.state === 'passed' ? 'passed' : `failed by: ${reason(test)}`}: let it throw where the learner has to write, and the test come there`,
    );
}

function mistakeProblems(trial: Trial, { tests, fileErrors }: LabRun): string[] {
  const file = fileOf(trial);
  const path = join(ROOT, file);
  const mistake = attempt(() => readMistake(path));
  if (mistake instanceof Error) return [`${file}: ${mistake.message.replace(`${path}: `, '')}: add it`];
  if (attempt(() => applyMistake(trial.lab.files.solution, path)) instanceof Error) {
    return [`${file}: does not apply to the solution: make the diff again`];
  }
  if (tests.length === 0) return [`${file}: could not be run${because(fileErrors)}: correct the diff`];

  return mistake.rejectedBy.flatMap((name) => rejectionProblems(file, name, tests));
}

function rejectionProblems(file: string, name: string, tests: readonly TestResult[]): string[] {
  const named = tests.find((test) => test.name === name);
  if (!named) return [`${file}: no test is called "${name}": correct the line Rejected-by`];
  if (named.state === 'passed') {
    return [`${file}: survives: the test "${named.name}" does not reject it: sharpen the test`];
  }
  if (named.error?.name === 'AssertionError') return [];
  return [
    `${file}: must be rejected by an assertion of "${named.name}", not by: ${reason(named)}: let the test expect what it should see, or choose another mistake`,
  ];
}

function attempt<T>(work: () => T): T | Error {
  try {
    return work();
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function hintProblems(lab: Lab, tests: readonly string[]): string[] {
  const hints = shown(lab.files.hints);
  return [
    ...tests
      .filter((name) => helpFor(lab, name).hints.length === 0)
      .map((name) => `${hints}: no hints for the test "${name}": write "1. …" under "## ${name}"`),
    ...[...hintSections(lab).keys()]
      .filter((name) => !tests.includes(name))
      .map((name) => `${hints}: "${name}" is no test: rename the heading`),
  ];
}

const reason = ({ state, error }: TestResult): string =>
  error ? `${error.name}: ${error.message.split('\n')[0]}` : state;

const because = ([error]: LabRun['fileErrors']): string =>
  error ? ` (${error.message.split('\n')[0]?.replaceAll(`${ROOT}/`, '')})` : '';
