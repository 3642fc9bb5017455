import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** A command at work in a folder of its own. Both go when this process goes, however it goes (see supervisor.sh). */
export interface Kept {
  readonly folder: string;
  readonly pid: number;
  /** The command ended by itself, and its folder is gone. */
  hasEnded(): boolean;
  /** The last lines that the command wrote, known after its end. */
  lastWords(): string;
  /** Waits for the command's own end, until its folder is gone. */
  end(): Promise<void>;
  /** Ends the command and waits until it and its folder are gone. */
  close(): Promise<void>;
}

export interface KeptPlan {
  command(folder: string): readonly [string, ...string[]];
  /** A folder copied to `<folder>/data` first. */
  readonly seed?: string;
  /** Written to `<folder>/config`, readable by this user only. */
  config?(folder: string): string;
  /** A line of shell run at the very end, after any kind of end. It sees `env`. */
  readonly afterwards?: string;
  readonly env?: NodeJS.ProcessEnv;
}

const SUPERVISOR = join(import.meta.dirname, 'supervisor.sh');

/** Starts a command that cannot outlive this process. */
export function keep(plan: KeptPlan): Kept {
  // Servers change their folder, and would look for a relative one there.
  const temporary = resolve(tmpdir());
  const folder = join(temporary, `caching-deep-dive-${randomBytes(6).toString('hex')}`);
  const supervisor = spawn('sh', [SUPERVISOR, folder, plan.seed ?? '', ...plan.command(folder)], {
    // A session of its own: Ctrl-C reaches this process and not the supervisor, which then cleans up.
    detached: true,
    stdio: ['pipe', 'ignore', 'pipe'],
    env: {
      ...process.env,
      TMPDIR: temporary,
      ...plan.env,
      SUPERVISOR_CONFIG: plan.config?.(folder) ?? '',
      SUPERVISOR_FINALLY: plan.afterwards ?? '',
    },
  });
  let words = '';
  let ended = false;
  supervisor.stderr.on('data', (chunk) => {
    words += chunk;
  });
  const gone = new Promise<void>((resolve) => {
    const end = () => {
      ended = true;
      resolve();
    };
    supervisor.once('close', end);
    supervisor.once('error', (error) => {
      words += error.message;
      end();
    });
  });
  supervisor.stdin.on('error', () => {});
  // A supervisor must not keep its parent alive, unless the parent waits for it.
  holds(supervisor, false);
  const end = () => {
    holds(supervisor, true);
    return gone;
  };
  return {
    folder,
    pid: supervisor.pid ?? 0,
    hasEnded: () => ended,
    lastWords: () => words.trim(),
    end,
    close() {
      supervisor.stdin.end();
      return end();
    },
  };
}

function holds(supervisor: ChildProcess, alive: boolean): void {
  for (const handle of [supervisor, supervisor.stdin, supervisor.stderr]) {
    if (handle instanceof Socket || handle === supervisor) handle[alive ? 'ref' : 'unref']();
  }
}
