import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { ROOT } from '../base/root';
import type { TestError } from './messages';

/** An error as Vitest hands it over: whatever was thrown, made ready for another thread. */
export interface VitestError {
  readonly name?: string;
  readonly message?: string;
  readonly stack?: string;
  readonly expected?: unknown;
  readonly actual?: unknown;
  readonly VITEST_TEST_NAME?: string;
}

interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

/** @param testAt the name of the test that holds a line of the test file */
export function asError(
  error: VitestError,
  testOf: (line: number) => string | undefined = () => undefined,
): TestError {
  const message = stripVTControlCharacters(error.message ?? 'something was thrown that is not an Error');
  const syntax = syntaxError(message);
  if (syntax) return syntax;

  const frames = placesIn(error.stack ?? '');
  const at = frames.find(({ file }) => !file.endsWith('.test.ts'));
  const testAt = frames.findLast(({ file }) => file.endsWith('.test.ts'));
  const test = (testAt && testOf(testAt.line)) ?? error.VITEST_TEST_NAME;
  return {
    ...(unsatisfied(message) ?? {
      name: error.name ?? 'Error',
      message: unrooted(message),
      // Numbers come with "to be less than" and its like, where the message says it better.
      ...(typeof error.expected === 'string' && { expected: error.expected }),
      ...(typeof error.actual === 'string' && { actual: error.actual }),
    }),
    ...(at && { at: shown(at) }),
    ...(testAt && { testAt: shown(testAt) }),
    ...(test !== undefined && { test }),
  };
}

/** An assertion like any other, but Vitest words it in its own way. */
function unsatisfied(message: string): TestError | undefined {
  const [, sentence, actual] =
    /^([\s\S]*): expect\(received\)\.toSatisfy\(\)[\s\S]*Received:\s*([\s\S]*)$/.exec(message) ?? [];
  return sentence === undefined
    ? undefined
    : { name: 'AssertionError', message: sentence, actual: actual?.trim() ?? '' };
}

/** What the parser says, and the line of which it says it. */
function syntaxError(message: string): TestError | undefined {
  const [, said, file, line, column] =
    /\[PARSE_ERROR\] (.+)\n\s*╭─\[ (.+):(\d+):(\d+) \]/.exec(message) ?? [];
  if (!said || !file) return undefined;
  const place = { file, line: Number(line), column: Number(column) };
  const code = readFileSync(join(ROOT, file), 'utf8').split('\n')[place.line - 1] ?? '';
  const indent = code.length - code.trimStart().length;
  return {
    name: 'SyntaxError',
    message: `${said}\n\n${code.trimStart()}\n${' '.repeat(Math.max(0, place.column - 1 - indent))}^`,
    at: shown(place),
  };
}

/** The lines of labs and solutions in a stack, innermost first. */
function placesIn(stack: string): Place[] {
  const frames = unrooted(stack).matchAll(/(?<=[\s(])((?:labs|solutions)\/[^\s:?]+\.ts)[^\s:]*:(\d+):(\d+)/g);
  return [...frames].map(([, file = '', line, column]) => ({
    file,
    line: Number(line),
    column: Number(column),
  }));
}

const shown = ({ file, line, column }: Place): string => `${file}:${line}:${column}`;

const unrooted = (message: string): string =>
  message.replaceAll(`${ROOT}/`, '').replace(/(?<=\.test\.ts)\?subject=[^\s:)]+/g, '');
