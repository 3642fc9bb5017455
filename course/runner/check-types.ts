import { fork } from 'node:child_process';
import { join, resolve } from 'node:path';

const ROOT = resolve(import.meta.dirname, '../..');
const ANSWERS_WITHIN_MS = 20_000;

/** The compiler in a process of its own, kept warm for the next question. */
export interface TypeChecker {
  /** Errors in one file; none when the compiler does not answer, for types never stop the tests. */
  errorsIn(file: string): Promise<readonly string[]>;
  close(): void;
}

export function openTypeChecker(): TypeChecker {
  const child = fork(join(ROOT, 'course/cli.cjs'), ['types'], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  return {
    errorsIn(file) {
      return new Promise((resolve) => {
        const end = (errors: readonly string[]) => {
          clearTimeout(timer);
          child.off('message', hear);
          child.off('exit', gone);
          resolve(errors);
        };
        const hear = (answer: { file: string; errors: readonly string[] }) => {
          if (answer.file === file) end(answer.errors);
        };
        const gone = () => end([]);
        const timer = setTimeout(gone, ANSWERS_WITHIN_MS);
        child.on('message', hear);
        child.on('exit', gone);
        if (child.connected) child.send({ file });
        else end([]);
      });
    },
    close: () => child.kill('SIGKILL'),
  };
}
