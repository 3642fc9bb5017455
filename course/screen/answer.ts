import { shown } from '../base/root';
import { isDrill, type Lab } from '../content/catalog';
import { helpFor, insight } from '../content/lesson';
import { brokenSeals } from '../content/seal';
import { shortName } from '../run/drills';
import { type LabRun, PARTS } from '../run/messages';
import { type Answer, firstFailing, type Stopped, type Uncounted, type Verdict } from '../run/verdict';
import { explain, short } from './failure';
import { count, incidents, ladder, passCount } from './ladder';
import { requestsSection } from './requests';
import { labAfter, labTitle, pathLine, progressBar, standingMark, suggest } from './standing';
import { stoppedWords, uncountedWords } from './stopped';
import { bold, cyan, dim, foldRows, green, red, whole, wrap, yellow } from './terminal';

export interface View {
  /** The learner has gone on to production: what fails there is explained. */
  readonly production: boolean;
  /** In watch mode a key does what a command does elsewhere. */
  readonly keys?: boolean;
}

/** The screen for one lab's run: what happened, what is missing, what to do next. */
export const screen = ({ lab, verdict }: Answer, view: View): string =>
  foldRows([...body(lab, verdict, view), ...editedNote(lab, verdict)].join('\n'));

/** Core was green before, and production was run: then the run was about production. */
export const viewOf = ({ before, verdict }: Answer): View => ({
  production:
    before !== 'open' &&
    'run' in verdict &&
    verdict.run.tests.some(({ part, state }) => part === 'production' && state !== 'not run'),
});

/** The tests' part at once: the compiler may take longer. */
export async function printAnswer(answer: Answer): Promise<void> {
  console.log(screen(answer, viewOf(answer)));
  const types = await typeNote(answer);
  if (types) console.log(types);
}

/** What to add to the screen once the compiler has answered: mostly nothing. */
export async function typeNote({ typeErrors }: Answer): Promise<string> {
  const errors = await typeErrors;
  if (errors.length === 0) return '';
  const more = errors.length > 4 ? [dim(`  … and ${errors.length - 4} more`)] : [];
  const heading = `${errors.length} type error${errors.length === 1 ? '' : 's'} (the tests ran anyway)`;
  return ['', yellow(heading), ...errors.slice(0, 4).map((error) => wrap(error, '  ')), ...more].join('\n');
}

/** One line for a lab, where several were run. */
export function summaryLine({ lab, verdict }: Answer): string {
  const mark = { passed: green('✓'), core: standingMark('core') }[String(verdict.kind)] ?? red('✗');
  const counts = 'run' in verdict ? passCount(verdict.run.tests) : verdict.why;
  return `${mark} ${labTitle(lab)}  ${dim(counts)}`;
}

/** The same for a lab whose run could not begin. */
export const notRunLine = (lab: Lab): string => `${yellow('·')} ${labTitle(lab)}  ${dim('could not be run')}`;

function body(lab: Lab, verdict: Verdict, { production, keys = false }: View): string[] {
  switch (verdict.kind) {
    case 'passed':
      return greenScreen(lab, verdict.run, keys);
    case 'core':
      return production ? redScreen(lab, verdict.run, keys) : coreScreen(lab, verdict.run, keys);
    case 'red':
      return redScreen(lab, verdict.run, keys);
    case 'stopped':
      return stoppedScreen(lab, verdict, keys);
    case 'not counted':
      return uncountedScreen(lab, verdict.why, keys);
  }
}

function greenScreen(lab: Lab, { tests, ms }: LabRun, keys: boolean): string[] {
  return [
    `${bold(labTitle(lab))}  ${green(`● all ${count(tests)} pass`)}  ${dim(`${Math.round(ms)} ms`)}`,
    '',
    ...learned(lab),
    `  ${progressBar()}`,
    '',
    `${dim('Compare')}  ${whole(cyan(`npm run solution -- ${lab.id}`))}, ${whole(cyan(`npm run mistakes -- ${lab.id}`))}`,
    ...nextLines(lab, keys),
  ];
}

const learned = (lab: Lab): string[] => {
  const line = insight(lab);
  return line ? [wrap(line, '  '), ''] : [];
};

