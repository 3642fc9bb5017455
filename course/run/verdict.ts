import { existsSync, readFileSync } from 'node:fs';
import type { Lab } from '../content/catalog';
import { testFile } from '../content/seal';
import type { LabRun, TestError, TestResult } from './messages';
import type { Outcome } from './runner';

/** What a run means for the learner. Each verdict has one screen (report.ts). */
export type Verdict =
  | { readonly kind: 'passed'; readonly run: LabRun }
  | { readonly kind: 'red'; readonly run: LabRun }
  | Stopped
  /** The files are not such that a run could count. */
  | { readonly kind: 'void'; readonly why: Void };

/** The run ended early, or beside its tests. */
export interface Stopped {
  readonly kind: 'stopped';
  readonly why: Stop;
  /** The test that was running. */
  readonly test?: string | undefined;
  /** In the words of whoever found it. */
  readonly detail?: string;
  /** `labs/01-fundamentals/04-lru/lru.ts:12:3` */
  readonly at?: string | undefined;
  readonly printed?: string;
}

export type Stop =
  | 'endless loop'
  | 'never settles'
  | 'crash'
  | 'syntax error'
  | 'missing export'
  | 'process.exit'
  | 'unhandled rejection'
  | 'left open'
  | 'load error';

export type Void = 'starter missing' | 'test missing' | 'test emptied' | 'test edited' | 'test broken';

/** A lab's run as the learner is to see it. */
export interface Answer {
  readonly lab: Lab;
  readonly verdict: Verdict;
  /** They take longer than most tests, and do not change the verdict. */
  readonly typeErrors: Promise<readonly string[]>;
}

/** The first test that failed: the one to help with. */
export const firstFailing = (tests: readonly TestResult[]): TestResult | undefined =>
  tests.find(({ state }) => state === 'failed') ?? tests.find(({ state }) => state === 'not run');

/** What can be said before anything runs. */
export function beforeRun(lab: Lab): Verdict | undefined {
  if (!existsSync(lab.files.starter)) return { kind: 'void', why: 'starter missing' };
  const file = testFile(lab);
  if (file === 'missing' || file === 'emptied') return { kind: 'void', why: `test ${file}` };
  const missing = missingExports(lab);
  return missing.length > 0
    ? { kind: 'stopped', why: 'missing export', detail: missing.join(', ') }
    : undefined;
}

export function judge(lab: Lab, outcome: Outcome): Verdict {
  if (outcome.kind === 'hung') {
    const why = outcome.by === 'loop' ? 'endless loop' : 'never settles';
    return { kind: 'stopped', why, test: outcome.test };
  }
  if (outcome.kind === 'crashed') {
    const detail = [outcome.how, outcome.output].filter(Boolean).join('\n');
    return { kind: 'stopped', why: 'crash', test: outcome.test, detail };
  }
  const run = outcome.runs.find(({ place }) => place === lab.place);
  if (!run) throw new Error(`Vitest did not run ${lab.files.test}`);
  return judgeRun(lab, run, outcome.unhandled);
}

function judgeRun(lab: Lab, run: LabRun, unhandled: readonly TestError[]): Verdict {
  const [fileError] = run.fileErrors;
  if (run.tests.length === 0) {
    // Without a test there is nothing to show of the edited file but that it was edited.
    const whole = testFile(lab) === 'as handed out';
    return whole ? loadError(run, fileError) : { kind: 'void', why: 'test broken' };
  }
  const failed = run.tests.find(({ state }) => state === 'failed');
  if (failed) return ended(failed) ?? { kind: 'red', run };
  if (fileError) return leftOpen(fileError) ?? loadError(run, fileError);
  if (run.tests.some(({ state }) => state === 'not run')) return { kind: 'red', run };

  const [stray] = unhandled;
  if (stray) return stopped('unhandled rejection', stray, stray.test);
  return testFile(lab) === 'as handed out' ? { kind: 'passed', run } : { kind: 'void', why: 'test edited' };
}

/** A test that did not fail by what it asserts. */
function ended({ name, error, printed }: TestResult): Stopped | undefined {
  if (!error) return undefined;
  if (CALLED_EXIT.test(error.message))
    return { ...stopped('process.exit', error, name), detail: '', printed };
  if (/timed out in \d+ms/.test(error.message)) {
    return { kind: 'stopped', why: 'never settles', test: name, printed };
  }
  return undefined;
}

const CALLED_EXIT = /process\.exit unexpectedly called/;

function loadError({ printed }: LabRun, error: TestError | undefined): Stopped {
  if (!error) return { kind: 'stopped', why: 'load error', detail: 'The test file ran no test.', printed };
  if (CALLED_EXIT.test(error.message)) return { ...stopped('process.exit', error), detail: '', printed };
  const why = error.name === 'SyntaxError' ? 'syntax error' : 'load error';
  return { ...stopped(why, error), printed };
}

function leftOpen({ message }: TestError): Stopped | undefined {
  const [, what] = /^LEFT OPEN: ([\s\S]*)$/.exec(message) ?? [];
  return what === undefined ? undefined : { kind: 'stopped', why: 'left open', detail: what };
}

const stopped = (why: Stop, { message, at }: TestError, test?: string): Stopped => ({
  kind: 'stopped',
  why,
  test,
  detail: message,
  at,
});

/** Values that the starter exports and the learner's file does not. */
function missingExports(lab: Lab): string[] {
  if (!existsSync(lab.files.pristine)) return [];
  const mine = readFileSync(lab.files.starter, 'utf8');
  const all = readFileSync(lab.files.pristine, 'utf8').matchAll(
    /^export (?:async )?(?:abstract )?(?:function\*?|class|const|let) (\w+)/gm,
  );
  return [...all]
    .map(([, name]) => String(name))
    .filter((name) => !new RegExp(`^\\s*export\\b[^;]*?\\b${name}\\b`, 'm').test(mine));
}
