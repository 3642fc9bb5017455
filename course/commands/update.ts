import { spawnSync } from 'node:child_process';
import { messageOf, writeRemedy } from '../base/files';
import { askGit, git, gitNames } from '../base/git';
import { Refusal } from '../base/refusal';
import { ROOT } from '../base/root';
import { progressBar } from '../screen/standing';
import { bold, cyan, dim, foldRows } from '../screen/terminal';
import { fetchStep, listed, requireClone, type Step } from './update-source';
import { type Begun, begunUpdate, recordBegun, recordDone } from './update-state';
import { filesOf, keep, learnersWork, type Outcome, putBack } from './update-work';

/**
 * `npm run update`: the newest version of the course, with the learner's work over it.
 *
 * Everything of the learner's is copied to `.course/attempts` before anything is changed, and what was begun is written
 * down: after an interruption at any moment the next run goes on. All code is loaded by then: the files of the course
 * change below it.
 */
export function update(): number {
  requireClone();
  const begun = begunUpdate();
  if (begun) {
    console.log('Going on with the update that was interrupted.\n');
    finish(begun);
    return 0;
  }
  const step = fetchStep();
  if (contains('HEAD', step.to)) {
    console.log('The course is up to date.');
    return 0;
  }
  refusePartlyStaged();
  finish({ version: 1, ...step, kept: [] });
  return 0;
}

function finish(begun: Begun): void {
  const { base, to } = begun;
  const commits = Number(git('rev-list', '--count', `${base}..${to}`));
  const kept = contains('HEAD', to) ? begun.kept : takeNewVersion(begun);
  const outcomes = putBack(begun, kept);
  console.log(
    `${bold('The course is updated')}: ${commits} new ${commits === 1 ? 'commit' : 'commits'}. What is new: CHANGELOG.md\n`,
  );
  for (const text of report(outcomes)) console.log(`${text}\n`);
  installPackages(begun);
  recordDone();
  console.log(foldRows(`${progressBar()}\nGo on: ${cyan('npm start')}`));
}

/** @returns all that is kept of the learner's */
function takeNewVersion(begun: Begun): Begun['kept'] {
  const commit = commitToBe(begun);
  const kept = [...begun.kept, ...keepAll(learnersWork(begun))];
  recordBegun({ ...begun, kept });
  try {
    // Not a merge: it would stop at the very files that are kept, and at those of an update that was interrupted.
    git('reset', '--hard', '--quiet', commit);
  } catch (error) {
    throw new Refusal(
      `${messageOf(error)}\n\nThe update is not finished. Nothing of yours is lost, and copies are in .course/attempts.\n` +
        'When git can work again: npm run update',
    );
  }
  return kept;
}

/** The new version itself; where the learner has committed work, a merge with it that keeps those commits. */
function commitToBe({ to }: Step): string {
  if (contains(to, 'HEAD')) return to;
  return git(
    'commit-tree',
    `${to}^{tree}`,
    '-p',
    'HEAD',
    '-p',
    to,
    '-m',
    'A new version of the course',
  ).trim();
}

function keepAll(paths: readonly string[]) {
  try {
    return keep(paths);
  } catch (error) {
    throw new Refusal(
      `Your files cannot be kept aside, so nothing was changed: ${messageOf(error)}.\n${writeRemedy(error)}`,
    );
  }
}

/** Whether `commit` is `other` or comes after it. */
const contains = (commit: string, other: string): boolean =>
  askGit('merge-base', '--is-ancestor', other, commit) !== undefined;

/** What was staged and edited again exists only in git's index, which an update replaces. */
function refusePartlyStaged(): void {
  const staged = new Set(gitNames('diff', '--cached', '--name-only', '-z'));
  const both = gitNames('diff', '--name-only', '-z').filter((path) => staged.has(path));
  if (both.length === 0) return;
  throw new Refusal(
    `These files are staged, and were edited after that:\n${listed(both)}\n` +
      'Nothing was changed. Commit them, or take them off the stage (git reset), then run npm run update again.',
  );
}

function report(outcomes: readonly Outcome[]): string[] {
  const of = (fate: Outcome['fate']) => outcomes.filter((outcome) => outcome.fate === fate);
  const section = (title: string, rows: readonly string[]) =>
    rows.length > 0 ? [[title, ...rows].join('\n')] : [];
  const both = ({ path, copy }: Outcome) =>
    `  ${path}\n    ${dim('yours')}  ${copy}\n    ${dim('both')}   git diff --no-index ${copy} ${path}`;
  return [
    ...section(
      'Your work is back in its place:',
      of('put back').map(({ path }) => `  ${path}`),
    ),
    ...section(
      'Changed in the new version. The new file is in its place, and yours is kept:',
      of('changed').map(both),
    ),
    ...section(
      'Edited after the update was interrupted. That is left as it is; before it you had:',
      of('edited since').map(both),
    ),
    ...section(
      'Of labs that the course no longer has. Your files are kept:',
      of('lab gone').map(({ copy }) => `  ${copy}`),
    ),
  ];
}

function installPackages({ base, to }: Step): void {
  const [before, after] = [filesOf(base), filesOf(to)];
  if (before.get('package-lock.json') === after.get('package-lock.json')) return;
  console.log('The packages of the course have changed: npm ci');
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund'], { cwd: ROOT, stdio: 'inherit' });
  if (status !== 0) {
    throw new Refusal(
      'The packages could not be installed; the rest of the update is done.\nRun it again: npm run update',
    );
  }
  console.log();
}
