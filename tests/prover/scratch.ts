import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ROOT } from '../../course/base/root';
import { digest } from '../../course/content/seal';

const PLACE = '99-proof/01-memo';

/** Where the course expects the files of `memo/`. What is not named here lies beside the solution. */
const PATHS: Readonly<Record<string, string>> = {
  'lesson.md': `chapters/${PLACE}.md`,
  'hints.md': `labs/${PLACE}/hints.md`,
  'checks.ts': `labs/${PLACE}/memo.test.ts`,
  'starter.ts': `labs/${PLACE}/memo.ts`,
  'given.ts': `labs/${PLACE}/given.ts`,
  'parts/limit.ts': `labs/${PLACE}/parts/limit.ts`,
  pristine: `solutions/${PLACE}/starter.ts`,
  seal: `solutions/${PLACE}/memo.test.ts.sha256`,
};

/** The texts of a lab by the names of `memo/`, with `pristine` and `seal` where they are not to be derived. */
export type Files = Map<string, string>;
/** What makes a lab other than the one of `memo/`. */
export type Change = (files: Files) => void;

/** The folder of the sound lab: one whose tests stand in no part, as a learner may leave them, or a ladder. */
type Form = 'memo' | 'ladder';

/** A course whose labs are the one of `memo/` or of `ladder/`, changed in each of these ways. */
export interface ScratchCourse {
  readonly root: string;
  /** `99-proof/02-a-broken-link`, by the name of the change. */
  place(change: string): string;
}

export function scratchCourse(
  changes: Readonly<Record<string, Change>>,
  ladders: Readonly<Record<string, Change>> = {},
): ScratchCourse {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'course-prover-')));
  for (const path of ['course', 'package.json', 'tsconfig.json']) {
    cpSync(join(ROOT, path), join(root, path), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  writeFileSync(join(root, 'README.md'), '# Course\n');

  const names = [...Object.keys(changes), ...Object.keys(ladders)];
  const place = (name: string) =>
    `99-proof/${String(names.indexOf(name) + 1).padStart(2, '0')}-${name.replaceAll(' ', '-')}`;
  for (const [name, change] of Object.entries(changes)) writeLab(root, place(name), change, 'memo');
  for (const [name, change] of Object.entries(ladders)) writeLab(root, place(name), change, 'ladder');
  return { root, place };
}

export function writeLab(root: string, place: string, change: Change, form: Form): void {
  const rename = (text: string) =>
    text.replaceAll(PLACE, place).replaceAll('memo', place.slice('99-proof/01-'.length));
  const files = soundLab(form);
  change(files);
  const sealOf = (name: string) => {
    const text = files.get(name);
    return text ? `${digest(rename(text))}  ../../../${PATHS[name]}\n` : '';
  };
  if (!files.has('pristine')) files.set('pristine', files.get('starter.ts') ?? '');
  if (!files.has('seal')) files.set('seal', ['checks.ts', 'given.ts', 'parts/limit.ts'].map(sealOf).join(''));
  for (const [name, text] of files) {
    const path = join(root, rename(PATHS[name] ?? `solutions/${PLACE}/${name}`));
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, rename(text));
  }
}

function soundLab(form: Form): Files {
  const folder = join(import.meta.dirname, form);
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.includes('.'),
  );
  const files = new Map(names.map((name) => [name, readFileSync(join(folder, name), 'utf8')]));
  return files.set('lesson.md', files.get('lesson.md')?.replace('PADDING', 'word '.repeat(900)) ?? '');
}
