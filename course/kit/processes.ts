import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import type mysql from 'mysql2/promise';
import { onTestFinished } from 'vitest';
import { requestsOf, type Told } from './requests';

/** What a process's body is given. It sees nothing else of the test file: it runs in another process. */
export interface Inside<Subject, Args> {
  /** The lab's module: the learner's, the solution's or a mistake's, as for the test itself. */
  readonly subject: Subject;
  /** A JSON value from the test. */
  readonly args: Args;
  /** Says a word that the test can wait for. */
  readonly tell: (word: string) => void;
  readonly Redis: typeof Redis;
  /** Its pools begin as those of the test do. */
  readonly mysql: Pick<typeof mysql, 'createPool'>;
}

/** A process at work. It ends with the test at the latest. */
export interface Peer<Result> {
  readonly pid: number;
  /** What the body returned (a JSON value); rejects when it threw, or when the process was killed. */
  readonly result: Promise<Result>;
  /** Resolves when the body has told this word, at once if it has before. */
  heard(word: string): Promise<void>;
  /** SIGKILL: no handler runs, nothing is flushed. Resolves when the process is gone. */
  kill(): Promise<void>;
}

/**
 * Runs `body` in `count` processes at once, all ready before the first one begins. The body is sent as source text:
 * it may use its parameter and Node's globals, and no import or variable of the test file.
 * @param subjectFile `import subjectFile from './cache-aside?file'`
 */
export async function startProcesses<Subject, Args, Result>(
  count: number,
  subjectFile: string,
  args: Args,
  body: (inside: Inside<Subject, Args>) => Promise<Result>,
): Promise<Peer<Result>[]> {
  const children = Array.from({ length: count }, () =>
    fork(join(import.meta.dirname, 'peer.cjs'), [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] }),
  );
  onTestFinished(() => {
    for (const child of children) child.kill('SIGKILL');
  });
  const peers = children.map((child, index) => peer<Result>(child, `process ${index + 1}`));
  await Promise.all(peers.map(({ heard }) => heard('ready')));
  for (const child of children) child.send({ subject: subjectFile, body: String(body), args });
  return peers;
}

interface Message<Result> {
  readonly word?: string;
  readonly failure?: string;
  readonly result?: Result;
  readonly told?: Told;
}

function peer<Result>(child: ChildProcess, name: string): Peer<Result> {
  const hear = requestsOf(name);
  const words = new Set<string>();
  const waiting = new Map<string, () => void>();
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const result = new Promise<Result>((resolve, reject) => {
    child.on('message', (message: Message<Result>) => {
      if (message.told) hear(message.told);
      else if (message.word !== undefined) {
        words.add(message.word);
        waiting.get(message.word)?.();
      } else if (message.failure !== undefined) reject(new Error(message.failure));
      else resolve(message.result as Result);
    });
    child.once('exit', (code, signal) =>
      reject(new Error(`the process ended: ${signal ?? `exit code ${code}`}`)),
    );
  });
  // A test that kills a process does not await its result.
  result.catch(() => {});
  return {
    pid: child.pid ?? 0,
    result,
    heard: (word) =>
      words.has(word) ? Promise.resolve() : new Promise((resolve) => waiting.set(word, resolve)),
    async kill() {
      child.kill('SIGKILL');
      await gone;
    },
  };
}
