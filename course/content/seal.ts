import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { readText } from '../base/files';
import type { Lab } from './catalog';

/** Whether a sealed file is the one that was handed out: a lab can be passed only with those. */
export type Sealed = 'as handed out' | 'missing' | 'emptied' | 'edited';

/** The state of a lab's sealed files, the test file and `given.ts`: of the first that is not as handed out. */
export const testFile = (lab: Lab): Sealed => brokenSeals(lab)[0]?.state ?? 'as handed out';

/** The sealed files that are not as they were handed out, by path. */
export function brokenSeals(lab: Lab): { readonly file: string; readonly state: Sealed }[] {
  const { test, given } = lab.files;
  // Not every lab provides something.
  return [test, ...(digestIn(lab, given) || existsSync(given) ? [given] : [])]
    .map((file) => ({ file, state: stateOf(lab, file) }))
    .filter(({ state }) => state !== 'as handed out');
}

function stateOf(lab: Lab, file: string): Sealed {
  if (!existsSync(file)) return 'missing';
  const text = readText(file);
  if (text.trim() === '') return 'emptied';
  return isSealed(lab, file, text) ? 'as handed out' : 'edited';
}

/** Whether `text` is what the sealed file held when it was handed out. */
export const isSealed = (lab: Lab, file: string, text: string): boolean =>
  digestIn(lab, file) === digest(text);

/** What the seal says of a file. */
function digestIn({ files }: Lab, file: string): string | undefined {
  if (!existsSync(files.seal)) return undefined;
  const line = readFileSync(files.seal, 'utf8')
    .split(/\r?\n/)
    .find((candidate) => candidate.endsWith(`/${basename(file)}`));
  return line?.split(' ')[0];
}

/** What belongs into the seal: a line for each file, as `sha256sum -c` understands it. */
export function sealFor(lab: Lab): string {
  return [lab.files.test, lab.files.given]
    .filter(existsSync)
    .map((file) => `${digest(readFileSync(file, 'utf8'))}  ../../../labs/${lab.place}/${basename(file)}\n`)
    .join('');
}

/** Line ends may differ from one checkout to the next. */
export const digest = (text: string): string =>
  createHash('sha256').update(text.replaceAll('\r\n', '\n')).digest('hex');
