import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { readText } from '../base/files';
import type { Lab } from './catalog';
import { givenFiles } from './given';

/** Whether a sealed file is the one that was handed out: a lab can be passed only with those. */
export type Sealed = 'as handed out' | 'missing' | 'emptied' | 'edited';

/** The state of a lab's sealed files, the test file and what is given: of the first that is not as handed out. */
export const testFile = (lab: Lab): Sealed => brokenSeals(lab)[0]?.state ?? 'as handed out';

/** The sealed files that are not as they were handed out, by path. */
export function brokenSeals(lab: Lab): { readonly file: string; readonly state: Sealed }[] {
  return [...new Set([lab.files.test, ...namesIn(lab), ...givenFiles(lab)])]
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
const digestIn = (lab: Lab, file: string): string | undefined =>
  linesOf(lab)
    .find((line) => line.endsWith(`/${nameIn(lab, file)}`))
    ?.split(' ')[0];

/** The files that the seal names: one of them may be missing. */
const namesIn = (lab: Lab): string[] =>
  linesOf(lab).flatMap((line) => {
    const name = /\/labs\/[^/]+\/[^/]+\/(.+)$/.exec(line)?.[1];
    return name ? [join(dirname(lab.files.test), name)] : [];
  });

const linesOf = ({ files }: Lab): string[] =>
  existsSync(files.seal) ? readFileSync(files.seal, 'utf8').split(/\r?\n/).filter(Boolean) : [];

/** `parts/codec.ts` */
const nameIn = ({ files }: Lab, file: string): string =>
  relative(dirname(files.test), file).replaceAll(sep, '/');

/** What belongs into the seal: a line for each file, as `sha256sum -c` understands it. */
export function sealFor(lab: Lab): string {
  return [lab.files.test, ...givenFiles(lab)]
    .filter(existsSync)
    .map((file) => `${digest(readFileSync(file, 'utf8'))}  ../../../labs/${lab.place}/${nameIn(lab, file)}\n`)
    .join('');
}

/** Line ends may differ from one checkout to the next. */
export const digest = (text: string): string =>
  createHash('sha256').update(text.replaceAll('\r\n', '\n')).digest('hex');
