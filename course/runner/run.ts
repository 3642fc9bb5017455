import { type ChildProcess, fork } from 'node:child_process';
import { join, resolve } from 'node:path';
import type { StackUrls } from '../stack/open';
import type { LabRun, Order, Report, Round, TestError } from './messages';

const ROOT = resolve(import.meta.dirname, '../..');
const BEACON_FD = 4;

/** From one sign of life to the next, and no test may take longer than the tests' own time limit. */
const SILENCE_MS = 7000;
/** Vitest itself has to load, on a slow machine with an empty cache. */
const START_MS = 60_000;

export type Outcome =
  | { readonly kind: 'ran'; readonly runs: readonly LabRun[]; readonly unhandled: readonly TestError[] }
  /** An endless loop: in a test, or while a file was being loaded. */
  | { readonly kind: 'hung'; readonly test: string | undefined }
  /** The process ended by itself. */
  | {
      readonly kind: 'crashed';
      readonly test: string | undefined;
      readonly how: string;
      readonly output: string;
    };

export interface Runner {
  /** One run at a time. */
  run(rounds: readonly Round[]): Promise<Outcome>;
  /** Where the servers are. Before the first run of a lab that needs them. */
  use(stacks: readonly StackUrls[]): void;
  close(): void;
}

/**
 * Runs lab tests in a child process under a watchdog. The child starts at once, so that it loads while servers start,
 * and is kept for the next run; one that hung or crashed is replaced.
 */
export function openRunner({ passes = 1, workers = 1 } = {}): Runner {
  let stacks: readonly StackUrls[] = [];
  let current = startChild(passes, workers);
  return {
    async run(rounds) {
      if (current.process.exitCode !== null || current.process.signalCode !== null) {
        current = startChild(passes, workers);
      }
      current.send({ type: 'stacks', stacks });
      return await current.run(rounds);
    },
    use(urls) {
      stacks = urls;
    },
    close: () => current.process.kill('SIGKILL'),
  };
}

function startChild(passes: number, workers: number) {
  const child: ChildProcess = fork(join(ROOT, 'course/cli.cjs'), ['child', String(passes), String(workers)], {
    cwd: ROOT,
    // Far from UTC: where local time and UTC are one, code that confuses them passes.
    env: { ...process.env, COURSE_BEACON_FD: String(BEACON_FD), NODE_ENV: 'test', TZ: 'America/New_York' },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc', 'pipe'],
  });
  let output = '';
  let test: string | undefined;
  let touch = () => {};
  const keep = (chunk: Buffer) => {
    output = (output + chunk).slice(-4000);
  };
  child.stdout?.on('data', keep);
  child.stderr?.on('data', keep);
  child.stdio[BEACON_FD]?.on('data', (chunk: Buffer) => {
    const last = String(chunk).trim().split('\n').at(-1);
    if (last) test = JSON.parse(last);
    touch();
  });

  return {
    process: child,
    send: (order: Order) => child.send(order),
    run(rounds: readonly Round[]): Promise<Outcome> {
      test = undefined;
      output = '';
      child.send({ type: 'run', rounds } satisfies Order);
      return new Promise((settle) => {
        const hung = () => {
          end({ kind: 'hung', test });
          child.kill('SIGKILL');
        };
        let timer = setTimeout(hung, START_MS);
        touch = () => {
          clearTimeout(timer);
          timer = setTimeout(hung, SILENCE_MS);
        };
        const hear = (report: Report) => {
          touch();
          if (report.type === 'done') end({ kind: 'ran', runs: report.runs, unhandled: report.unhandled });
          if (report.type === 'broken') end({ kind: 'crashed', test, how: report.message, output });
        };
        const gone = (code: number | null, signal: string | null) =>
          end({ kind: 'crashed', test, how: signal ? `signal ${signal}` : `exit code ${code}`, output });
        const end = (outcome: Outcome) => {
          clearTimeout(timer);
          touch = () => {};
          child.off('message', hear);
          child.off('exit', gone);
          settle(outcome);
        };
        child.on('message', hear);
        child.on('exit', gone);
      });
    },
  };
}
