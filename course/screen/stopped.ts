import { shown } from '../base/root';
import type { Lab } from '../content/catalog';
import { brokenSeals } from '../content/seal';
import type { Stop, Stopped, Uncounted } from '../run/verdict';

/** What to say of a run that ended early, or beside its tests. */
export interface Words {
  readonly what: string;
  readonly remedy: string;
}

/** In a test, or while the learner's file was being loaded. */
export const stoppedWords = ({ why, test }: Stopped): Words => STOPPED[why](test !== undefined);

const STOPPED: Record<Stop, (inTest: boolean) => Words> = {
  'endless loop': (inTest) => ({
    what: inTest
      ? 'An endless loop: this test went past its time limit without a pause, and was ended.'
      : 'An endless loop: your file was still being loaded after 7 s, and the run was ended.',
    remedy: 'Look for a loop whose condition never becomes false.',
  }),
  'never settles': (inTest) => ({
    what: inTest
      ? 'A promise never settled: this test waited for it until the run was ended.'
      : 'A promise never settled while your file was being loaded, and the run was ended.',
    remedy: inTest
      ? 'Look for an await on a promise that nothing resolves, or a deadline that is missing.'
      : 'Look for an await outside of every function.',
  }),
  crash: () => ({
    what: 'The process that ran your code ended by itself.',
    remedy: 'Look for what ends a process: a signal, or memory that ran out.',
  }),
  'syntax error': () => ({
    what: 'This is not TypeScript yet, so no test could run:',
    remedy: 'Fix the syntax and save.',
  }),
  'missing export': () => ({
    what: 'The tests import what your file does not export:',
    remedy: 'Export it under that name.',
  }),
  'process.exit': () => ({
    what: 'Your code called process.exit: it would end the program that uses your code.',
    remedy: 'Throw an error, or return.',
  }),
  'thrown error': () => ({
    what: 'All tests pass, but an error was thrown where nothing catches it: in a timer or an event. In production this ends the process.',
    remedy: 'Catch it in the callback that throws.',
  }),
  'unhandled rejection': () => ({
    what: 'All tests pass, but a promise was rejected and nothing handled it. In production this ends the process.',
    remedy: 'Await the promise, or catch its rejection where the promise is made.',
  }),
  'left open': () => ({
    what: 'All tests pass, but your code left something open:',
    remedy: 'Close what you open, or use what the test hands you.',
  }),
  'load error': () => ({
    what: 'The tests could not start:',
    remedy: 'Fix this first: everything else comes after it.',
  }),
};

export function uncountedWords(lab: Lab, why: Uncounted): string {
  const file = shown(
    why === 'starter missing' ? lab.files.starter : (brokenSeals(lab)[0]?.file ?? lab.files.test),
  );
  return {
    'starter missing': `${file} is not there. The lab cannot be run without it.`,
    'test missing': `${file} is not there. A lab counts as passed only by its own tests.`,
    'test emptied': `${file} is empty. A lab counts as passed only by its own tests.`,
    'test edited': `All tests pass, but ${file} is not the one that came with the course, so this does not count.`,
    'test broken': `${file} is not the one that came with the course, and no test in it could be run.`,
  }[why];
}
