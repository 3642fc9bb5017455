import { readText } from '../base/files';
import { nearest } from '../base/nearest';
import { Refusal } from '../base/refusal';
import { shown } from '../base/root';
import { onEnd } from '../base/signals';
import type { Lab } from '../content/catalog';
import { helpFor } from '../content/lesson';
import { parse, sections } from '../content/markdown';
import { beginDrill, DRILL_MS, drills, elapsed, shortName, timeOf } from '../run/drills';
import { recordNamed } from '../run/progress';
import { openSession } from '../run/session';
import { isStarter, standingOf } from '../run/standing';
import type { Answer } from '../run/verdict';
import { Keys } from '../screen/keys';
import { passCount } from '../screen/ladder';
import { asText } from '../screen/markdown';
import { labTitle, standingMark } from '../screen/standing';
import { bold, cyan, dim, foldRows, green, minutes, wrap, yellow } from '../screen/terminal';
import { openServers } from '../servers/open';
import { ATTEMPTS, resetLab } from './reset';
import { runLabs } from './test';
import { type Beside, WatchMode } from './watch-mode';

/** `npm run drill`: a small lab against a clock, as in an interview. Without a name: all drills. */
export async function drill(names: readonly string[], { again }: { again: boolean }): Promise<number> {
  const [name, ...others] = names;
  if (others.length > 0) throw new Refusal('npm run drill takes one name: one drill at a time.');
  if (name === undefined) {
    console.log(listing());
    return 0;
  }
  const lab = drillNamed(name);
  recordNamed(lab);
  const goesOn = !again && elapsed(lab) !== undefined;
  const atTerminal = Boolean(process.stdin.isTTY && process.stdout.isTTY);
  const refused = !goesOn && atTerminal && !isStarter(lab) ? await askToBegin(lab) : undefined;
  if (refused !== undefined) return refused;
  const note = goesOn ? '' : begin(lab);
  if (!atTerminal && !goesOn) {
    console.log(
      `${note && `${note}\n\n`}${words(lab)}\n\nYour file: ${shown(lab.files.starter)}\n${clock(lab)}`,
    );
    console.log(`Run its tests: ${cyan(`npm run drill -- ${shortName(lab)}`)}`);
    return 0;
  }
  const session = openSession(() => openServers({ install: 'ask' }));
  onEnd(() => session.close());
  try {
    await session.opened();
    if (!atTerminal) {
      const code = await runLabs(session, [lab]);
      console.log(`\n${clock(lab)}`);
      return code;
    }
    const watchMode = new WatchMode(session, BESIDE);
    if (goesOn) watchMode.open(lab);
    else watchMode.read(lab, [note, words(lab)].filter(Boolean).join('\n\n'));
    const code = await watchMode.left;
    if (elapsed(lab) !== undefined) {
      console.log(`${clock(lab)}, and the clock goes on: ${cyan(`npm run drill -- ${shortName(lab)}`)}`);
    }
    return code;
  } finally {
    await session.close();
  }
}

/** Before an attempt gives way to the starter. @returns the exit code where the learner leaves */
async function askToBegin(lab: Lab): Promise<number | undefined> {
  const file = shown(lab.files.starter);
  console.log(
    wrap(`A drill begins with the starter. Your attempt in ${file} is kept in ${shown(ATTEMPTS)}.`),
  );
  console.log(`${bold('Enter')} ${dim('begins')}  ${bold('q')} ${dim('leaves it as it is')}`);
  let begin = () => {};
  const begun = new Promise<undefined>((resolve) => {
    begin = () => resolve(undefined);
  });
  const keys = new Keys((key) => key === 'return' && begin());
  const code = await Promise.race([begun, keys.left]);
  keys.close();
  return code;
}

/** The starter again, and the clock. */
function begin(lab: Lab): string {
  const done = resetLab(lab);
  beginDrill(lab);
  return done.includes('\n') ? dim(foldRows(done)) : '';
}

const BESIDE: Beside = {
  clock: (lab) => (elapsed(lab) === undefined ? '' : clock(lab)),
  isOver: (lab) => (elapsed(lab) ?? 0) >= DRILL_MS,
  words: (lab) => words(lab),
  after: (answer) => after(answer),
};

/** What the interviewer says, and what may be asked. */
function words(lab: Lab): string {
  const parts = sections(parse(readText(lab.files.lesson)).children, 2);
  const said = parts.find(({ title }) => title === 'The interviewer')?.content ?? [];
  const page = shown(lab.files.lesson);
  return [
    bold(labTitle(lab)),
    asText(said),
    wrap(`Say aloud what you would ask. Then see ${page}#clarifying-questions, and begin.`),
  ].join('\n\n');
}

/** At the end: the time, the tests, what to practise. */
function after({ lab, verdict }: Answer): string {
  const page = shown(lab.files.lesson);
  const rubric = `${dim('Grade')}    ${page}#rubric\n${dim('Aloud')}    ${page}#follow-ups`;
  if (verdict.kind === 'passed') {
    const ms = timeOf(lab);
    return ms === undefined ? rubric : `${green(bold(`Done in ${minutes(ms)}`))}\n${rubric}`;
  }
  if ((elapsed(lab) ?? 0) < DRILL_MS) return '';
  const { tests = [] } = verdict.kind === 'red' ? verdict.run : {};
  const reads = tests.flatMap(({ name, state }) => {
    const read = state === 'failed' ? helpFor(lab, name).read : undefined;
    return read ? [`  ${name}\n    ${dim(read)}`] : [];
  });
  return [
    yellow(
      `${minutes(DRILL_MS)} are over${tests.length > 0 ? `: ${passCount(tests)}` : ''}. Go on if you like.`,
    ),
    ...(reads.length > 0 ? ['Practise:', ...reads.slice(0, 3)] : []),
    rubric,
  ].join('\n');
}

function clock(lab: Lab): string {
  const ms = elapsed(lab);
  if (ms === undefined) return '';
  const over = ms - DRILL_MS;
  return over > 0 ? `${minutes(ms)}, ${minutes(over)} over` : `${minutes(ms)} of ${minutes(DRILL_MS)}`;
}

function listing(): string {
  const rows = drills().map((lab) => {
    const last = timeOf(lab);
    const time = clock(lab) || (last === undefined ? '' : minutes(last));
    return `${standingMark(standingOf(lab))} ${lab.number.padEnd(4)} ${shortName(lab).padEnd(24)} ${dim(time)}`.trimEnd();
  });
  return [
    ...rows,
    '',
    `One of them: npm run drill -- NAME. ${minutes(DRILL_MS)} each; the time is not a test.`,
  ].join('\n');
}

/** @throws {Refusal} with the nearest names */
function drillNamed(name: string): Lab {
  const all = drills();
  const wanted = name.toLowerCase();
  const lab = all.find((each) => [each.id, shortName(each), each.number].includes(wanted));
  if (lab) return lab;
  const near = nearest(wanted, all.map(shortName));
  const meant = near.length > 0 ? ` Did you mean ${near.join(' or ')}?` : '';
  throw new Refusal(`No drill is called "${name}".${meant}\nAll of them: npm run drill`);
}
