import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Lab, ROOT } from './catalog';

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

export const isPassed = (lab: Lab): boolean => lab.id in read().passed;

/** The first lab that is not yet passed; undefined when all are. */
export function currentLab(labs: readonly Lab[]): Lab | undefined {
  const { passed } = read();
  return labs.find((lab) => !(lab.id in passed));
}

export const failingTest = (lab: Lab): string | undefined => read().failing[lab.id];

/** Records a run: green passes the lab for good, red remembers where to help. */
export function recordRun(lab: Lab, failing: string | undefined): void {
  const before = read();
  const { [lab.id]: _was, ...others } = before.failing;
  write({
    ...before,
    passed: failing === undefined ? { [lab.id]: new Date().toISOString(), ...before.passed } : before.passed,
    failing: failing === undefined ? others : { ...others, [lab.id]: failing },
  });
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
  if (!existsSync(FILE)) return NONE;
  try {
    const stored: unknown = JSON.parse(readFileSync(FILE, 'utf8'));
    if (isProgress(stored)) return stored;
  } catch {
    // Not JSON: treated like any other damage.
  }
  const aside = `${FILE}.damaged-${Date.now()}`;
  renameSync(FILE, aside);
  console.error(
    `The progress file could not be read. It is kept as ${aside}; run npm test -- all to rebuild it.\n`,
  );
  return NONE;
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
  mkdirSync(dirname(FILE), { recursive: true });
  // A rename replaces the file whole: a Ctrl-C or a full disk leaves the old one.
  const next = `${FILE}.${process.pid}`;
  writeFileSync(next, `${JSON.stringify(progress, null, 2)}\n`);
  renameSync(next, FILE);
}
