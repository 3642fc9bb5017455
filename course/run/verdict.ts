import { existsSync } from 'node:fs';
import { readText } from '../base/files';
import type { Lab } from '../content/catalog';
import { testFile } from '../content/seal';
import type { LabRun, TestError, TestResult } from './messages';
import { decoratorIn, valueExports } from './parse';
import type { RunResult } from './runner';
import type { Standing } from './standing';
import { CALLED_EXIT, TIMED_OUT } from './vitest-words';

/** What a run means for the learner. Each verdict has one screen. */
export type Verdict =
  | { readonly kind: 'passed'; readonly run: LabRun }
  /** Core is green; what production adds is not, or was not run. */
  | { readonly kind: 'core'; readonly run: LabRun }
  | { readonly kind: 'red'; readonly run: LabRun }
  | Stopped
  /** The files are not such that a run could count. */
  | { readonly kind: 'not counted'; readonly why: Uncounted };

/** The run ended early, or beside its tests. */
export interface Stopped {
  readonly kind: 'stopped';
  readonly why: Stop;
  /** The test that was running. */
  readonly test?: string | undefined;
  /** Core was green when it happened. */
  readonly core?: boolean;
  /** In the words of the program that found it. */
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
  | 'thrown error'
  | 'unhandled rejection'
  | 'left open'
  | 'load error';

export type Uncounted = 'starter missing' | 'test missing' | 'test emptied' | 'test edited' | 'test broken';

/** A lab's run as the learner is to see it. */
export interface Answer {
  readonly lab: Lab;
  readonly verdict: Verdict;
  /** Where the lab stood before this run. */
  readonly before: Standing;
  /** They take longer than most tests, and do not change the verdict. */
  readonly typeErrors: Promise<readonly string[]>;
}

/** The first test that failed: the one to help with. */
export const firstFailing = (tests: readonly TestResult[]): TestResult | undefined =>
  tests.find(({ state }) => state === 'failed') ?? tests.find(({ state }) => state === 'not run');

export const isCoreGreen = (tests: readonly TestResult[]): boolean => {
  const core = tests.filter(({ part }) => part === 'core');
  return core.length > 0 && core.every(({ state }) => state === 'passed');
};

/** Not where nothing ran: then the answer is the reason, or the files are not as they should be. */
export function isCoreRed(answer: Answer | string): boolean {
  if (typeof answer === 'string') return false;
  const { verdict } = answer;
  return verdict.kind === 'stopped' ? !verdict.core : verdict.kind === 'red';
}

/** What can be said before anything runs. @throws {Refusal} where a file of the lab cannot be read */
export function beforeRun(lab: Lab): Verdict | undefined {
  if (!existsSync(lab.files.starter)) return { kind: 'not counted', why: 'starter missing' };
  readText(lab.files.starter);
  const file = testFile(lab);
  if (file === 'missing' || file === 'emptied') return { kind: 'not counted', why: `test ${file}` };
  const missing = missingExports(lab);
  return missing.length > 0
    ? { kind: 'stopped', why: 'missing export', detail: missing.join(', ') }
    : undefined;
}

export function judge(lab: Lab, result: RunResult): Verdict {
  if (result.kind === 'hung') {
    const why = result.by === 'loop' ? 'endless loop' : 'never settles';
    return { kind: 'stopped', why, test: result.test, core: isCoreGreen(result.tests) };
  }
  if (result.kind === 'crashed') {
    const detail = [result.how, result.output].filter(Boolean).join('\n');
    return { kind: 'stopped', why: 'crash', test: result.test, detail, core: isCoreGreen(result.tests) };
  }
  const run = result.runs.find(({ place }) => place === lab.place);
  if (!run) throw new Error(`Vitest did not run ${lab.files.test}`);
  return judgeRun(lab, run, result.unhandled);
}

function judgeRun(lab: Lab, run: LabRun, unhandled: readonly TestError[]): Verdict {
  const [fileError] = run.fileErrors;
  const { tests } = run;
  if (tests.length === 0) {
    // Without a test there is nothing to show of the edited file but that it was edited.
    const whole = testFile(lab) === 'as handed out';
    return whole ? loadError(lab, run, fileError) : { kind: 'not counted', why: 'test broken' };
  }
  // An error that no test has seen spoils a green run, and whatever part of it was green.
  const [stray] = unhandled;
  const core = isCoreGreen(tests) && !stray;
  const failed = tests.find(({ state }) => state === 'failed');
  if (failed) return ended(failed, core) ?? { kind: core ? 'core' : 'red', run };
  if (fileError) return leftOpen(fileError) ?? loadError(lab, run, fileError);
  if (stray) return stopped(stray.thrown ? 'thrown error' : 'unhandled rejection', stray, stray.test);
  if (tests.some(({ state }) => state === 'not run')) return { kind: core ? 'core' : 'red', run };
  return testFile(lab) === 'as handed out'
    ? { kind: 'passed', run }
    : { kind: 'not counted', why: 'test edited' };
}

/** What a test of the lab could not have: a server of its own (kit/own-redis.ts). */
export const serverNeeded = ({ tests }: LabRun): string | undefined =>
  tests.map(({ error }) => /^NEEDS SERVER: ([\s\S]*)$/.exec(error?.message ?? '')?.[1]).find(Boolean);

/** A test that did not fail by what it asserts. */
function ended({ name, error, printed }: TestResult, core: boolean): Stopped | undefined {
  if (!error) return undefined;
  if (CALLED_EXIT.test(error.message))
    return { ...stopped('process.exit', error, name), core, detail: '', printed };
  if (TIMED_OUT.test(error.message))
    return { kind: 'stopped', why: 'never settles', test: name, core, printed };
  return undefined;
}

function loadError({ files }: Lab, { printed }: LabRun, error: TestError | undefined): Stopped {
  if (!error) return { kind: 'stopped', why: 'load error', detail: 'The test file ran no test.', printed };
  if (CALLED_EXIT.test(error.message)) return { ...stopped('process.exit', error), detail: '', printed };
  if (error.name !== 'SyntaxError') return { ...stopped('load error', error), printed };
  const at = error.at ?? decoratorIn(files.starter);
  const detail = error.at || !at ? error.message : 'A decorator: this course runs TypeScript without them.';
  return { ...stopped('syntax error', error), at, detail, printed };
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
function missingExports({ files }: Lab): string[] {
  const wanted = valueExports(files.pristine);
  const mine = valueExports(files.starter);
  return wanted && mine ? [...wanted].filter((name) => !mine.has(name)) : [];
}
