import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { basename, join, relative } from 'node:path';
import { ROOT } from '../base/root';
import { STATE } from './state-file';

const ANSWERS_WITHIN_MS = 20_000;
const DIAGNOSTIC = /^(.+)\((\d+),(\d+)\): error TS\d+: (.*)$/gm;

/**
 * Type errors in one file, as `lru.ts:12:3 Type 'string' is not …`. None when the compiler cannot answer: types
 * never stop the tests.
 */
export function typeErrors(file: string): Promise<readonly string[]> {
  const project = join(STATE, `types-${basename(file, '.ts')}.json`);
  const only = { extends: '../tsconfig.json', include: [], files: [relative(STATE, file)] };
  try {
    mkdirSync(STATE, { recursive: true });
    writeFileSync(project, JSON.stringify(only));
  } catch {
    return Promise.resolve([]);
  }
  const compiler = spawn(
    process.execPath,
    [join(ROOT, 'node_modules/typescript-7/bin/tsc'), '-p', project, '--pretty', 'false'],
    {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: ANSWERS_WITHIN_MS,
    },
  );
  // The tests come first: the answer to a save is theirs.
  if (compiler.pid !== undefined) setPriority(compiler.pid, constants.priority.PRIORITY_BELOW_NORMAL);
  let output = '';
  compiler.stdout.on('data', (chunk) => {
    output += chunk;
  });
  return new Promise((resolve) => {
    compiler.once('error', () => resolve([]));
    compiler.once('close', () => {
      const found = [...output.matchAll(DIAGNOSTIC)].filter(([, path = '']) => path.endsWith(basename(file)));
      resolve(
        found.map(([, path = '', line, column, text]) => `${basename(path)}:${line}:${column} ${text}`),
      );
    });
  });
}
