import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, onTestFinished, vi } from 'vitest';
import { TYPESCRIPT } from '../course/base/root';
import { findBinary } from '../course/servers/server';

/** Opening servers on a busy machine, with a data folder to prepare. */
export const LONG_MS = 60_000;

/** Whatever way to servers this run was told to take: these tests choose their own. */
export function noWayChosen(): void {
  beforeEach(() => {
    for (const name of ['REDIS_URL', 'MYSQL_URL', 'COURSE_SERVERS', 'CI']) vi.stubEnv(name, undefined);
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
  });
}

/** A folder removed when the test ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'course-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A PATH with the everyday programs and nothing else; `programs` are shell scripts by name. */
export function pathWith(programs: Readonly<Record<string, string>>, ...linked: string[]): string {
  const folder = join(temporaryFolder(), 'bin');
  mkdirSync(folder);
  for (const name of [...EVERYDAY, ...linked].filter((each) => !(each in programs))) {
    const found = findBinary(name);
    if (found) symlinkSync(found, join(folder, name));
  }
  for (const [name, script] of Object.entries(programs)) {
    writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
  }
  return folder;
}

const EVERYDAY = [
  'sh',
  'cat',
  'cp',
  'mkdir',
  'rm',
  'sleep',
  'tail',
  'touch',
  'grep',
  'ln',
  'chmod',
  'pkill',
  'node',
];

/** Starts tests/servers-child.ts in a process of its own. */
export function serversProgram(end: string, env: NodeJS.ProcessEnv) {
  const child = spawn(
    process.execPath,
    ['--require', TYPESCRIPT, join(import.meta.dirname, 'servers-child.ts'), end],
    {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    },
  );
  onTestFinished(() => {
    child.kill('SIGKILL');
  });
  const ended = new Promise<number | string | null>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? code));
  });
  const urls = new Promise<{ redis: string; mysql: string }>((resolve, reject) => {
    let out = '';
    child.stdout.on('data', (chunk) => {
      out += chunk;
      if (out.includes('\n')) resolve(JSON.parse(out));
    });
    let complaints = '';
    child.stderr.on('data', (chunk) => {
      complaints += chunk;
    });
    child.once('close', () => reject(new Error(`the program opened no servers: ${complaints}`)));
  });
  urls.catch(() => {});
  return { child, urls, ended };
}

/** What is left in `folder`: temporary folders of servers, and processes that name it. */
export function traces(folder: string): string[] {
  const folders = readdirSync(folder).filter((name) => name.startsWith('caching-deep-dive-'));
  return [...folders, ...commandLines().filter((line) => line.includes(folder))];
}

/** Of every process. A slim Linux has no ps, and macOS has no /proc. */
function commandLines(): string[] {
  if (!existsSync('/proc/self/cmdline')) {
    return execFileSync('ps', ['-A', '-o', 'args='], { encoding: 'utf8' }).split('\n');
  }
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      } catch {
        return '';
      }
    });
}

/** Asks until `read` gives what is wanted, for at most 5 s. @returns the last answer */
export async function within5s<T>(read: () => T | Promise<T>, wanted: (answer: T) => boolean): Promise<T> {
  const deadline = Date.now() + 5000;
  for (;;) {
    const answer = await read();
    if (wanted(answer) || Date.now() > deadline) return answer;
    await sleep(25);
  }
}

export function listens(url: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}
