import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface Ended {
  readonly code: number | null;
  /** Without what differs from run to run. */
  readonly output: string;
}

/** One command in the course of `folder`, as a learner without servers of their own would run it. */
export async function run(
  folder: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const child = spawn(process.execPath, args, {
    cwd: folder,
    env: { ...learnersEnv(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk) => {
      output += chunk;
    });
  }
  const [code] = await once(child, 'close');
  return { code, output: settled(output, folder) };
}

/** A session that stays open (see learner.cjs). One name at a time. */
export class Learner {
  readonly #folder: string;
  readonly #process: ChildProcess;

  constructor(folder: string) {
    this.#folder = folder;
    this.#process = fork(join(import.meta.dirname, 'learner.cjs'), { cwd: folder, env: learnersEnv() });
  }

  async test(name: string): Promise<Ended> {
    this.#process.send(name);
    const [ended]: Ended[] = await once(this.#process, 'message');
    return { code: ended?.code ?? null, output: settled(ended?.output ?? '', this.#folder) };
  }

  leave(): void {
    this.#process.disconnect();
  }
}

export function learnersEnv(): NodeJS.ProcessEnv {
  const { REDIS_URL: _redis, MYSQL_URL: _mysql, CI: _ci, VITEST: _vitest, ...env } = process.env;
  return { ...env, NO_COLOR: '1' };
}

const settled = (text: string, folder: string): string =>
  text
    .replaceAll(folder, '<course>')
    .replaceAll(tmpdir(), '<tmp>')
    .replace(/\b\d+ ms\b/g, '<n> ms')
    .replace(/127\.0\.0\.1:\d+/g, '127.0.0.1:<port>')
    .replace(/damaged-\d+/g, 'damaged-<time>')
    .replace(/-\d{4}-\d\d-\d\dT[\d-]+/g, '-<time>');
