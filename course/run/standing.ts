import { existsSync, readFileSync, statSync } from 'node:fs';
import type { Lab } from '../content/catalog';
import { givenFiles } from '../content/given';
import { digest } from '../content/seal';
import { type Progress, readProgress } from './progress';

/** Where a lab stands: ·, ◐ or ●. An earlier version was passed, and the tests have changed since. */
export type Standing = 'open' | 'core' | 'passed' | 'passed earlier';

export function standingOf(lab: Lab, progress: Progress = readProgress()): Standing {
  const pass = progress.passed[lab.id];
  if (!pass) return lab.id in progress.core ? 'core' : 'open';
  const same = pass.tests === '' ? !isLadder(textOf(lab.files.test)) : pass.tests === versionOf(lab);
  return same ? 'passed' : 'passed earlier';
}

/** Digest of what a pass is a pass of: the tests, and what the lab provides. */
export const versionOf = (lab: Lab): string =>
  digest([lab.files.test, ...givenFiles(lab)].map(textOf).join(''));

export const isPassed = (lab: Lab): boolean => lab.id in readProgress().passed;

/** Core and In production, instead of the one list that labs had before. */
export const isLadder = (tests: string): boolean => /^describe\('Core'/m.test(tests);

export const hasProduction = (tests: string): boolean => /^describe\('In production'/m.test(tests);

/**
 * The lab last named or edited until it is passed, else the first whose Core is not green, else the first with
 * production tests to go; undefined when all are passed.
 */
export function currentLab(labs: readonly Lab[]): Lab | undefined {
  const progress = readProgress();
  const open = labs.filter((lab) => !(lab.id in progress.passed));
  return lastTouched(open, progress) ?? nextLab(open);
}

/** What comes after the labs that are done. */
export function nextLab(labs: readonly Lab[]): Lab | undefined {
  const { passed, core } = readProgress();
  const open = labs.filter((lab) => !(lab.id in passed));
  return open.find((lab) => !(lab.id in core)) ?? open[0];
}

function lastTouched(labs: readonly Lab[], { named }: Progress): Lab | undefined {
  const edited = labs
    .map((lab) => ({ lab, at: editedAt(lab.files.starter) }))
    .filter(({ lab, at }) => at > (named?.at ?? 0) && !isStarter(lab))
    .sort((a, b) => b.at - a.at);
  return edited[0]?.lab ?? labs.find(({ id }) => id === named?.lab);
}

const editedAt = (file: string): number => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

const isStarter = ({ files }: Lab): boolean => textOf(files.starter) === textOf(files.pristine);

/** Empty for what cannot be read. */
function textOf(file: string): string {
  try {
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  } catch {
    return '';
  }
}
