import { accessSync, constants, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Refusal } from './refusal';
import { ROOT, shown } from './root';

/** The text of a file of the checkout. @throws {Refusal} where it is a folder, or may not be read */
export function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'EISDIR') {
      throw new Refusal(
        `${shown(file)} is a folder, and the course needs a file there. Move the folder away.`,
      );
    }
    if (['EACCES', 'EPERM'].includes(errorCode(error))) {
      throw new Refusal(`${shown(file)} may not be read by you. Allow it: chmod u+rw ${shown(file)}`);
    }
    throw error;
  }
}

/** Makes a folder and those above it. Node says ENOENT of a read-only file system; here the reason is the real one. */
export function makeFolder(folder: string): void {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    if (errorCode(error) === 'ENOENT') accessSync(nearestFolder(folder), constants.W_OK);
    throw error;
  }
}

const nearestFolder = (path: string): string => (existsSync(path) ? path : nearestFolder(dirname(path)));

/** `EACCES`, `ENOENT`, …; empty for an error that is not the system's. */
export const errorCode = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : '';

/** What was to be written and was not, and what helps. */
export function cannotWrite(path: string, error: unknown): Refusal {
  return new Refusal(`${path} cannot be written: ${messageOf(error)}.\n${writeRemedy(error)}`);
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** What helps depends on why: no ownership makes a full or a read-only disk take more. */
export function writeRemedy(error: unknown): string {
  switch (errorCode(error)) {
    case 'EROFS':
      return 'The file system is read-only: copy the folder of the course to a disk that can be written, and work there.';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'The disk is full: free some space.';
    case 'EEXIST':
    case 'EISDIR':
    case 'ENOTDIR':
      return 'Something else has that name: move it away.';
    default:
      return `Make the files of the course yours: sudo chown -R "$(id -u)" ${ROOT}`;
  }
}