/** Core is a success of its own: the learner may go on to the next lab. */
function coreScreen(lab: Lab, { tests, ms }: LabRun, keys: boolean): string[] {
  const core = tests.filter(({ part }) => part === 'core');
  const production = tests.filter(({ part }) => part === 'production');
  return [
    `${bold(labTitle(lab))}  ${green(`◐ Core passes: ${count(core)}`)}  ${dim(`${Math.round(ms)} ms`)}`,
    '',
    ...learned(lab),
    `  ${bold(PARTS.production)} ${dim(`adds ${production.length}. Each is an incident of the core version:`)}`,
    ...incidents(tests),
    '',
    `  ${progressBar()}`,
    '',
    `${dim('Compare')}  ${cyan(`npm run solution -- ${lab.id} --core`)}`,
    `${dim('Stay')}     ${cyan(keys ? 'p' : `npm test -- ${lab.id}`)} goes on with production`,
    ...nextLines(lab, keys),
  ];
}

function nextLines(lab: Lab, keys: boolean): string[] {
  const following = labAfter(lab);
  if (!following) return [`${dim('Next')}     every lab is passed: ${cyan('npm run list')}`, ...pathLine(9)];
  const command = isDrill(following)
    ? cyan(`npm run drill -- ${shortName(following)}`)
    : suggest('npm test', following);
  return [
    `${dim('Read')}     ${shown(following.files.lesson)}`,
    `${dim('Next')}     ${labTitle(following)}: ${keys && !isDrill(following) ? cyan('n') : whole(command)}`,
    ...pathLine(9),
  ];
}

function redScreen(lab: Lab, { tests, printed }: LabRun, keys: boolean): string[] {
  const first = firstFailing(tests);
  const part = tests.filter((test) => test.part === first?.part);
  const where = first?.part ? `${first.part === 'core' ? '' : '◐ '}${PARTS[first.part]}: ` : '';
  const top = [`${bold(labTitle(lab))}  ${where}${passCount(part)}`, '', ...ladder(tests)];
  if (!first) return top;
  const { read } = helpFor(lab, first.name);
  return [
    ...top,
    '',
    bold(wrap(first.name)),
    ...(first.error ? explain(first.error) : ['  did not run']),
    ...requestsSection(first.requests ?? []),
    ...printedSection(first.printed || printed),
    '',
    ...(read ? [`${dim('Read')}  ${read}`] : []),
    ...(first.error?.testAt ? [`${dim('Test')}  ${first.error.testAt}`] : []),
    `${dim('File')}  ${first.error?.at ?? shown(lab.files.starter)}`,
    `${dim('Next')}  ${hintWay(lab, keys)}`,
  ];
}

const hintWay = (lab: Lab, keys: boolean): string =>
  keys ? `${cyan('h')} for a hint` : suggest('npm run hint', lab);

function stoppedScreen(lab: Lab, verdict: Stopped, keys: boolean): string[] {
  const { what, remedy } = stoppedWords(verdict);
  const { why, test, detail, at, printed = '' } = verdict;
  return [
    `${bold(labTitle(lab))}  ${red(why)}`,
    '',
    ...(test ? [bold(wrap(test))] : []),
    wrap(what, '  '),
    ...(detail ? ['', wrap(short(detail, 14), '  ')] : []),
    ...printedSection(printed),
    '',
    wrap(remedy, '  '),
    '',
    `${dim('File')}  ${at ?? shown(lab.files.starter)}`,
    `${dim('Next')}  ${test ? hintWay(lab, keys) : keys ? 'a save runs the tests again' : suggest('npm test', lab)}`,
  ];
}

function uncountedScreen(lab: Lab, why: Uncounted, keys: boolean): string[] {
  return [
    `${bold(labTitle(lab))}  ${red('does not count')}`,
    '',
    wrap(uncountedWords(lab, why), '  '),
    '',
    `${dim('Next')}  ${cyan(keys ? 'r' : `npm run reset -- ${lab.id}`)} puts it back; your attempt is kept`,
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
  const [broken] = brokenSeals(lab);
  if (kind === 'not counted' || !broken) return [];
  const note = `${shown(broken.file)} is not the one that came with the course: a pass will not count. npm run reset -- ${lab.id} puts it back.`;
  return ['', yellow(wrap(note))];
}
