import { existsSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cannotWrite, makeFolder, messageOf, readText, writeRemedy } from '../base/files';
import { askGit } from '../base/git';
import { messageOrThrow, Refusal } from '../base/refusal';
import { shown } from '../base/root';
import type { Lab } from '../content/catalog';
import { brokenSeals, isSealed } from '../content/seal';
import { editedAt } from '../run/standing';
import { STATE } from '../run/state-file';
import { foldRows } from '../screen/terminal';
import { choose } from './test';

/** Where attempts are kept. */
export const ATTEMPTS = join(STATE, 'attempts');

/** `npm run reset`: the starter again, and the lab's own tests; the attempt is kept aside. Needs no git. */
export function reset(names: readonly string[]): number {
  for (const lab of choose(names)) console.log(foldRows(resetLab(lab)));
  return 0;
}

/** @returns what was done @throws {Refusal} where something could not be */
export function resetLab(lab: Lab): string {
  const { starter, pristine, hints } = lab.files;
  if (!existsSync(pristine)) {
    throw new Refusal(
      `${shown(pristine)} is not there: this copy of the course is not complete. Get it again.`,
    );
  }
  const kept = setAside(lab);
  put(starter, readText(pristine));
  const done = [
    `${shown(starter)} is the starter again.`,
    ...(kept ? [`Your attempt is kept: ${kept} (copy it back to go on with it)`] : []),
  ];
  // A lab without its hints can be passed; without its tests it cannot.
  const handedOut = existsSync(hints) ? undefined : fromHistory(hints);
  if (handedOut !== undefined) {
    put(hints, handedOut);
    done.push(`${shown(hints)} is there again.`);
  }
  for (const { file, state } of brokenSeals(lab)) {
    const original = fromHistory(file, (text) => isSealed(lab, file, text));
    if (original === undefined) {
      const what = state === 'missing' ? 'is not there' : 'is not the one that came with the course';
      throw new Refusal(
        [
          ...done,
          `${shown(file)} ${what}, and no git history here holds that one.`,
          'Get this one file again from where you got the course.',
        ].join('\n'),
      );
    }
    put(file, original);
    done.push(`${shown(file)} is as handed out again.`);
  }
  return done.join('\n');
}

/** Resets the lab. @returns what was done, or why it could not be; nothing more once the file has changed */
export function resetForNow(lab: Lab): () => string {
  let words: string;
  try {
    words = foldRows(resetLab(lab));
  } catch (error) {
    words = messageOrThrow(error);
  }
  const at = editedAt(lab.files.starter);
  return () => (editedAt(lab.files.starter) === at ? words : '');
}

/** Writes a file of a lab, of which the whole folder may be gone. */
function put(file: string, text: string): void {
  try {
    makeFolder(dirname(file));
    writeFileSync(file, text);
  } catch (error) {
    throw cannotWrite(shown(file), error);
  }
}

/** Copies the learner's file away unless it is the starter; returns where to. */
function setAside(lab: Lab): string | undefined {
  const { starter, pristine } = lab.files;
  if (!existsSync(starter)) return undefined;
  const attempt = readText(starter);
  if (attempt === readText(pristine)) return undefined;
  const path = join(ATTEMPTS, `${lab.id}-${new Date().toISOString().slice(0, -1).replace(/[:.]/g, '-')}.ts`);
  try {
    makeFolder(ATTEMPTS);
    writeFileSync(path, attempt);
  } catch (error) {
    throw new Refusal(
      `Your attempt cannot be kept aside, so nothing was changed: ${messageOf(error)}.\n${writeRemedy(error)}`,
    );
  }
  return shown(path);
}

/** What a file held in the newest commit in which it was as `wanted`. */
function fromHistory(file: string, wanted: (text: string) => boolean = () => true): string | undefined {
  const path = shown(file);
  const commits = askGit('log', '--all', '--format=%H', '--', path)?.split('\n').filter(Boolean) ?? [];
  for (const commit of commits) {
    // Relative to this folder: the course may be a part of somebody's own repository.
    const text = askGit('show', `${commit}:./${path}`);
    if (text !== undefined && wanted(text)) return text;
  }
  return undefined;
}
