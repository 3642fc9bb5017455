import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { shown } from '../base/root';
import { type Lab, mistakesOf } from '../content/catalog';
import { rejectedBy } from '../content/mistake';
import { needsOf } from '../content/needs';
import type { LabRun, Task } from '../run/messages';
import { openRunner, type Runner, type RunResult } from '../run/runner';
import type { Subject } from '../run/subject';
import type { Servers } from '../servers/types';
import { titlesIn } from './ladder';

/** A task, and the lab that it is a proof of. */
export interface Trial extends Task {
  readonly lab: Lab;
}

/** Each trial ends in one of them. */
export interface Trials {
  readonly runs: readonly LabRun[];
  /** Subjects that no run came of, one sentence each with file and remedy. */
  readonly lost: readonly string[];
}

export const trialOf = (lab: Lab, subject: Subject): Trial => ({ lab, place: lab.place, subject });

/** @param alone some mistakes meet all tests, to show that one test rejects them alone: it takes three times as long */
export const trialsOf = (lab: Lab, alone = false): Trial[] => [
  trialOf(lab, 'solution'),
  trialOf(lab, 'starter'),
  ...(existsSync(lab.files.core) ? [trialOf(lab, 'core')] : []),
  ...variantsOf(lab).map((name) => trialOf(lab, `variants/${name}`)),
  ...mistakesOf(lab).map((name) => mistakeTrial(lab, name, alone)),
];

/** A mistake meets only the tests that must reject it, unless it is to show that no other test does. */
function mistakeTrial(lab: Lab, name: string, alone: boolean): Trial {
  const trial = trialOf(lab, `mistakes/${name}`);
  const only = rejectionsOf(lab, name);
  const isFirst = alone && only.length === 1 && candidatesFor(lab, only[0] ?? '')[0] === name;
  return only.length === 0 || isFirst ? trial : { ...trial, only };
}

/** The mistakes that may show what a test of In production alone rejects. */
export const candidatesFor = (lab: Lab, title: string): string[] =>
  titlesIn(lab, 'production').includes(title)
    ? mistakesOf(lab).filter((name) => rejectionsOf(lab, name).join() === title)
    : [];

export const rejectionsOf = (lab: Lab, mistake: string): string[] =>
  rejectedBy(join(lab.files.mistakes, `${mistake}.diff`));

export function variantsOf({ files }: Lab): string[] {
  if (!existsSync(files.variants)) return [];
  return readdirSync(files.variants)
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -'.ts'.length))
    .sort();
}

/** A process keeps the modules of all that it ran: after a thousand trials it had 5 GB, and time for little else. */
const TRIALS_A_PROCESS = 400;

export async function runTrials(trials: readonly Trial[], servers: readonly Servers[]): Promise<Trials> {
  if (trials.length === 0) return { runs: [], lost: [] };
  const cluster = trials.some(({ lab }) => needsOf(lab).cluster);
  const urls = cluster ? await Promise.all(servers.map((pair) => pair.withCluster())) : servers;
  const shared = servers.some(({ kind }) => kind !== 'private');
  const results: Trials[] = [];
  for (let from = 0; from < trials.length; from += TRIALS_A_PROCESS) {
    const runner = openRunner({ workers: servers.length, isolate: false });
    runner.use(urls, { shared });
    try {
      results.push(await halving(trials.slice(from, from + TRIALS_A_PROCESS), patient(runner)));
    } finally {
      runner.close();
    }
  }
  return { runs: results.flatMap(({ runs }) => runs), lost: results.flatMap(({ lost }) => lost) };
}

/** A hang may be the machine's, as a mistake that survives may be: what hung gets a second run, and that one counts. */
const patient =
  (runner: Runner): Runner['run'] =>
  async (tasks) => {
    const result = await runner.run(tasks);
    return result.kind === 'hung' ? runner.run(tasks) : result;
  };

/** Runs trials together. Where one of them hangs or ends the process, halves are run until that one is found. */
export async function halving(trials: readonly Trial[], run: Runner['run']): Promise<Trials> {
  const result = await run(trials.map(({ lab: _, ...task }) => task));
  const trouble = troubleOf(result);
  if (result.kind === 'ran' && !trouble) {
    const idle = trials.filter((trial) => !runOf(result.runs, trial));
    return {
      runs: result.runs,
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
  if (subject === 'core') return shown(lab.files.core);
  if (subject.startsWith('variants/')) return shown(join(lab.files.variants, '..', `${subject}.ts`));
  return shown(join(lab.files.mistakes, '..', `${subject}.diff`));
}

/** What went wrong outside of the tests. */
function troubleOf(result: RunResult): string | undefined {
  if (result.kind === 'ran') {
    const [error] = result.unhandled;
    return error && `throws where no test sees it (${error.message.split('\n')[0]})`;
  }
  const where = result.test ? `in the test "${result.test}"` : 'while it is loaded';
  return result.kind === 'hung' ? `hangs ${where}` : `ends the test process ${where} (${result.how})`;
}
