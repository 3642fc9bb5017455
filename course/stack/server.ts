import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

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
}

/** A reason that a learner can act on: what is wrong, then what to do. Ends a run with exit code 2. */
export class StackError extends Error {
  override name = 'StackError';
}

const KEEPER = join(import.meta.dirname, 'keeper.sh');
const READY = /ready (for|to accept) connections/i;
const READY_WITHIN_MS = 20_000;
const PORT_TAKEN = /address already in use|bind on tcp\/ip port/i;

/** Starts a server and resolves when it accepts connections. @throws {StackError} with the server's own last words. */
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
  const folder = join(tmpdir(), `caching-deep-dive-${randomBytes(6).toString('hex')}`);
  const keeper = spawn('sh', [KEEPER, folder, plan.seed ?? '', ...plan.command(folder, port)], {
    // A session of its own: Ctrl-C reaches this process and not the keeper, which then cleans up.
    detached: true,
    stdio: ['pipe', 'ignore', 'pipe'],
    env: { ...process.env, KEEPER_CONFIG: plan.config(folder, port) },
  });
  let lastWords = '';
  keeper.stderr.on('data', (chunk) => {
    lastWords += chunk;
  });
  const gone = new Promise<void>((resolve) => keeper.once('close', () => resolve()));
  letGo(keeper);

  const deadline = Date.now() + READY_WITHIN_MS;
  while (!READY.test(readLog(folder))) {
    if (keeper.exitCode !== null) {
      await gone;
      throw new StackError(`${plan.name} did not start:\n${explain(lastWords)}`);
    }
    if (Date.now() > deadline) {
      keeper.stdin.end();
      throw new StackError(
        `${plan.name} was not ready after ${READY_WITHIN_MS / 1000} s:\n${readLog(folder)}`,
      );
    }
    await sleep(4);
  }
  return {
    port,
    pid: keeper.pid ?? 0,
    close() {
      keeper.stdin.end();
      return gone;
    },
  };
}

/** A keeper must never keep its parent alive. */
function letGo(keeper: ChildProcess): void {
  keeper.unref();
  for (const stream of [keeper.stdin, keeper.stderr]) {
    stream?.on('error', () => {});
    if (stream && 'unref' in stream && typeof stream.unref === 'function') stream.unref();
  }
}

function readLog(folder: string): string {
  try {
    return readFileSync(join(folder, 'log'), 'utf8');
  } catch {
    return '';
  }
}

function explain(lastWords: string): string {
  const advice = /no space left/i.test(lastWords)
    ? `\nThe disk that holds ${tmpdir()} is full: free some space, or set TMPDIR to a folder with 200 MB free.`
    : '';
  return lastWords.trim() + advice;
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', resolve);
  });
  const address = probe.address();
  await new Promise((resolve) => probe.close(resolve));
  if (address === null || typeof address === 'string') throw new StackError('no free loopback port');
  return address.port;
}

/** The first of `names` on the PATH or in the folders where packages put servers; undefined when none is there. */
export function findBinary(...names: string[]): string | undefined {
  const folders = [
    ...(process.env.PATH ?? '').split(delimiter),
    '/usr/sbin',
    '/usr/local/sbin',
    '/opt/homebrew/bin',
    '/usr/local/bin',
    '/opt/homebrew/opt/mariadb/bin',
    '/opt/homebrew/opt/mysql/bin',
  ];
  for (const name of names) {
    const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
    if (found) return found;
  }
  return undefined;
}
