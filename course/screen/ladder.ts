import { PARTS, type TestResult } from '../run/messages';
import { firstFailing } from '../run/verdict';
import { bold, dim, green, red, wrap } from './terminal';

/** The tests of a lab with their marks. A part that is done, or that waits, is one line. */
export function ladder(tests: readonly TestResult[]): string[] {
  const first = firstFailing(tests);
  if (!tests.some(({ part }) => part)) return tests.map((test) => row(test, first));
  const core = tests.filter(({ part }) => part !== 'production');
  const production = tests.filter(({ part }) => part === 'production');
  if (first?.part !== 'production') {
    const rest =
      production.length > 0 ? ['', dim(`  ${PARTS.production}: ${count(production)}, after Core`)] : [];
    return [`  ${bold(PARTS.core)}`, ...core.map((test) => row(test, first)), ...rest];
  }
  return [
    `  ${bold(PARTS.core)}  ${green('✓')} ${dim(count(core))}`,
    '',
    `  ${bold(PARTS.production)}`,
    ...production.map((test) => row(test, first)),
  ];
}

/** What production would add, without a word on what is missing yet. */
export const incidents = (tests: readonly TestResult[]): string[] =>
  tests.filter(({ part }) => part === 'production').map((test) => row(test, undefined));

export const passCount = (tests: readonly TestResult[]): string =>
  `${tests.filter(({ state }) => state === 'passed').length} of ${tests.length} tests pass`;

export const count = ({ length }: readonly unknown[]): string => `${length} test${length === 1 ? '' : 's'}`;

function row(test: TestResult, first: TestResult | undefined): string {
  const words = wrap(test.name, '    ').trimStart();
  const shown = test.state === 'passed' || test.name === first?.name;
  return `  ${mark(test, first)} ${shown ? words : dim(words)}`;
}

function mark({ state, name }: TestResult, first: TestResult | undefined): string {
  if (state === 'passed') return green('✓');
  if (name === first?.name) return red('✗');
  return dim(first && state === 'failed' ? '✗' : '·');
}
