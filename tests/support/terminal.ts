import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';
import { learnersEnv } from './course';

/** A command at a terminal of its own, which `script` (util-linux) makes. */
export class Terminal {
  /** All that it has shown. */
  output = '';
  /** The command's exit code, once all is over. */
  readonly ended: Promise<number | null>;
  readonly #script: ChildProcess;

  /** @param command a line of shell; it is followed by its process where it says `exec` */
  constructor(folder: string, command: string, env: Readonly<Record<string, string>> = {}) {
    this.#script = spawn('script', ['-qfec', command, '/dev/null'], {
      cwd: folder,
      env: { ...learnersEnv(), TERM: 'xterm', ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#script.stdout?.on('data', (chunk) => {
      this.output += stripVTControlCharacters(String(chunk));
    });
    this.#script.stdin?.on('error', () => {});
    this.ended = once(this.#script, 'close').then(([code]) => code);
  }

  type(keys: string): void {
    this.#script.stdin?.write(keys);
  }

  /** The window is closed. */
  hangUp(): void {
    this.#script.kill('SIGKILL');
  }
}

/** The processes that have to do with a folder: they are of the programs in it, or have it as their TMPDIR. */
export function processesOf(folder: string): string[] {
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .filter((pid) => [args(pid), of(pid, 'environ'), folderOf(pid)].some((text) => text.includes(folder)))
    .map((pid) => `${pid} ${args(pid)}`);
}

const args = (pid: string): string => of(pid, 'cmdline').replaceAll('\0', ' ');

function of(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8');
  } catch {
    return '';
  }
}

function folderOf(pid: string): string {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return '';
  }
}
