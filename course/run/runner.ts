import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { ROOT } from '../base/root';
import type { ServerUrls } from '../servers/open';
import type { Heartbeat, LabRun, Order, Report, Task, TestError, TestResult } from './messages';

const HEARTBEAT_FD = 4;

/** From one step to the next: the parts of a lab load, a hook runs. */
const STEP_MS = 7000;
/** Vitest itself ends a test that is over its time limit, if the test lets it. */
const OVER_LIMIT_MS = 1000;
/** Vitest itself has to load, on a slow machine with an empty cache. */
const START_MS = 60_000;
/** On servers that others use too, a test file waits for its turn (kit/servers.ts). */
const TURN_MS = 70_000;
/** A heartbeat comes every quarter of a second. No more than OVER_LIMIT_MS: a loop is that old when it is found. */
const NO_HEARTBEAT_MS = 1000;

export type RunResult =
  | { readonly kind: 'ran'; readonly runs: readonly LabRun[]; readonly unhandled: readonly TestError[] }
  /** Nothing went on: a loop that blocks the thread, or a wait; in a test, or while a file was being loaded. */
  | ({ readonly kind: 'hung'; readonly by: 'loop' | 'wait' } & SoFar)
  /** The process ended by itself. */
  | ({ readonly kind: 'crashed'; readonly how: string; readonly output: string } & SoFar);

/** Where a run was when it ended. */
interface SoFar {
  /** The test that was running. */
  readonly test: string | undefined;
  /** Those before it, and itself as not run. */
  readonly tests: readonly TestResult[];
}

export interface Runner {
  /** One run at a time. Its promise stays pending once the runner is closed. */
  run(tasks: readonly Task[]): Promise<RunResult>;
  /** Where the servers are. Before the first run of a lab that needs them. */
  use(servers: readonly ServerUrls[], how?: { readonly shared: boolean }): void;
  close(): void;
}

/**
 * Runs lab tests in a child process under a watchdog. The child starts at once, so that it loads while servers start,
 * and is kept for the next run; one that hung or crashed is replaced.
 *
 * @param isolate each test file in a thread of its own, as a learner's should; else threads are kept from file to
 *   file, so that many files load their libraries once
 */
export function openRunner({ workers = 1, isolate = true } = {}): Runner {
  let servers: readonly ServerUrls[] = [];
  let turnMs = STEP_MS;
  let current = new Child(workers, isolate);
  let closed = false;
  return {
    async run(tasks) {
      if (closed) return new Promise(() => {});
      if (current.hasEnded) current = new Child(workers, isolate);
      const outcome = await current.run(tasks, servers, turnMs);
      // The next one loads while the learner reads.
      if (current.hasEnded) current = new Child(workers, isolate);
      return outcome;
    },
    use(urls, { shared } = { shared: false }) {
      servers = urls;
      turnMs = shared ? TURN_MS : STEP_MS;
    },
    close() {
      closed = true;
      current.close();
    },
  };
}

class Child {
  readonly #process: ChildProcess;
  #output = '';
  #closed = false;
  /** The step that the tests are at, and when it began. */
  #step: Heartbeat = { begins: 'nothing' };
  #stepAt = 0;
  #heartbeatAt = 0;
  #tests: TestResult[] = [];

  constructor(workers: number, isolate: boolean) {
    this.#process = fork(
      join(ROOT, 'course/cli.cjs'),
      ['child', String(workers), isolate ? 'isolated' : 'shared'],
      {
        cwd: ROOT,
        // Far from UTC: where local time and UTC are one, code that confuses them passes.
        env: {
          ...process.env,
          COURSE_HEARTBEAT_FD: String(HEARTBEAT_FD),
          NODE_ENV: 'test',
          TZ: 'America/New_York',
        },
        stdio: ['ignore', 'pipe', 'pipe', 'ipc', 'pipe'],
      },
    );
    // An order to a process that has just ended: its end is told by "close".
    this.#process.on('error', () => {});
    const { stdout, stderr, stdio } = this.#process;
    for (const stream of [stdout, stderr]) {
      stream?.on('data', (chunk) => {
        this.#output = (this.#output + chunk).slice(-4000);
      });
    }
    const heartbeat = stdio[HEARTBEAT_FD];
    if (heartbeat instanceof Readable) {
      createInterface({ input: heartbeat }).on('line', (line) => this.#hear(JSON.parse(line)));
    }
  }

  get hasEnded(): boolean {
    return this.#process.exitCode !== null || this.#process.signalCode !== null || this.#process.killed;
  }

  run(tasks: readonly Task[], servers: readonly ServerUrls[], turnMs: number): Promise<RunResult> {
    this.#output = '';
    this.#step = { begins: 'nothing' };
    this.#stepAt = performance.now();
    this.#tests = [];
    this.#send({ type: 'servers', servers });
    this.#send({ type: 'run', tasks });
    return new Promise((resolve) => {
      const end = (result: RunResult) => {
        clearInterval(watchdog);
        this.#process.off('message', hear);
        this.#process.off('close', gone);
        if (!this.#closed) resolve(result);
      };
      const hear = (report: Report) => {
        this.#stepAt = performance.now();
        if (report.type === 'tested') this.#tests.push(report.result);
        if (report.type === 'done') end({ kind: 'ran', runs: report.runs, unhandled: report.unhandled });
        if (report.type === 'broken') end(this.#crashed(report.message));
      };
      const gone = (code: number | null, signal: string | null) =>
        end(this.#crashed(signal ? `It was ended by ${signal}.` : `Its exit code was ${code}.`));
      const watchdog = setInterval(() => {
        if (performance.now() - this.#stepAt < this.#patience(turnMs)) return;
        const by = performance.now() - this.#heartbeatAt > NO_HEARTBEAT_MS ? 'loop' : 'wait';
        end({ kind: 'hung', by, ...this.#soFar() });
        this.#process.kill('SIGKILL');
      }, 100);
      this.#process.on('message', hear);
      // Not "exit": its last words are read by then.
      this.#process.on('close', gone);
    });
  }

  close(): void {
    this.#closed = true;
    this.#process.kill('SIGKILL');
  }

  #hear(beat: Heartbeat): void {
    this.#heartbeatAt = performance.now();
    if (beat.begins === 'nothing') return;
    this.#step = beat;
    this.#stepAt = this.#heartbeatAt;
  }

  #patience(turnMs: number): number {
    if (this.#step.begins === 'nothing') return START_MS;
    if (this.#step.begins === 'test') return this.#step.limitMs + OVER_LIMIT_MS;
    return this.#step.begins === 'hooks' ? turnMs : STEP_MS;
  }

  #soFar(): SoFar {
    if (this.#step.begins !== 'test') return { test: undefined, tests: this.#tests };
    const { name, part } = this.#step;
    const running: TestResult = { name, ...(part && { part }), state: 'not run', printed: '' };
    return { test: name, tests: [...this.#tests.filter((test) => test.name !== name), running] };
  }

  #crashed(how: string): RunResult {
    return { kind: 'crashed', ...this.#soFar(), how, output: this.#output.trim() };
  }

  #send(order: Order): void {
    this.#process.send(order);
  }
}
