import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../base/files';
import { ROOT } from '../base/root';

const FOLDER = join(ROOT, '.course');
const FILE = join(FOLDER, 'last-incident');

export function lastIncident(): string | undefined {
  try {
    return readFileSync(FILE, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** A folder that cannot be written costs no more than the same incident twice. */
export function rememberIncident(name: string): void {
  try {
    makeFolder(FOLDER);
    writeFileSync(FILE, `${name}\n`);
  } catch {}
}
