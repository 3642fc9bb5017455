import { cpSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../course/base/root';
import { run } from './course';

const PARTS = [
  'course',
  'chapters',
  'labs',
  'solutions',
  'package.json',
  'tsconfig.json',
  'vitest.config.mjs',
];

/** A copy of the course for one test, with every lab as it was handed out. */
export function scratchCourse() {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'course-scratch-')));
  for (const part of PARTS) cpSync(join(ROOT, part), join(folder, part), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  return {
    read: (file: string) => readFileSync(join(folder, file), 'utf8'),
    write: (file: string, text: string) => writeFileSync(join(folder, file), text),
    /** What `npm run NAME` runs. */
    run: (args: readonly string[]) => run(folder, ['course/cli.cjs', ...args]),
    end: () => rmSync(folder, { recursive: true, force: true }),
  };
}
