import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Refusal } from '../base/refusal';
import { keep } from './supervisor';

/** A server of our own on a free loopback port. It dies with this process, however this process dies. */
export interface Server {
  readonly port: number;
  readonly pid: number;
  /** Ends the server and waits until its folder is gone. */
  close(): Promise<void>;
}

export interface ServerPlan {
  /** Shown in messages: `redis-server`. */
  readonly name: string;
  /** A folder copied to `<folder>/data` before the server starts. */
  readonly seed?: string;
  /** Written to `<folder>/config`, readable by this user only: the place for a password. */
  config(folder: string, port: number): string;
  command(folder: string, port: number): [string, ...string[]];
  /** A line of shell run at the very end, after any kind of end. */
  readonly afterwards?: string;
}

/** A reason that a learner can act on: what is wrong, then what to do. Ends a run with exit code 2. */
export class ServerError extends Refusal {
  override name = 'ServerError';
}

const READY = /ready (for|to accept) connections/i;
const READY_WITHIN_MS = 20_000;
export const PORT_TAKEN = /address already in use|port is already allocated|bind on tcp\/ip port/i;

/** Starts a server and resolves when it accepts connections. @throws {ServerError} with the server's own last words. */
export async function startServer(plan: ServerPlan): Promise<Server> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await launch(plan, await freePort());
    } catch (error) {
      // Another program took the port between our look and the server's bind.
      if (attempt === 3 || !PORT_TAKEN.test(String(error))) throw error;
    }
  }
}

async function launch(plan: ServerPlan, port: number): Promise<Server> {
  const server = keep({
    seed: plan.seed,
    config: (folder) => plan.config(folder, port),
    command: (folder) => plan.command(folder, port),
    afterwards: plan.afterwards,
  });
  const deadline = Date.now() + READY_WITHIN_MS;
  while (!READY.test(readLog(server.folder))) {
    if (server.hasEnded()) {
      throw new ServerError(`${plan.name} did not start:\n${explain(server.lastWords())}`);
    }
    if (Date.now() > deadline) {
      const log = readLog(server.folder);
      await server.close();
      throw new ServerError(
        `${plan.name} was not ready after ${READY_WITHIN_MS / 1000} s. Try again on a less busy machine. Its log:\n${log}`,
      );
    }
    await sleep(4);
  }
  return { port, pid: server.pid, close: server.close };
}

function readLog(folder: string): string {
  try {
    return readFileSync(join(folder, 'log'), 'utf8');
  } catch {
    return '';
  }
}

/** The server's words, and what to do about the failures that are the machine's. */
export function explain(lastWords: string): string {
  const found = ADVICE.find(([pattern]) => pattern.test(lastWords));
  const last = lastWords.split('\n').slice(-8).join('\n');
  return `${last}\n${found?.[1]() ?? 'See what this machine has: npm run doctor'}`;
}

const ADVICE: readonly (readonly [RegExp, () => string])[] = [
  [
    /chown: cannot access/i,
    () =>
      `mariadb-install-db, run as root, breaks on a path with a space: set TMPDIR (now ${tmpdir()}) to one without.`,
  ],
  [
    /no space left|disk (is )?full|errno: 28/i,
    () =>
      `The disk that holds ${tmpdir()} is full: free some space, or set TMPDIR to a folder with 300 MB free.`,
  ],
  [
    /^(mkdir|cp|sh): .*(permission denied|no such file|read-only|not a directory)/im,
    () => `${tmpdir()} cannot be written: set TMPDIR to a folder of yours with 300 MB free.`,
  ],
  [
    /permission denied|errno: 13|operation not permitted/i,
    () =>
      "The server may not use the folder. Ubuntu's AppArmor confines its mysqld to /var/lib/mysql: install MariaDB " +
      'instead (sudo apt-get install mariadb-server), use Docker, or set REDIS_URL and MYSQL_URL.',
  ],
];

/** Free on the loopback interface when it was looked at. */
export async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', resolve);
  });
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new ServerError('no free loopback port');
  return address.port;
}

/** Where packages put servers, also when that is not on the PATH. */
export const FIXED_FOLDERS = [
  '/usr/sbin',
  '/usr/local/sbin',
  '/usr/libexec',
  '/opt/homebrew/bin',
  '/usr/local/bin',
  '/opt/homebrew/opt/mariadb/bin',
  '/opt/homebrew/opt/mysql/bin',
];

/** The first of `names` on the PATH or in the fixed folders; undefined when none is there. */
export function findBinary(...names: string[]): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), ...FIXED_FOLDERS];
  for (const name of names) {
    const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
    if (found) return found;
  }
  return undefined;
}
