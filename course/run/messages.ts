import type { Sent } from '../kit/requests';
import type { ServerUrls } from '../servers/open';
import type { Subject } from './subject';

/** The two parts of a ladder. */
export type Part = 'core' | 'production';

/** As they are called in test files, on screens and in lessons. */
export const PARTS: Readonly<Record<Part, string>> = { core: 'Core', production: 'In production' };

/** @returns undefined for a suite of another name, and for none */
export const partCalled = (suite: string | undefined): Part | undefined =>
  suite === PARTS.core ? 'core' : suite === PARTS.production ? 'production' : undefined;

/** A lab's tests against one subject. */
export interface Task {
  readonly place: string;
  readonly subject: Subject;
  /** The names of the tests to run; all of them where absent. */
  readonly only?: readonly string[];
  readonly part?: Part;
}

export interface TestResult {
  /** Several tests of one name (`test.each`) are one step of the ladder, and one result. */
  readonly name: string;
  readonly part?: Part;
  readonly state: 'passed' | 'failed' | 'not run';
  readonly error?: TestError;
  /** What the code under test wrote to the console meanwhile. */
  readonly printed: string;
  /** The last requests of a test that failed, in order. */
  readonly requests?: readonly Sent[];
}

export interface TestError {
  /** `AssertionError`, `SyntaxError`, `TypeError`, … */
  readonly name: string;
  readonly message: string;
  readonly expected?: string;
  readonly actual?: string;
  /** Where in the subject it was thrown, if it was: `labs/01-fundamentals/04-lru/lru.ts:12:3`. */
  readonly at?: string;
  /** The same for the line of the test. */
  readonly testAt?: string;
  /** The test that was running, where the error belongs to none by itself. */
  readonly test?: string;
  /** Nothing awaited it: it was thrown in a timer or an event, and not by a promise. */
  readonly thrown?: true;
}

/** What came of one subject's run. */
export interface LabRun {
  readonly place: string;
  readonly subject: Subject;
  readonly tests: readonly TestResult[];
  /** The file could not be loaded, or something outside the tests went wrong. */
  readonly fileErrors: readonly TestError[];
  /** What was written to the console outside of any test. */
  readonly printed: string;
  readonly ms: number;
}

/** To the child. */
export type Order =
  | { readonly type: 'servers'; readonly servers: readonly ServerUrls[] }
  | { readonly type: 'run'; readonly tasks: readonly Task[] };

/** From the child. */
export type Report =
  | { readonly type: 'tested'; readonly result: TestResult }
  | { readonly type: 'done'; readonly runs: readonly LabRun[]; readonly unhandled: readonly TestError[] }
  | { readonly type: 'broken'; readonly message: string };

/** From the thread in which the tests run, written at once: a step that begins, or a sign that the thread still turns. */
export type Heartbeat =
  | { readonly begins: 'load' }
  | { readonly begins: 'hooks' }
  | {
      readonly begins: 'test';
      readonly name: string;
      readonly part: Part | undefined;
      readonly limitMs: number;
    }
  | { readonly begins: 'nothing' };
