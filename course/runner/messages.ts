import type { StackUrls } from '../stack/open';
import type { Subject } from './subject';

/** A pass over labs, each with one subject. Several passes of one run go on side by side, in one Vitest. */
export type Round = Readonly<Record<string, Subject>>;

export interface TestResult {
  readonly name: string;
  readonly state: 'passed' | 'failed' | 'not run';
  readonly error?: TestError;
}

export interface TestError {
  /** `AssertionError`, `TypeError`, … */
  readonly name: string;
  readonly message: string;
  readonly expected?: string;
  readonly actual?: string;
  /** Where in the subject it was thrown, if it was: `lru.ts:12:3`. */
  readonly at?: string;
}

/** What came of one subject's run. */
export interface LabRun {
  readonly place: string;
  readonly subject: Subject;
  readonly tests: readonly TestResult[];
  /** The file could not be loaded, or something outside the tests went wrong. */
  readonly fileErrors: readonly TestError[];
  readonly ms: number;
}

/** To the child. */
export type Order =
  | { readonly type: 'stacks'; readonly stacks: readonly StackUrls[] }
  | { readonly type: 'run'; readonly rounds: readonly Round[] };

/** From the child. */
export type Report =
  | { readonly type: 'loading'; readonly place: string }
  | { readonly type: 'tested' }
  | { readonly type: 'done'; readonly runs: readonly LabRun[]; readonly unhandled: readonly TestError[] }
  | { readonly type: 'broken'; readonly message: string };
