import { join } from 'node:path';
import { ROOT, shown } from '../base/root';
import { type Lab, mistakesOf } from '../content/catalog';
import { applyMistake, readMistake } from '../content/mistake';
import type { LabRun, TestResult } from '../run/messages';
import { hasDefects } from './page';
import { partProblems } from './parts';
import { fileOf, rejectionsOf, runOf, type Trial, trialsOf } from './trials';
import { because, reason } from './words';

/** What a lab's runs show: the solution passes, the starter fails as a starter, and each mistake is rejected. */
export function runProblems(lab: Lab, runs: readonly LabRun[]): string[] {
  const trials = trialsOf(lab).map((trial) => ({ trial, run: runOf(runs, trial) }));
  const [solution, starter] = trials;
  const mistakes = trials.filter(({ trial }) => trial.subject.startsWith('mistakes/'));
  // Where there is no run, that has been told.
  if (!solution?.run) return [];
  const results = solution.run.tests;
  const names = results.map(({ name }) => name);
  // Where the solution fails, nothing else can be told.
  if (names.length === 0 || results.some(({ state }) => state !== 'passed')) {
    return solutionProblems(lab, solution.run);
  }
  const rejecting = new Set(mistakesOf(lab).flatMap((name) => rejectionsOf(lab, name)));
  const idle = names.filter((name) => !rejecting.has(name));
  return [
    ...solutionProblems(lab, solution.run),
    ...(starter?.run ? starterProblems(lab, starter.run) : []),
    ...mistakes.flatMap(({ trial, run }) => (run ? mistakeProblems(trial, run) : [])),
    ...idle.map(
      (name) =>
        `${shown(lab.files.test)}: no mistake is rejected by the test "${name}": add the one it is for, or a line Rejected-by`,
    ),
    ...partProblems(lab, runs),
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
          : `${solution}: fails its own test "${result.name}" (${reason(result)}): fix the one or the other`,
      ),
    ...fileErrors.map(({ message }) => `${solution}: ${message}: the tests must leave nothing behind`),
    ...(ms > 25_000
      ? [`${test}: took ${Math.round(ms)} ms beside other work: alone it must finish in 2 s`]
      : []),
  ];
}

function starterProblems(lab: Lab, { tests, fileErrors }: LabRun): string[] {
  const starter = shown(lab.files.pristine);
  if (tests.length === 0) {
    return [`${starter}: its tests did not run${because(fileErrors)}: it must load`];
  }
  const [wanted, remedy] = hasDefects(lab)
    ? ['an assertion', 'each test is for one defect of the starter, and must expect what it should see']
    : ['"not implemented"', 'let it throw where the learner has to write, and the test come there'];
  const isWanted = ({ error }: TestResult) =>
    hasDefects(lab) ? error?.name === 'AssertionError' : error?.message.includes('not implemented');
  return tests
    .filter((test) => !isWanted(test))
    .map(
      (test) =>
        `${starter}: the test "${test.name}" must fail by ${wanted} and ${test.state === 'passed' ? 'passed' : `failed by: ${reason(test)}`}: ${remedy}`,
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
