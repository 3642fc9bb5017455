import { existsSync } from 'node:fs';
import { shown } from '../base/root';
import type { Lab } from '../content/catalog';
import type { LabRun, TestResult } from '../run/messages';
import { titlesIn } from './ladder';
import { candidatesFor, fileOf, runOf, type Trial, trialOf, variantsOf } from './trials';
import { because, reason } from './words';

const VARIANTS_AT_LEAST = 2;

/** What the runs of a ladder show beyond that: what Core is, what production adds, and that the tests accept others. */
export const partProblems = (lab: Lab, runs: readonly LabRun[]): string[] => [
  ...coreProblems(lab, runs),
  ...variantProblems(lab, runs),
];

/** `core.ts` passes Core, and each test of In production rejects it by an assertion. */
function coreProblems(lab: Lab, runs: readonly LabRun[]): string[] {
  const core = shown(lab.files.core);
  const hasProduction = titlesIn(lab, 'production').length > 0;
  if (!existsSync(lab.files.core)) {
    return hasProduction
      ? [`${core} is missing: a lab with tests of In production keeps what passes Core alone`]
      : [];
  }
  if (!hasProduction)
    return [`${core}: the lab is Core only, so its solution is all that it needs: remove it`];
  // Where there is no run, that has been told.
  const run = runOf(runs, trialOf(lab, 'core'));
  if (!run) return [];
  if (run.tests.length === 0) {
    return [`${core}: its tests did not run${because(run.fileErrors)}: it must export what the tests import`];
  }
  return run.tests.flatMap((test) => {
    if (test.part === 'core') {
      return test.state === 'passed'
        ? []
        : [`${core}: fails "${test.name}" of Core (${reason(test)}): it must pass Core`];
    }
    return rejectionOfCore(core, test);
  });
}

function rejectionOfCore(core: string, test: TestResult): string[] {
  if (test.state === 'passed') {
    return [`${core}: passes "${test.name}" of In production: make it a test of Core, or sharpen it`];
  }
  if (test.error?.name === 'AssertionError') return [];
  return [
    `${core}: must be rejected by an assertion of "${test.name}", not by: ${reason(test)}: let the test expect what it should see`,
  ];
}

/** Other correct solutions: the tests refuse none of them. */
function variantProblems(lab: Lab, runs: readonly LabRun[]): string[] {
  const names = variantsOf(lab);
  const missing = VARIANTS_AT_LEAST - names.length;
  return [
    ...(missing > 0
      ? [
          `${shown(lab.files.variants)}: a lab keeps at least ${VARIANTS_AT_LEAST} correct solutions in other styles: add ${missing}`,
        ]
      : []),
    ...names.flatMap((name) => {
      const trial = trialOf(lab, `variants/${name}`);
      const run = runOf(runs, trial);
      return run ? refusals(trial, run) : [];
    }),
  ];
}

function refusals(trial: Trial, { tests, fileErrors }: LabRun): string[] {
  const file = fileOf(trial);
  if (tests.length === 0) return [`${file}: its tests did not run${because(fileErrors)}: correct it`];
  return [
    ...tests
      .filter(({ state }) => state !== 'passed')
      .map((test) => `${file}: is refused by "${test.name}" (${reason(test)}): fix the one or the other`),
    ...fileErrors.map(({ message }) => `${file}: ${message}: a variant must leave nothing behind`),
  ];
}

/** Every test of In production has a mistake that no other test rejects: without one nobody knows what it is for. */
export function soleProblems(lab: Lab, runs: readonly LabRun[]): string[] {
  return unprovenOf(lab, runs).map((title) => {
    const near = candidatesFor(lab, title).map((name) => {
      const others = runsOf(lab, name, runs)
        .flatMap(({ tests }) => tests)
        .filter((test) => test.state === 'failed' && test.name !== title);
      return others[0] ? ` (${name} is rejected by "${others[0].name}" too)` : '';
    });
    return `${shown(lab.files.test)}: no mistake is rejected by "${title}" alone${near[0] ?? ''}: add one, or make one test of both`;
  });
}

/** Tests of In production that no mistake has shown to be needed, in a run against all tests. */
export const unprovenOf = (lab: Lab, runs: readonly LabRun[]): string[] =>
  titlesIn(lab, 'production').filter((title) => {
    const tried = candidatesFor(lab, title).flatMap((name) => runsOf(lab, name, runs));
    return !tried.some(
      ({ tests }) =>
        tests.length > 0 &&
        tests.every(({ name, state }) => state === (name === title ? 'failed' : 'passed')),
    );
  });

/** A mistake may have been run twice: against the tests that it names, and against all. */
const runsOf = (lab: Lab, mistake: string, runs: readonly LabRun[]): LabRun[] =>
  runs.filter(({ place, subject }) => place === lab.place && subject === `mistakes/${mistake}`);
