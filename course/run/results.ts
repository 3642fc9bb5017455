import { stripVTControlCharacters } from 'node:util';
import type { UserConsoleLog } from 'vitest';
import type { TestCase, TestModule } from 'vitest/node';
import { asError } from './errors';
import { type LabRun, type Part, partCalled, type TestError, type TestResult } from './messages';
import { subjectOf } from './subject';

/** A loop may print without end; the last of it is kept. */
const PRINTED_AT_MOST = 4000;

/** What the code under test writes to the console, by the id of the test that was running. */
export class Printed {
  readonly #texts = new Map<string, string>();

  add({ taskId = '', content }: UserConsoleLog): void {
    const text = this.of(taskId) + stripVTControlCharacters(content);
    this.#texts.set(taskId, text.slice(-PRINTED_AT_MOST));
  }

  of(taskId: string): string {
    return this.#texts.get(taskId) ?? '';
  }

  clear(): void {
    this.#texts.clear();
  }
}

/** Vitest's account of one test file, as far as a learner's screen or a proof needs it. */
export function labRun(module: TestModule, printed: Printed): LabRun {
  const { place, subject = 'attempt' } = subjectOf(module.moduleId);
  return {
    place,
    subject,
    tests: steps([...module.children.allTests()].map((test) => testResult(test, printed))),
    fileErrors: module.errors().map((error) => asError(error)),
    printed: printed.of(module.id),
    ms: module.diagnostic().duration,
  };
}

/** The cases of a `test.each` are one step: the first that failed tells. */
function steps(results: readonly TestResult[]): TestResult[] {
  const byName = new Map<string, TestResult>();
  for (const result of results) {
    const known = byName.get(result.name);
    if (!known || (known.state === 'passed' && result.state !== 'passed')) byName.set(result.name, result);
  }
  return [...byName.values()];
}

/** @returns undefined for a test that stands in neither */
export function partOf({ parent }: TestCase): Part | undefined {
  return partCalled(parent.type === 'suite' ? parent.name : undefined);
}

export function testResult(test: TestCase, printed: Printed): TestResult {
  const { state, errors } = test.result();
  const [error] = errors ?? [];
  const part = partOf(test);
  const { requests } = test.meta() as { requests?: TestResult['requests'] };
  return {
    name: test.name,
    ...(part && { part }),
    ...(requests && requests.length > 0 && { requests }),
    state: state === 'passed' || state === 'failed' ? state : 'not run',
    ...(error && { error: asError(error) }),
    printed: printed.of(test.id),
  };
}

/** An error that no test caught, with the test in whose lines it began. */
export function unhandledError(error: unknown, modules: readonly TestModule[]): TestError {
  const tests = modules.flatMap((module) => [...module.children.allTests()]);
  const testOf = (line: number) => tests.findLast(({ location }) => location && location.line <= line)?.name;
  const thrown = Object(error).type === 'Uncaught Exception';
  return { ...asError(error ?? {}, testOf), ...(thrown && { thrown }) };
}
