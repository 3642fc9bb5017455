import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { ROOT } from '../base/root';

/** TypeScript 7 checks in a tenth of the time, and TypeScript 6 is there for ts-node's sake. */
const PATHS: Readonly<Record<string, string>> = { tsc: 'typescript-7/bin/tsc' };

/** Runs a tool of node_modules/.bin. @returns its output as problems when it fails, none when it passes */
export function runTool(
  name: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string[]> {
  const tool = spawn(join(ROOT, 'node_modules', PATHS[name] ?? `.bin/${name}`), args, {
    cwd: ROOT,
    env: { ...process.env, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const keep = (chunk: Buffer) => {
    output += chunk;
  };
  tool.stdout.on('data', keep);
  tool.stderr.on('data', keep);
  return new Promise((resolve) => {
    tool.once('error', ({ message }) => resolve([`${name} did not start (${message}): npm ci`]));
    tool.once('close', (code) => resolve(code === 0 ? [] : [output.trim() || `${name} ended with ${code}`]));
  });
}
