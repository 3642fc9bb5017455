import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { messageOf } from '../base/files';
import { askGit, git, gitNames } from '../base/git';
import { Refusal } from '../base/refusal';
import { ROOT } from '../base/root';

/** Two commits: what this clone has of the course, and what it is to have. */
export interface Step {
  readonly base: string;
  readonly to: string;
}

/** What git calls it while it waits for an answer, by the file that it leaves. */
const UNDER_WAY = {
  MERGE_HEAD: 'merge',
  'rebase-merge': 'rebase',
  'rebase-apply': 'rebase',
  CHERRY_PICK_HEAD: 'cherry-pick',
  REVERT_HEAD: 'revert',
};

/** @throws {Refusal} where git cannot change this folder */
export function requireClone(): void {
  git('--version');
  if (!existsSync(join(ROOT, '.git'))) {
    throw new Refusal(
      'This folder is not a git clone of the course (a zip file, or a part of another repository),\n' +
        'so it cannot be updated in place. Clone the course into a new folder, and copy there what is yours:\n' +
        'the files of labs/ that you have edited, and the folder .course.',
    );
  }
  for (const [file, what] of Object.entries(UNDER_WAY)) {
    if (existsSync(resolve(ROOT, git('rev-parse', '--git-path', file).trim()))) {
      throw new Refusal(
        `A ${what} is under way in this clone. End it first: git ${what} --continue, or git ${what} --abort`,
      );
    }
  }
}

/** The newest version of the course, fetched; nothing of this folder is changed. @throws {Refusal} */
export function fetchStep(): Step {
  const { remote, branch } = source();
  try {
    git('fetch', '--quiet', remote, branch);
  } catch (error) {
    throw new Refusal(`No newer version could be fetched, and nothing was changed.\n${messageOf(error)}`);
  }
  const to = git('rev-parse', 'FETCH_HEAD').trim();
  const base = askGit('merge-base', 'HEAD', to)?.trim();
  if (!base) {
    throw new Refusal(
      `This clone and ${branch} of ${remote} have no commit in common: is it the same course?\n` +
        `Where it comes from: git remote get-url ${remote}`,
    );
  }
  refuseForeignCommits(base, `${remote} ${branch}`);
  return { base, to };
}

/** Where the branch comes from; in a fork the remote that is called upstream. */
function source(): { remote: string; branch: string } {
  const own = askGit('symbolic-ref', '--quiet', '--short', 'HEAD')?.trim();
  if (!own) {
    throw new Refusal(
      'No branch is checked out here (a detached HEAD). Go to the one of the course: git switch main',
    );
  }
  const remotes = git('remote').split('\n').filter(Boolean);
  if (remotes.includes('upstream')) return { remote: 'upstream', branch: 'main' };
  if (remotes.length === 0) {
    throw new Refusal(
      'This clone has no remote, so there is nowhere to get a newer version from.\n' +
        'Name the repository of the course: git remote add upstream URL',
    );
  }
  const remote = askGit('config', `branch.${own}.remote`)?.trim();
  const branch = askGit('config', `branch.${own}.merge`)?.trim().replace('refs/heads/', '');
  if (remote && branch) return { remote, branch };
  throw new Refusal(
    `The branch ${own} follows no branch of a remote, so it is not clear where a newer version would come from.\n` +
      `Let it follow one: git branch --set-upstream-to=${remotes[0]}/main`,
  );
}

/** Commits that touch labs/ alone are a learner's work, and are kept. */
function refuseForeignCommits(base: string, newer: string): void {
  const files = gitNames('diff', '--name-only', '-z', base, 'HEAD').filter(
    (path) => !path.startsWith('labs/'),
  );
  if (files.length === 0) return;
  throw new Refusal(
    `Commits here that the course does not have change files outside of labs/:\n${listed(files)}\n` +
      `Nothing was changed. Take them off this branch, or merge by hand: git pull --no-rebase ${newer}`,
  );
}

export const listed = (paths: readonly string[]): string => paths.map((path) => `  ${path}`).join('\n');
