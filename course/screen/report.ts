import { shown } from '../base/root';
import { type Lab, labs } from '../content/catalog';
import { helpFor, insight } from '../content/lesson';
import { testFile } from '../content/seal';
import type { LabRun, TestResult } from '../run/messages';
import { currentLab, isPassed } from '../run/progress';
import { type Answer, firstFailing, type Stopped, type Verdict, type Void } from '../run/verdict';
import { explain, short } from './failure';
import { stoppedWords, voidWords } from './stopped';
import { bold, cyan, dim, green, red, wrap, yellow } from './terminal';

/** The screen for one lab's run: what happened, what is missing, what to do next. */
export const screen = ({ lab, verdict }: Answer): string =>
  [...body(lab, verdict), ...editedNote(lab, verdict)].join('\n');

/** The tests' part at once: the compiler may take longer. */
export async function print(answer: Answer): Promise<void> {
  console.log(screen(answer));
  const types = await typeNote(answer);
  if (types) console.log(types);
}

/** What to add to the screen once the compiler has answered: mostly nothing. */
export async function typeNote({ typeErrors }: Answer): Promise<string> {
  const errors = await typeErrors;
  if (errors.length === 0) return '';
  const more = errors.length > 4 ? [dim(`  … and ${errors.length - 4} more`)] : [];
  const heading = `${errors.length} type error${errors.length === 1 ? '' : 's'} (no hindrance to the tests)`;
  return ['', yellow(heading), ...errors.slice(0, 4).map((error) => wrap(error, '  ')), ...more].join('\n');
}

/** One line for a lab, where several were run. */
export function line({ lab, verdict }: Answer): string {
  const counts = 'run' in verdict ? passCount(verdict.run.tests) : verdict.why;
  return `${verdict.kind === 'passed' ? green('✓') : red('✗')} ${name(lab)}  ${dim(counts)}`;
}

/** The same for one that could not be run. */
export const notRun = (lab: Lab): string => `${red('✗')} ${name(lab)}  ${dim('could not be run')}`;

export const name = (lab: Lab): string => `${lab.number} ${lab.title}`;

function body(lab: Lab, verdict: Verdict): string[] {
  switch (verdict.kind) {
    case 'passed':
      return greenScreen(lab, verdict.run);
    case 'red':
      return redScreen(lab, verdict.run);
    case 'stopped':
      return stoppedScreen(lab, verdict);
    case 'void':
      return voidScreen(lab, verdict.why);
  }
}

function greenScreen(lab: Lab, { tests, ms }: LabRun): string[] {
  const following = currentLab(labs());
  return [
    `${bold(name(lab))}  ${green(`all ${tests.length} tests pass`)}  ${dim(`${Math.round(ms)} ms`)}`,
    '',
    wrap(insight(lab), '  '),
    '',
    `  ${progressBar()}`,
    '',
    `${dim('Compare')}  ${cyan(`npm run solution -- ${lab.id}`)}, ${cyan(`npm run mistakes -- ${lab.id}`)}`,
    ...(following
      ? [
          `${dim('Read')}     ${shown(following.files.lesson)}`,
          `${dim('Next')}     ${name(following)}: ${cyan('npm test')}`,
        ]
      : [`${dim('Next')}     every lab is passed: ${cyan('npm run list')}`]),
  ];
}

/** One mark a lab. */
export function progressBar(): string {
  const all = labs();
  const passed = all.filter(isPassed).length;
  return `${green('█'.repeat(passed) + '░'.repeat(all.length - passed))}  ${passed} of ${all.length} labs`;
}

function redScreen(lab: Lab, { tests, printed }: LabRun): string[] {
  const first = firstFailing(tests);
  const rows = tests.map((test) => {
    const words = wrap(test.name, '    ').trimStart();
    return `  ${mark(test, first)} ${test === first || test.state === 'passed' ? words : dim(words)}`;
  });
  const top = [`${bold(name(lab))}  ${passCount(tests)}`, '', ...rows];
  if (!first) return top;
  const { read } = helpFor(lab, first.name);
  return [
    ...top,
    '',
    bold(wrap(first.name)),
    ...(first.error ? explain(first.error) : ['  did not run']),
    ...printedSection(first.printed || printed),
    '',
    ...(read ? [`${dim('Read')}  ${read}`] : []),
    ...(first.error?.testAt ? [`${dim('Test')}  ${first.error.testAt}`] : []),
    `${dim('File')}  ${first.error?.at ?? shown(lab.files.starter)}`,
    `${dim('Next')}  ${suggest('npm run hint', lab)}`,
  ];
}

function mark({ state, ...test }: TestResult, first: TestResult | undefined): string {
  if (state === 'passed') return green('✓');
  if (state === 'not run') return dim('·');
  return test.name === first?.name ? red('✗') : dim('✗');
}

function stoppedScreen(lab: Lab, verdict: Stopped): string[] {
  const { what, remedy } = stoppedWords(verdict);
  const { why, test, detail, at, printed = '' } = verdict;
  return [
    `${bold(name(lab))}  ${red(why)}`,
    '',
    ...(test ? [bold(wrap(test))] : []),
    wrap(what, '  '),
    ...(detail ? ['', wrap(short(detail, 14), '  ')] : []),
    ...printedSection(printed),
    '',
    wrap(remedy, '  '),
    '',
    `${dim('File')}  ${at ?? shown(lab.files.starter)}`,
    `${dim('Next')}  ${test ? suggest('npm run hint', lab) : suggest('npm test', lab)}`,
  ];
}

function voidScreen(lab: Lab, why: Void): string[] {
  return [
    `${bold(name(lab))}  ${red('does not count')}`,
    '',
    wrap(voidWords(lab, why), '  '),
    '',
    `${dim('Next')}  ${cyan(`npm run reset -- ${lab.id}`)} puts it back as it was; your attempt is kept`,
  ];
}

/** What the learner printed to find out what happens. */
function printedSection(printed: string): string[] {
  const rows = printed.trimEnd().split('\n');
  if (!printed.trim()) return [];
  const more = rows.length > 10 ? [dim(`  … ${rows.length - 10} lines before`)] : [];
  return ['', dim('Your code printed'), ...more, wrap(rows.slice(-10).join('\n'), '  ')];
}

function editedNote(lab: Lab, { kind }: Verdict): string[] {
  if (kind === 'void' || testFile(lab) === 'as handed out') return [];
  const note = `${shown(lab.files.test)} is not the one that came with the course: a pass will not count. npm run reset -- ${lab.id} puts it back.`;
  return ['', yellow(wrap(note))];
}

const passCount = (tests: readonly TestResult[]): string =>
  `${tests.filter(({ state }) => state === 'passed').length} of ${tests.length} tests pass`;

/** A command about a lab: the current one needs no name. */
export const suggest = (command: string, lab: Lab): string =>
  cyan(currentLab(labs())?.id === lab.id ? command : `${command} -- ${lab.id}`);
