import { shown } from '../base/root';
import type { Lab } from '../content/catalog';
import type { Stop, Stopped, Void } from '../run/verdict';

/** What to say of a run that ended early, or beside its tests. */
export interface Words {
  readonly what: string;
  readonly remedy: string;
}

/** @param test whether a test was running; else the learner's file was being loaded */
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
      ? 'Look for an await on something that nobody resolves, or a deadline that is missing.'
      : 'Look for an await outside of every function.',
  }),
  crash: () => ({
    what: 'The process that ran your code ended by itself.',
    remedy: 'Look for what ends a process: a signal, or memory that ran out.',
  }),
  'syntax error': () => ({
    what: 'This is not TypeScript yet, so no test could run:',
    remedy: 'Mend the syntax and save.',
  }),
  'missing export': () => ({
    what: 'The tests import what your file does not export:',
    remedy: 'Export it under that name.',
  }),
  'process.exit': () => ({
    what: 'Your code called process.exit: it would end the program of whoever uses it.',
    remedy: 'Throw an error, or return.',
  }),
  'unhandled rejection': () => ({
    what: 'All tests pass, but a promise was rejected and nobody handled it. In production this ends the process.',
    remedy: 'Await the promise, or catch what it may reject with where it is made.',
  }),
  'left open': () => ({
    what: 'All tests pass, but your code left something open:',
    remedy: 'Close what you open, or use what the test hands you.',
  }),
  'load error': () => ({
    what: 'The tests could not start:',
    remedy: 'Mend this first: everything else comes after it.',
  }),
};

export function voidWords(lab: Lab, why: Void): string {
  const file = shown(why === 'starter missing' ? lab.files.starter : lab.files.test);
  return {
    'starter missing': `${file} is not there. The lab cannot be run without it.`,
    'test missing': `${file} is not there. A lab counts as passed only by its own tests.`,
    'test emptied': `${file} is empty. A lab counts as passed only by its own tests.`,
    'test edited': `All tests pass, but ${file} is not the one that came with the course, so this does not count.`,
    'test broken': `${file} is not the one that came with the course, and no test in it could be run.`,
  }[why];
}
