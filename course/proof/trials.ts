import { join } from 'node:path';
import { type Lab, mistakesOf, shown } from '../catalog';
import type { LabRun, Round } from '../runner/messages';
import { type Outcome, openRunner, type Runner } from '../runner/run';
import type { Subject } from '../runner/subject';
import type { Stack } from '../stack/types';

/** A lab's tests against one subject. */
export interface Trial {
  readonly lab: Lab;
  readonly subject: Subject;
}

/** Each trial ends in one of them. */
export interface Trials {
  readonly runs: readonly LabRun[];
  /** Subjects that no run came of, one sentence each with file and remedy. */
  readonly lost: readonly string[];
}

export const trialsOf = (lab: Lab): Trial[] => [
  { lab, subject: 'solution' },
  { lab, subject: 'starter' },
  ...mistakesOf(lab).map((mistake): Trial => ({ lab, subject: `mistakes/${mistake}` })),
];

export async function runTrials(trials: readonly Trial[], stacks: readonly Stack[]): Promise<Trials> {
  if (trials.length === 0) return { runs: [], lost: [] };
  const runner = openRunner({ passes: roundsOf(trials).length, workers: stacks.length });
  runner.use(stacks, { shared: stacks.some(({ kind }) => kind !== 'private') });
  try {
    return await halving(trials, (rounds) => runner.run(rounds));
  } finally {
    runner.close();
  }
}

/** Runs trials together. Where one of them hangs or ends the process, halves are run until that one is found. */
export async function halving(trials: readonly Trial[], run: Runner['run']): Promise<Trials> {
  const outcome = await run(roundsOf(trials));
  const trouble = troubleOf(outcome);
  if (outcome.kind === 'ran' && !trouble) {
    const idle = trials.filter((trial) => !runOf(outcome.runs, trial));
    return {
      runs: outcome.runs,
      lost: idle.map((trial) => `${fileOf(trial)}: was not run: look at its name`),
    };
  }
  const [first, ...others] = trials;
  const file = first ? fileOf(first) : '';
  if (others.length === 0) {
    return { runs: [], lost: [`${file}: ${trouble}: it may fail by an assertion only`] };
  }
  const middle = Math.ceil(trials.length / 2);
  const halves = [await halving(trials.slice(0, middle), run), await halving(trials.slice(middle), run)];
  const lost = halves.flatMap((half) => half.lost);
  return {
    runs: halves.flatMap(({ runs }) => runs),
    lost:
      lost.length > 0
        ? lost
        : [`${file} and those after it: one ${trouble}, and none does alone: see what they share`],
  };
}

export const runOf = (runs: readonly LabRun[], { lab, subject }: Trial): LabRun | undefined =>
  runs.find((run) => run.place === lab.place && run.subject === subject);

/** What a person has to edit. */
export function fileOf({ lab, subject }: Trial): string {
  if (subject === 'solution') return shown(lab.files.solution);
  if (subject === 'starter') return shown(lab.files.pristine);
  return shown(join(lab.files.mistakes, '..', `${subject}.diff`));
}

/** Each lab's first subject, each lab's second, … */
function roundsOf(trials: readonly Trial[]): Round[] {
  const rounds: Record<string, Subject>[] = [];
  for (const { lab, subject } of trials) {
    const free = rounds.find((round) => !(lab.place in round));
    if (free) free[lab.place] = subject;
    else rounds.push({ [lab.place]: subject });
  }
  return rounds;
}

/** What went wrong outside of the tests. */
function troubleOf(outcome: Outcome): string | undefined {
  if (outcome.kind === 'ran') {
    const [error] = outcome.unhandled;
    return error && `throws where no test sees it (${error.message.split('\n')[0]})`;
  }
  const where = outcome.test ? `in the test "${outcome.test}"` : 'while it is loaded';
  return outcome.kind === 'hung' ? `hangs ${where}` : `ends the test process ${where} (${outcome.how})`;
}
