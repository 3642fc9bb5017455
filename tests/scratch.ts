import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../course/catalog';

const PARTS = [
  'course',
  'chapters',
  'labs',
  'solutions',
  'package.json',
  'tsconfig.json',
  'vitest.config.ts',
];

/** A copy of the course for one test, with every lab as it was handed out. */
export function scratchCourse() {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'course-scratch-')));
  for (const part of PARTS) cpSync(join(ROOT, part), join(folder, part), { recursive: true });
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  const path = (file: string) => join(folder, file);
  return {
    folder,
    has: (file: string) => existsSync(path(file)),
    read: (file: string) => readFileSync(path(file), 'utf8'),
    write: (file: string, text: string) => writeFileSync(path(file), text),
    remove: (file: string) => rmSync(path(file), { recursive: true }),
    /** Runs an npm script's command line; what it prints comes back without what differs from run to run. */
    run: (args: readonly string[], env: Readonly<Record<string, string>> = {}) =>
      run(folder, ['course/cli.cjs', ...args], env),
    node: (args: readonly string[]) => run(folder, args, {}),
    end: () => rmSync(folder, { recursive: true, force: true }),
  };
}

export interface Ended {
  readonly code: number | null;
  readonly output: string;
}

function run(cwd: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<Ended> {
  const { REDIS_URL: _redis, MYSQL_URL: _mysql, CI: _ci, VITEST: _vitest, ...inherited } = process.env;
  const child = spawn(process.execPath, args, {
    cwd,
    env: { ...inherited, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  return new Promise((resolve) =>
    child.once('close', (code) => resolve({ code, output: settle(output, cwd) })),
  );
}

const settle = (text: string, folder: string): string =>
  text
    .replaceAll(folder, '<course>')
    .replaceAll(tmpdir(), '<tmp>')
    .replace(/\b\d+ ms\b/g, '<n> ms')
    .replace(/127\.0\.0\.1:\d+/g, '127.0.0.1:<port>')
    .replace(/damaged-\d+/g, 'damaged-<time>')
    .replace(/-\d{4}-\d\d-\d\dT[\d-]+/g, '-<time>')
    .replace(/[ \t]+$/gm, '');
