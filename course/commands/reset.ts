import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Lab, ROOT, shown } from '../catalog';
import { STATE } from '../progress';
import { digest, testFile } from '../seal';
import { choose } from './test';

/** `npm run reset`: the starter again, and the lab's own tests; the attempt is kept aside. Needs no git. */
export function reset(names: readonly string[]): number {
  return Math.max(...choose(names).map(resetLab));
}

export function resetLab(lab: Lab): number {
  const kept = setAside(lab);
  copyFileSync(lab.files.pristine, lab.files.starter);
  console.log(`${shown(lab.files.starter)} is the starter again.`);
  if (kept) console.log(`Your attempt is kept: ${kept}`);
  if (testFile(lab) === 'as handed out') return 0;

  const test = shown(lab.files.test);
  const original = fromHistory(lab);
  if (original === undefined) {
    console.error(
      `${test} is not the one that came with the course, and no git history here holds that one.`,
    );
    console.error('Download this one file again from where you got the course.');
    return 1;
  }
  writeFileSync(lab.files.test, original);
  console.log(`${test} is as handed out again.`);
  return 0;
}

/** Copies the learner's file away unless it is the starter; returns where to. */
function setAside(lab: Lab): string | undefined {
  if (!existsSync(lab.files.starter)) return undefined;
  const attempt = readFileSync(lab.files.starter, 'utf8');
  if (attempt === readFileSync(lab.files.pristine, 'utf8')) return undefined;
  const folder = join(STATE, 'attempts');
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `${lab.id}-${new Date().toISOString().replace(/[:.]/g, '-')}.ts`);
  writeFileSync(path, attempt);
  return shown(path);
}

/** The test file whose seal is in the tree, from any commit that touched it. */
function fromHistory(lab: Lab): string | undefined {
  const path = shown(lab.files.test);
  const seal = readFileSync(lab.files.seal, 'utf8');
  try {
    const git = (...args: string[]) =>
      execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    const commits = git('log', '--all', '--format=%H', '--', path).trim().split('\n').filter(Boolean);
    for (const commit of commits) {
      const text = blob(git, commit, path);
      if (text !== undefined && seal.startsWith(digest(text))) return text;
    }
  } catch {
    // No git, or a download without history.
  }
  return undefined;
}

function blob(git: (...args: string[]) => string, commit: string, path: string): string | undefined {
  try {
    return git('show', `${commit}:${path}`);
  } catch {
    // The commit that deleted it.
    return undefined;
  }
}
