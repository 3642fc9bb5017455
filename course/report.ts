import { type Lab, labs, shown } from './catalog';
import { helpFor, insight } from './lesson';
import { isPassed } from './progress';
import type { TestError, TestResult } from './runner/messages';
import { bold, cyan, dim, green, red, width, wrap, yellow } from './terminal';
import type { Stop, Verdict } from './verdict';

/** The screen for one lab's run: what happened, what is missing, what to do next. */
export function screen(lab: Lab, verdict: Verdict, typeErrors: readonly string[] = []): string {
  const body =
    verdict.kind === 'passed'
      ? greenScreen(lab, verdict.run.tests, verdict.run.ms)
      : verdict.kind === 'red'
        ? redScreen(lab, verdict.run.tests)
        : verdict.kind === 'stopped'
          ? stoppedScreen(lab, verdict)
          : voidScreen(lab, verdict.why);
  const types = typeErrors.length > 0 ? typeSection(typeErrors) : [];
  return [...body, ...types].join('\n');
}

/** One line for a lab, where several were run. */
export function line(lab: Lab, verdict: Verdict): string {
  const counts = 'run' in verdict ? passCount(verdict.run.tests) : verdict.why;
  return `${verdict.kind === 'passed' ? green('✓') : red('✗')} ${name(lab)}  ${dim(counts)}`;
}

export const name = (lab: Lab): string => `${lab.number} ${lab.title}`;

/** The first test that failed: the one to help with. */
export const firstFailing = (tests: readonly TestResult[]): TestResult | undefined =>
  tests.find(({ state }) => state === 'failed') ?? tests.find(({ state }) => state === 'not run');

function redScreen(lab: Lab, tests: readonly TestResult[]): string[] {
  const first = firstFailing(tests);
  const list = tests.map((test) => {
    const mark = test.state === 'passed' ? green('✓') : test === first ? red('✗') : dim('·');
    return `  ${mark} ${test.state === 'passed' || test === first ? test.name : dim(test.name)}`;
  });
  const title = `${bold(name(lab))}  ${passCount(tests)}`;
  if (!first) return [title, '', ...list];
  return [title, '', ...list, '', bold(first.name), ...explain(first.error), '', ...next(lab, first.name)];
}

function explain(error: TestError | undefined): string[] {
  if (!error) return [wrap('did not run', '  ')];
  if (/not implemented/.test(error.message)) return [wrap('not implemented yet', '  ')];
  const [said] = error.message.split(/: expected (?=[\s\S]*(to|not)\b)/);
  const sentence = error.name === 'AssertionError' ? (said ?? '') : `${error.name}: ${error.message}`;
  const values =
    error.expected !== undefined && error.actual !== undefined && error.expected !== error.actual
      ? [...value('expected', error.expected), ...value('seen    ', error.actual)]
      : [];
  return [wrap(short(sentence, 12), '  '), ...values, ...(error.at ? [`  at ${error.at}`] : [])];
}

const value = (label: string, text: string): string[] =>
  short(text, 6)
    .split('\n')
    .map(
      (row, index) =>
        `  ${index === 0 ? dim(label) : ' '.repeat(label.length)}  ${row.slice(0, width() - 12)}`,
    );

function short(text: string, rows: number): string {
  const all = text.trim().split('\n');
  return all.length > rows
    ? [...all.slice(0, rows), `… (${all.length - rows} more lines)`].join('\n')
    : all.join('\n');
}

function greenScreen(lab: Lab, tests: readonly TestResult[], ms: number): string[] {
  const all = labs();
  const passed = all.filter((each) => isPassed(each) || each.id === lab.id);
  const following = all.find((each) => !passed.includes(each));
  const bar = '█'.repeat(passed.length) + '░'.repeat(all.length - passed.length);
  return [
    `${bold(name(lab))}  ${green(`all ${tests.length} tests pass`)}  ${dim(`${Math.round(ms)} ms`)}`,
    '',
    wrap(insight(lab), '  '),
    '',
    `  ${green(bar)}  ${passed.length} of ${all.length} labs`,
    '',
    `${dim('Compare')}  ${command(`npm run solution -- ${lab.id}`)}, ${command(`npm run mistakes -- ${lab.id}`)}`,
    following
      ? `${dim('Next')}     ${name(following)}: read ${shown(following.files.lesson)}, then ${command('npm test')}`
      : `${dim('Next')}     every lab is passed: ${command('npm run list')}`,
  ];
}

