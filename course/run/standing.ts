import { existsSync, readFileSync, statSync } from 'node:fs';
import type { Lab } from '../content/catalog';
import { givenFiles } from '../content/given';
import { PATHS, type Path, paths } from '../content/paths';
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
 * The lab last named or edited until it is passed, or done as far as the path asks that the learner follows; else
 * what comes next. Undefined when all are passed.
 */
export function currentLab(labs: readonly Lab[]): Lab | undefined {
  const progress = readProgress();
  const steps = followedSteps(labs);
  const isOpen = (lab: Lab): boolean => {
    const asked = steps.filter((step) => step.lab.id === lab.id);
    return (asked.length > 0 ? asked : [{ kind: 'Lab' }]).some(
      ({ kind }) => !isDone(kind, standingOf(lab, progress)),
    );
  };
  return lastTouched(labs.filter(isOpen), progress) ?? nextLab(labs);
}

/**
 * The first lab of the path that is not done, else the first whose Core is not green, else the first with production
 * tests to go; undefined when all are passed.
 *
 * @param after where to begin: what stands before it comes last
 */
export function nextLab(labs: readonly Lab[], after?: Lab): Lab | undefined {
  const progress = readProgress();
  const steps = from(followedSteps(labs), ({ lab }) => lab.id === after?.id);
  const step = steps.find(({ kind, lab }) => !isDone(kind, standingOf(lab, progress)));
  if (step) return step.lab;
  const open = from(labs, ({ id }) => id === after?.id).filter(({ id }) => !(id in progress.passed));
  return open.find(({ id }) => !(id in progress.core)) ?? open[0];
}

/** @param kind what a path asks: `Core`, `Lab` or `Drill` */
export const isDone = (kind: string, standing: Standing): boolean =>
  standing.startsWith('passed') || (kind === 'Core' && standing === 'core');

/** The path that the learner follows; undefined where it is the order of the course. */
export function followedPath(): Path | undefined {
  const { path } = readProgress();
  return path === null || !existsSync(PATHS) ? undefined : paths().find(({ id }) => id === path);
}

/** Its labs, and what it asks of each. */
function followedSteps(labs: readonly Lab[]): { kind: string; lab: Lab }[] {
  const steps = followedPath()?.groups.flatMap((group) => group.steps) ?? [];
  return steps.flatMap(({ kind, lesson }) => {
    const lab = kind === 'Read' ? undefined : labs.find(({ files }) => files.lesson === lesson);
    return lab ? [{ kind, lab }] : [];
  });
}

/** What follows the entry, then what stands before it; all where there is none. */
function from<T>(all: readonly T[], isEntry: (each: T) => boolean): T[] {
  const place = all.findIndex(isEntry);
  return [...all.slice(place + 1), ...all.slice(0, Math.max(0, place))];
}

function lastTouched(labs: readonly Lab[], { named }: Progress): Lab | undefined {
  const edited = labs
    .map((lab) => ({ lab, at: editedAt(lab.files.starter) }))
    .filter(({ lab, at }) => at > (named?.at ?? 0) && !isStarter(lab))
    .sort((a, b) => b.at - a.at);
  return edited[0]?.lab ?? labs.find(({ id }) => id === named?.lab);
}

export const editedAt = (file: string): number => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

export const isStarter = ({ files }: Lab): boolean => textOf(files.starter) === textOf(files.pristine);

/** Empty for what cannot be read. */
function textOf(file: string): string {
  try {
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  } catch {
    return '';
  }
}
