import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder, messageOf, writeRemedy } from '../base/files';
import { ROOT, shown } from '../base/root';
import type { Lab } from '../content/catalog';

/** Everything the course writes for the learner: progress, and attempts that a reset set aside. Ignored by git. */
export const STATE = join(ROOT, '.course');
const FILE = join(STATE, 'progress.json');

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
}

const NONE: Progress = { version: 2, passed: {}, core: {}, failing: {}, hints: {}, named: null };

/** Where the file cannot be written, what this process knows. */
let unsaved: Progress | undefined;

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

/** The number of hints seen for a test so far, this one included. */
export function countHint(lab: Lab, test: string, available: number): number {
  const key = `${lab.id}/${test}`;
  const seen = Math.min((readProgress().hints[key] ?? 0) + 1, available);
  change(({ hints }) => ({ hints: { ...hints, [key]: seen } }));
  return seen;
}

const now = () => new Date().toISOString();

export function readProgress(): Progress {
  if (unsaved) return unsaved;
  if (!existsSync(FILE)) return NONE;
  try {
    const stored = current(JSON.parse(readFileSync(FILE, 'utf8')));
    if (stored) return stored;
  } catch {
    // Not to be read, or not JSON: treated like any other damage.
  }
  setAside();
  return NONE;
}

/** What a file holds, in today's form; undefined where it is damaged. */
function current(stored: unknown): Progress | undefined {
  const sections = ['passed', 'failing', 'hints'];
  const sound = isRecord(stored) && sections.every((name) => isRecord(stored[name]));
  if (!sound) return undefined;
  if (stored.version === 2) return { ...NONE, ...stored } as Progress;
  // Before labs were ladders a pass was a date.
  const passed = Object.entries(stored.passed as Record<string, string>);
  return {
    ...NONE,
    ...stored,
    version: 2,
    passed: Object.fromEntries(passed.map(([lab, at]) => [lab, { at, tests: '' }])),
  };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;

function setAside(): void {
  const aside = `${FILE}.damaged-${Date.now()}`;
  try {
    renameSync(FILE, aside);
    console.error(
      `\nThe progress file could not be read. It is kept as ${shown(aside)}; npm test -- all rebuilds it.\n`,
    );
  } catch (error) {
    keepInMemory(NONE, error);
  }
}

function change(next: (before: Progress) => Partial<Progress>): void {
  const before = readProgress();
  write({ ...before, ...next(before) });
}

function write(progress: Progress): void {
  // A rename replaces the file whole: a Ctrl-C or a full disk leaves the old one.
  const next = `${FILE}.${process.pid}`;
  try {
    makeFolder(STATE);
    writeFileSync(next, `${JSON.stringify(progress, null, 2)}\n`);
    renameSync(next, FILE);
    unsaved = undefined;
  } catch (error) {
    if (existsSync(next)) rmSync(next);
    keepInMemory(progress, error);
  }
}

/** The run itself stands: only the record of it is lost, and that is said once. */
function keepInMemory(progress: Progress, error: unknown): void {
  if (!unsaved) {
    console.error(
      `\nYour progress cannot be saved: ${messageOf(error)}.\n${writeRemedy(error)} Then run: npm test -- all\n`,
    );
  }
  unsaved = progress;
}
