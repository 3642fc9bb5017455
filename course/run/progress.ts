import type { Lab } from '../content/catalog';
import { isRecord, StateFile } from './state-file';

export interface Pass {
  readonly at: string;
  /** Digest of the tests and of what the lab provides; empty for a pass of before labs were ladders. */
  readonly tests: string;
}

/** What runs have shown, by lab id, so that it survives a renumbering. */
export interface Progress {
  readonly version: 2;
  readonly passed: Readonly<Record<string, Pass>>;
  /** Labs whose Core was green. */
  readonly core: Readonly<Record<string, Pass>>;
  /** The first test that failed in the last run of a lab that was red. */
  readonly failing: Readonly<Record<string, string>>;
  /** How many hints have been shown, by `lab/test`. */
  readonly hints: Readonly<Record<string, number>>;
  /** The lab that a command named last, and when (ms since the epoch). */
  readonly named: { readonly lab: string; readonly at: number } | null;
  /** Labs whose production the learner has gone on to, and not come back from. */
  readonly production: readonly string[];
  /** The path that is followed; null for the order of the course. */
  readonly path: string | null;
}

const NONE: Progress = {
  version: 2,
  passed: {},
  core: {},
  failing: {},
  hints: {},
  named: null,
  production: [],
  path: null,
};

const FILE = new StateFile<Progress>({
  name: 'progress',
  none: NONE,
  current,
  afterDamage: 'npm test -- all rebuilds it.',
  afterLoss: 'Then run: npm test -- all',
});

export const readProgress = (): Progress => FILE.read();

export const failingTest = (lab: Lab): string | undefined => readProgress().failing[lab.id];

/** A lab once passed stays passed. */
export function recordPassed(lab: Lab, tests: string): void {
  change(({ passed, failing: { [lab.id]: _was, ...failing } }) => ({
    passed: { ...passed, [lab.id]: { at: now(), tests } },
    failing,
  }));
}

export function recordCore(lab: Lab, tests: string): void {
  change(({ core }) => ({ core: { ...core, [lab.id]: { at: now(), tests } } }));
}

/** Remembers where to help; nowhere, where no test has failed. */
export function recordFailing(lab: Lab, test: string | undefined): void {
  change(({ failing: { [lab.id]: _was, ...failing } }) => ({
    failing: test === undefined ? failing : { ...failing, [lab.id]: test },
  }));
}

export function recordNamed(lab: Lab): void {
  change(() => ({ named: { lab: lab.id, at: Date.now() } }));
}

export function recordPath(path: string | null): void {
  change(() => ({ path }));
}

export const hasChosenProduction = (lab: Lab): boolean => readProgress().production.includes(lab.id);

export function chooseProduction(lab: Lab, chosen: boolean): void {
  change(({ production }) => {
    const others = production.filter((id) => id !== lab.id);
    return { production: chosen ? [...others, lab.id] : others };
  });
}

/** The number of hints seen for a test so far, this one included. */
export function countHint(lab: Lab, test: string, available: number): number {
  const key = `${lab.id}/${test}`;
  const seen = Math.min((readProgress().hints[key] ?? 0) + 1, available);
  change(({ hints }) => ({ hints: { ...hints, [key]: seen } }));
  return seen;
}

const now = () => new Date().toISOString();

/** What a file holds, in today's form; undefined where it is damaged. */
function current(stored: Readonly<Record<string, unknown>>): Progress | undefined {
  const sections = ['passed', 'failing', 'hints'];
  const { core = {}, production = [] } = stored;
  const sound = [...sections.map((name) => stored[name]), core].every(isRecord) && Array.isArray(production);
  if (!sound) return undefined;
  if (stored.version === 2) return { ...NONE, ...stored };
  // Before labs were ladders a pass was a date.
  const passed = Object.entries(stored.passed as Record<string, string>);
  return {
    ...NONE,
    ...stored,
    version: 2,
    passed: Object.fromEntries(passed.map(([lab, at]) => [lab, { at, tests: '' }])),
  };
}

function change(next: (before: Progress) => Partial<Progress>): void {
  const before = readProgress();
  FILE.write({ ...before, ...next(before) });
}
