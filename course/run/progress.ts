import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, shown } from '../base/root';
import type { Lab } from '../content/catalog';

/** Everything the course writes for the learner: progress, and attempts that a reset set aside. Ignored by git. */
export const STATE = join(ROOT, '.course');
const FILE = join(STATE, 'progress.json');

/** What runs have shown, by lab id, so that it survives a renumbering. */
interface Progress {
  /** When each lab was first passed. */
  readonly passed: Readonly<Record<string, string>>;
  /** The first test that failed in the last run of a lab that was red. */
  readonly failing: Readonly<Record<string, string>>;
  /** How many hints have been shown, by `lab/test`. */
  readonly hints: Readonly<Record<string, number>>;
}

const NONE: Progress = { passed: {}, failing: {}, hints: {} };

/** Where the file cannot be written, what this process knows. */
let unsaved: Progress | undefined;

export const isPassed = (lab: Lab): boolean => lab.id in read().passed;

/** The first lab that is not yet passed; undefined when all are. */
export function currentLab(labs: readonly Lab[]): Lab | undefined {
  const { passed } = read();
  return labs.find((lab) => !(lab.id in passed));
}

export const failingTest = (lab: Lab): string | undefined => read().failing[lab.id];

/** A lab once passed stays passed. */
export function recordPassed(lab: Lab): void {
  const before = read();
  const { [lab.id]: _was, ...failing } = before.failing;
  write({ ...before, passed: { [lab.id]: new Date().toISOString(), ...before.passed }, failing });
}

/** Remembers where to help. */
export function recordFailing(lab: Lab, test: string): void {
  const before = read();
  write({ ...before, failing: { ...before.failing, [lab.id]: test } });
}

/** The number of hints seen for a test so far, this one included. */
export function countHint(lab: Lab, test: string, available: number): number {
  const before = read();
  const key = `${lab.id}/${test}`;
  const seen = Math.min((before.hints[key] ?? 0) + 1, available);
  write({ ...before, hints: { ...before.hints, [key]: seen } });
  return seen;
}

function read(): Progress {
  if (unsaved) return unsaved;
  if (!existsSync(FILE)) return NONE;
  try {
    const stored: unknown = JSON.parse(readFileSync(FILE, 'utf8'));
    if (isProgress(stored)) return stored;
  } catch {
    // Not to be read, or not JSON: treated like any other damage.
  }
  setAside();
  return NONE;
}

function setAside(): void {
  const aside = `${FILE}.damaged-${Date.now()}`;
  try {
    renameSync(FILE, aside);
    console.error(
      `\nThe progress file could not be read. It is kept as ${shown(aside)}; npm test -- all makes it anew.\n`,
    );
  } catch (error) {
    keepInMemory(NONE, error);
  }
}

function isProgress(value: unknown): value is Progress {
  const sections = ['passed', 'failing', 'hints'];
  return (
    typeof value === 'object' &&
    value !== null &&
    sections.every(
      (name) => typeof Reflect.get(value, name) === 'object' && Reflect.get(value, name) !== null,
    )
  );
}

function write(progress: Progress): void {
  // A rename replaces the file whole: a Ctrl-C or a full disk leaves the old one.
  const next = `${FILE}.${process.pid}`;
  try {
    mkdirSync(STATE, { recursive: true });
    writeFileSync(next, `${JSON.stringify(progress, null, 2)}\n`);
    renameSync(next, FILE);
    unsaved = undefined;
  } catch (error) {
    if (existsSync(next)) rmSync(next);
    keepInMemory(progress, error);
  }
}

/** The run itself stands: only the record of it is lost, and that is told once. */
function keepInMemory(progress: Progress, error: unknown): void {
  if (!unsaved) {
    console.error(
      `\nYour progress cannot be saved: ${error instanceof Error ? error.message : error}.\n` +
        `Make ${shown(STATE)} a folder that you may write, on a disk with room, and run npm test -- all.\n`,
    );
  }
  unsaved = progress;
}
