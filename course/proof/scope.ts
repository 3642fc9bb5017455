import { readFileSync } from 'node:fs';
import { relative } from 'node:path';
import { askGit, gitNames } from '../base/git';
import { ROOT } from '../base/root';
import { type Lab, labs, type Overview, overviews } from '../content/catalog';

/** What is to be proven, beside the texts and files of the whole course. */
export interface Scope {
  readonly labs: readonly Lab[];
  /** Lessons without a lab. */
  readonly pages: readonly Overview[];
  /** Whether the course's own tests belong to it. */
  readonly tests: boolean;
}

export const everything = (): Scope => ({ labs: labs(), pages: overviews(), tests: true });

/** What every lab runs on. The rest of course/ is proven by the course's own tests. */
const OF_ALL =
  /^(package(-lock)?\.json|tsconfig\.json|course\/(base|content|servers|kit|run|claims|proof|typescript)\b)/;

/** What a change of these files, relative to the root, can break. */
export function scopeOf(files: readonly string[]): Scope {
  if (files.some((file) => OF_ALL.test(file))) return everything();
  const isTouched = ({ files: own }: Lab | Overview) => {
    const paths = Object.values(own).map((path) => relative(ROOT, path));
    const folders = paths.map((path) => path.split('/').slice(0, 3).join('/'));
    return files.some(
      (file) => paths.includes(file) || folders.includes(file.split('/').slice(0, 3).join('/')),
    );
  };
  const experiments = files.some((file) => file.startsWith('course/experiments/'));
  return {
    labs: labs().filter((lab) => isTouched(lab) || (experiments && experimentsIn(lab))),
    pages: overviews().filter(isTouched),
    tests: files.some((file) => /^(course|tests)\//.test(file)),
  };
}

function experimentsIn({ files }: Lab): boolean {
  return [files.test, files.measure].some((path) => {
    try {
      return readFileSync(path, 'utf8').includes("from '#experiments/");
    } catch {
      return false;
    }
  });
}

/** What is not committed, and what was since this branch left the one that it follows. */
export function changedFiles(): string[] {
  const base = askGit('merge-base', 'HEAD', '@{upstream}')?.trim() ?? 'HEAD';
  return [
    ...gitNames('diff', '--name-only', '-z', base),
    ...gitNames('ls-files', '--others', '--exclude-standard', '-z'),
  ];
}
