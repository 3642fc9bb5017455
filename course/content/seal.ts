import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import type { Lab } from './catalog';

/** Whether a lab's test file is the one that was handed out: only that one can pass a lab. */
export type TestFile = 'as handed out' | 'missing' | 'emptied' | 'edited';

export function testFile(lab: Lab): TestFile {
  if (!existsSync(lab.files.test)) return 'missing';
  const text = readFileSync(lab.files.test, 'utf8');
  if (text.trim() === '') return 'emptied';
  return isSealed(lab, text) ? 'as handed out' : 'edited';
}

/** Whether `text` is the lab's test file as it was handed out. */
export const isSealed = (lab: Lab, text: string): boolean =>
  existsSync(lab.files.seal) && readFileSync(lab.files.seal, 'utf8').startsWith(digest(text));

/** What belongs into the seal: a line that `sha256sum -c` understands. */
export const sealFor = (lab: Lab): string =>
  `${digest(readFileSync(lab.files.test, 'utf8'))}  ../../../labs/${lab.place}/${lab.id}.test.ts\n`;

/** Line ends may differ from one checkout to the next. */
export const digest = (text: string): string =>
  createHash('sha256').update(text.replaceAll('\r\n', '\n')).digest('hex');