const STOPPED: Record<Stop, { what: string; remedy: string }> = {
  'endless loop': {
    what: 'An endless loop: the test below was running, gave no sign of life for 7 s, and was ended.',
    remedy: 'Look for a loop whose condition never changes, or a wait that blocks the thread.',
  },
  'never settles': {
    what: 'A promise never settled: the test below waited 4 s for it, and the run was ended.',
    remedy: 'Look for an await on something that nobody resolves, or a deadline that is missing.',
  },
  crash: {
    what: 'The process that ran your code ended by itself.',
    remedy: 'The last lines that it printed are above.',
  },
  'syntax error': { what: 'The file could not be read as TypeScript.', remedy: 'Mend the syntax and save.' },
  'missing export': {
    what: 'The tests import something that your file no longer exports:',
    remedy: 'Export it again under that name.',
  },
  'process.exit': {
    what: 'Your code called process.exit: it would end the program of whoever uses it.',
    remedy: 'Throw an error, or return.',
  },
  'unhandled rejection': {
    what: 'A promise was rejected and nobody handled it. In production this ends the process.',
    remedy: 'Await it, or catch what it may throw where it is started.',
  },
  'left open': {
    what: 'All tests pass, but your code left something open:',
    remedy: 'Close what you open, or use the client that the test hands you.',
  },
  'load error': { what: 'The tests could not start:', remedy: 'Mend this first.' },
};

function stoppedScreen(lab: Lab, verdict: Verdict & { kind: 'stopped' }): string[] {
  const { what, remedy } = STOPPED[verdict.why];
  return [
    `${bold(name(lab))}  ${red(verdict.why)}`,
    '',
    wrap(what, '  '),
    ...(verdict.test ? [wrap(`in the test: ${verdict.test}`, '  ')] : []),
    ...(verdict.detail ? ['', wrap(short(verdict.detail, 14), '  ')] : []),
    '',
    wrap(`${remedy}`, '  '),
    '',
    `${dim('File')}  ${shown(lab.files.starter)}`,
    `${dim('Next')}  ${command(verdict.test ? `npm run hint -- ${lab.id}` : 'npm test')}`,
  ];
}

function voidScreen(lab: Lab, why: Extract<Verdict, { kind: 'void' }>['why']): string[] {
  const file = shown(why === 'starter missing' ? lab.files.starter : lab.files.test);
  const what = {
    'starter missing': `${file} is not there. The lab cannot be run without it.`,
    'test missing': `${file} is not there. A lab counts as passed only by its own tests.`,
    'test emptied': `${file} is empty. A lab counts as passed only by its own tests.`,
    'test edited': `All tests pass, but ${file} is not the one that came with the course, so this does not count.`,
  }[why];
  return [
    `${bold(name(lab))}  ${red('does not count')}`,
    '',
    wrap(what, '  '),
    '',
    `${dim('Next')}  ${command(`npm run reset -- ${lab.id}`)} puts it back as it was; your attempt is kept`,
  ];
}

function next(lab: Lab, test: string): string[] {
  const { read } = helpFor(lab, test);
  return [
    ...(read ? [`${dim('Read')}  ${read}`] : []),
    `${dim('File')}  ${shown(lab.files.starter)}`,
    `${dim('Next')}  ${command('npm run hint')}`,
  ];
}

function typeSection(errors: readonly string[]): string[] {
  const more = errors.length > 4 ? [dim(`  … and ${errors.length - 4} more`)] : [];
  const heading = `${errors.length} type error${errors.length === 1 ? '' : 's'} (the tests ran all the same)`;
  return ['', yellow(heading), ...errors.slice(0, 4).map((error) => wrap(error, '  ')), ...more];
}

const passCount = (tests: readonly TestResult[]): string =>
  `${tests.filter(({ state }) => state === 'passed').length} of ${tests.length} tests pass`;

const command = (text: string): string => cyan(text);
