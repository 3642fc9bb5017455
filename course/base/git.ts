import { spawnSync } from 'node:child_process';
import { Refusal } from './refusal';
import { ROOT } from './root';

/** What git prints, in the folder of the course. @throws {Refusal} in git's own words where it fails */
export function git(...args: readonly string[]): string {
  const { error, status, stdout, stderr } = spawnSync('git', args, {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  if (error && 'code' in error && error.code === 'ENOENT') {
    throw new Refusal('git is not installed, and this command needs it: https://git-scm.com/downloads');
  }
  if (error) throw error;
  if (status !== 0) throw new Refusal(`git ${args[0]} failed:\n${stderr.trim()}`);
  return stdout;
}

/** The same; undefined without git, without a repository, or where git fails. */
export function askGit(...args: readonly string[]): string | undefined {
  try {
    return git(...args);
  } catch {
    return undefined;
  }
}

/** The names that git prints with `-z`. */
export const gitNames = (...args: readonly string[]): string[] =>
  git(...args)
    .split('\0')
    .filter(Boolean);
