import { type Dirent, type FSWatcher, readdirSync, type Stats, statSync, watch } from 'node:fs';
import { join } from 'node:path';

/** An editor writes a file in several steps; one answer is enough. */
const SETTLES_MS = 25;
const LOOKS_EVERY_MS = 300;
/** Code and data. What editors put beside a file on saving (4913, .lru.ts.swp, #lru.ts#, lru.ts~) is neither. */
const SOURCE = /^[^.#].*\.(?:[cm]?[jt]s|json)$/;
const OWN_FOLDER = /^(?!node_modules$)[^.]+$/;

/**
 * Tells once of each change of the code in a folder, the folder's own going and coming included.
 *
 * A look at the folder every 300 ms finds every change; what the system tells of the folder only makes the next look
 * come sooner. So it works where the system tells nothing: no inotify instance is left, the disk is on the network,
 * a branch switch has put another folder in the place of this one.
 * @returns the way to stop
 */
export function watchFolder(folder: string, changed: () => void): () => void {
  let known = snapshot(folder);
  let settling: NodeJS.Timeout | undefined;
  const look = () => {
    const now = snapshot(folder);
    if (now === known) return;
    known = now;
    changed();
  };
  const soon = () => {
    clearTimeout(settling);
    settling = setTimeout(look, SETTLES_MS);
  };
  const events = new FolderEvents(folder, soon);
  const looks = setInterval(() => {
    events.renew();
    if (snapshot(folder) !== known) soon();
  }, LOOKS_EVERY_MS);
  return () => {
    clearInterval(looks);
    clearTimeout(settling);
    events.close();
  };
}

/** What the system tells of a folder, as far as it does. */
class FolderEvents {
  readonly #folder: string;
  readonly #told: () => void;
  #watcher: FSWatcher | undefined;
  #watched: string | undefined;

  constructor(folder: string, told: () => void) {
    this.#folder = folder;
    this.#told = told;
    this.renew();
  }

  renew(): void {
    const found = identity(this.#folder);
    if (found === this.#watched) return;
    this.close();
    this.#watched = found;
    if (found === undefined) return;
    try {
      // The folder, not the files: many editors replace a file on saving.
      this.#watcher = watch(this.#folder, (_, file) => {
        if (file === null || SOURCE.test(file)) this.#told();
      });
      this.#watcher.on('error', () => {});
    } catch {
      // EMFILE, ENOSPC, or gone again: the looks go on.
    }
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }
}

/** Which folder this is: one that is made again under the same name is another one. */
function identity(folder: string): string | undefined {
  const found = stats(folder);
  return found && `${found.ino} ${found.birthtimeMs}`;
}

/** Changes whenever a source file does. */
function snapshot(folder: string): string {
  const lines = sources(folder).map((file) => {
    const { ino, size, mtimeMs, mode } = stats(file) ?? {};
    return `${file} ${ino} ${size} ${mtimeMs} ${mode}`;
  });
  return lines.join('\n');
}

function sources(folder: string): string[] {
  return entries(folder).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (SOURCE.test(entry.name)) return [path];
    return entry.isDirectory() && OWN_FOLDER.test(entry.name) ? sources(path) : [];
  });
}

/** What is gone, or not to be read, has no entries. */
function entries(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch {
    return [];
  }
}

function stats(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch {
    return undefined;
  }
}
