import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { STATE } from '../run/state-file';
import type { Step } from './update-source';
import type { Kept } from './update-work';

/** An update that has begun: everything of the learner's that it may touch is copied. */
export interface Begun extends Step {
  readonly version: 1;
  readonly kept: readonly Kept[];
}

const FILE = join(STATE, 'update.json');

/** The update that was interrupted; undefined where its record cannot be read: the copies are there without it. */
export function begunUpdate(): Begun | undefined {
  if (!existsSync(FILE)) return undefined;
  try {
    return JSON.parse(readFileSync(FILE, 'utf8'));
  } catch {
    return undefined;
  }
}

export function recordBegun(begun: Begun): void {
  const next = `${FILE}.${process.pid}`;
  mkdirSync(STATE, { recursive: true });
  writeFileSync(next, `${JSON.stringify(begun, null, 2)}\n`);
  renameSync(next, FILE);
}

export const recordDone = (): void => rmSync(FILE);

/** Said before every other command, until the update is finished. */
export function unfinishedNote(): string | undefined {
  const begun = begunUpdate();
  if (!begun) return undefined;
  const [first] = begun.kept;
  const where = first ? ` Your files are in ${first.copy.split('/').slice(0, 3).join('/')}.` : '';
  return `An update of the course was interrupted. Finish it: npm run update.${where}\n`;
}
