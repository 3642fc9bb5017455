import { cpSync, lstatSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { git, gitNames } from '../base/git';
import { Refusal } from '../base/refusal';
import { ROOT, shown } from '../base/root';
import { STATE } from '../run/state-file';
import { listed, type Step } from './update-source';

/** A file of the learner's and its copy, both relative to the course. */
export interface Kept {
  readonly path: string;
  readonly copy: string;
}

/** What became of a kept file; `path` is where the new version has it. */
export interface Outcome extends Kept {
  readonly fate: 'put back' | 'changed' | 'lab gone' | 'edited since';
}

/** The learner's files: those in labs/ that are in neither version. @throws {Refusal} for files outside of labs/ */
export function learnersWork({ base, to }: Step): string[] {
  const [before, after] = [filesOf(base), filesOf(to)];
  const isNew = [...after.keys()].filter((path) => !before.has(path));
  const candidates = new Set([
    ...gitNames('diff', '--name-only', '-z', base),
    ...gitNames('ls-files', '--others', '--exclude-standard', '-z', 'labs'),
    // Also what git ignores, and a file where the new version has a folder.
    ...isNew.flatMap(withParents).filter((path) => typeOf(path) === 'file'),
  ]);
  const present = [...candidates].filter((path) => typeOf(path) === 'file');
  const hashes = blobsOf(present);
  const work = present.filter((path) => {
    const blob = hashes.get(path);
    return blob !== before.get(path) && blob !== after.get(path);
  });
  const outside = work.filter((path) => !path.startsWith('labs/'));
  const folders = isNew.filter((path) => typeOf(path) === 'folder');
  if (outside.length + folders.length > 0) {
    throw new Refusal(
      `Files outside of labs/ are not as the course has them:\n${listed([...outside, ...folders])}\n` +
        'None of them was touched. Set them aside (git stash push --include-untracked -- FILES), or take the version of\n' +
        'the course (git restore FILES). Then run npm run update again; git stash pop brings the changes back.',
    );
  }
  return work;
}

/** Copies the files to where nothing overwrites them. */
export function keep(paths: readonly string[]): Kept[] {
  const time = new Date().toISOString().slice(0, -1).replace(/[:.]/g, '-');
  const folder = shown(join(STATE, 'attempts', `update-${time}`));
  return paths.map((path) => {
    const copy = join(folder, path);
    copyFile(path, copy);
    return { path, copy };
  });
}

/** Puts each file back whose original is the same in both versions. May be done again after an interruption. */
export function putBack({ base, to }: Step, kept: readonly Kept[]): Outcome[] {
  const [before, after] = [filesOf(base), filesOf(to)];
  const folders = labFolders([...after.keys()]);
  // After an interruption a file may have been kept twice: the later copy is the learner's last word.
  const latest = new Map(kept.map(({ path, copy }) => [path, copy]));
  return [...latest].map(([old, copy]): Outcome => {
    const path = placeNow(old, folders);
    const mine = blobOf(copy);
    const there = path && blobOf(path);
    if (path !== old && blobOf(old) === mine) removeFile(old);
    if (path === undefined) return { path: old, copy, fate: 'lab gone' };
    if (there === mine) return { path, copy, fate: 'put back' };
    if (there !== after.get(path)) return { path, copy, fate: 'edited since' };
    if (before.get(old) !== after.get(path)) return { path, copy, fate: 'changed' };
    copyFile(copy, path);
    return { path, copy, fate: 'put back' };
  });
}

const LAB_FILE = /^(labs\/[^/]+\/\d\d-([^/]+))\/(.+)$/;

/** The folders of labs by their ids: a lab may have another number, or be in another chapter. */
function labFolders(paths: readonly string[]): Map<string, string> {
  return new Map(
    paths.flatMap((path) => {
      const [, folder = '', id] = LAB_FILE.exec(path) ?? [];
      return id === undefined ? [] : [[id, folder] as const];
    }),
  );
}

/** @returns undefined where the lab is not in the course any more */
function placeNow(path: string, folders: ReadonlyMap<string, string>): string | undefined {
  const [, , id, rest = ''] = LAB_FILE.exec(path) ?? [];
  if (id === undefined) return path;
  const folder = folders.get(id);
  return folder && `${folder}/${rest}`;
}

/** Paths of a commit with the ids of their contents. */
export function filesOf(commit: string): Map<string, string> {
  return new Map(
    gitNames('ls-tree', '-r', '-z', commit).map((row) => {
      const [about = '', path = ''] = row.split('\t');
      return [path, about.split(' ')[2] ?? ''] as const;
    }),
  );
}

/** The ids that git would give to the contents of these files. A symbolic link has none, and equals nothing. */
function blobsOf(paths: readonly string[]): Map<string, string> {
  const plain = paths.filter((path) => lstatSync(join(ROOT, path)).isFile());
  if (plain.length === 0) return new Map();
  const ids = git('hash-object', '--', ...plain).split('\n');
  return new Map(plain.map((path, index) => [path, ids[index] ?? '']));
}

const blobOf = (path: string): string | undefined =>
  typeOf(path) === 'file' ? blobsOf([path]).get(path) : undefined;

function typeOf(path: string): 'file' | 'folder' | undefined {
  try {
    return lstatSync(join(ROOT, path)).isDirectory() ? 'folder' : 'file';
  } catch {
    // Nothing is there, or a file is where the path has a folder.
    return undefined;
  }
}

function withParents(path: string): string[] {
  const parts = path.split('/');
  return parts.map((_, index) => parts.slice(0, index + 1).join('/'));
}

/** With its mode, and its time: the lab that was edited last is the current one. */
function copyFile(from: string, to: string): void {
  cpSync(join(ROOT, from), join(ROOT, to), { preserveTimestamps: true, verbatimSymlinks: true });
}

/** And the folders that are empty then. */
function removeFile(path: string): void {
  rmSync(join(ROOT, path));
  for (let folder = dirname(path); folder !== 'labs'; folder = dirname(folder)) {
    try {
      rmdirSync(join(ROOT, folder));
    } catch {
      return;
    }
  }
}
