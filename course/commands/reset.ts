import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Refusal } from '../base/refusal';
import { ROOT, shown } from '../base/root';
import type { Lab } from '../content/catalog';
import { brokenSeals, isSealed } from '../content/seal';
import { STATE } from '../run/progress';
import { choose } from './test';

/** `npm run reset`: the starter again, and the lab's own tests; the attempt is kept aside. Needs no git. */
export function reset(names: readonly string[]): number {
  for (const lab of choose(names)) console.log(resetLab(lab));
  return 0;
}

/** @returns what was done @throws {Refusal} where something could not be */
export function resetLab(lab: Lab): string {
  const { starter, pristine } = lab.files;
  if (!existsSync(pristine)) {
    throw new Refusal(
      `${shown(pristine)} is not there: this copy of the course is not complete. Get it again.`,
    );
  }
  const kept = setAside(lab);
  copyFileSync(pristine, starter);
  const done = [
    `${shown(starter)} is the starter again.`,
    ...(kept ? [`Your attempt is kept: ${kept} (copy it back to go on with it)`] : []),
  ];
  for (const { file } of brokenSeals(lab)) {
    const original = fromHistory(lab, file);
    if (original === undefined) {
      throw new Refusal(
        [
          ...done,
          `${shown(file)} is not the one that came with the course, and no git history here holds that one.`,
          'Get this one file again from where you got the course.',
        ].join('\n'),
      );
    }
    writeFileSync(file, original);
    done.push(`${shown(file)} is as handed out again.`);
  }
  return done.join('\n');
}

/** Copies the learner's file away unless it is the starter; returns where to. */
function setAside(lab: Lab): string | undefined {
  const { starter, pristine } = lab.files;
  if (!existsSync(starter)) return undefined;
  const attempt = readFileSync(starter, 'utf8');
  if (attempt === readFileSync(pristine, 'utf8')) return undefined;
  const folder = join(STATE, 'attempts');
  const path = join(folder, `${lab.id}-${new Date().toISOString().slice(0, -1).replace(/[:.]/g, '-')}.ts`);
  try {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path, attempt);
  } catch (error) {
    throw new Refusal(
      `Your attempt cannot be kept aside, so nothing was changed: ${error instanceof Error ? error.message : error}.\n` +
        `Make ${shown(STATE)} a folder that you may write, on a disk with room.`,
    );
  }
  return shown(path);
}

/** The file whose seal is in the tree, from any commit that touched it. */
function fromHistory(lab: Lab, file: string): string | undefined {
  const path = shown(file);
  const commits = git('log', '--all', '--format=%H', '--', path)?.split('\n').filter(Boolean) ?? [];
  for (const commit of commits) {
    // Relative to this folder: the course may be a part of somebody's own repository.
    const text = git('show', `${commit}:./${path}`);
    if (text !== undefined && isSealed(lab, file, text)) return text;
  }
  return undefined;
}

/** What git says; undefined without git, without a repository, or where it fails. */
function git(...args: string[]): string | undefined {
  try {
    return execFileSync('git', args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return undefined;
  }
}
