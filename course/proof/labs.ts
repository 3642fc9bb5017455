import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { shown } from '../base/root';
import { type Lab, mistakesOf } from '../content/catalog';
import { helpFor, hintSections } from '../content/lesson';
import { brokenSeals } from '../content/seal';
import type { LabRun } from '../run/messages';
import type { Servers } from '../servers/types';
import { formProblems } from './form';
import { rungsOf } from './ladder';
import { soleProblems, unprovenOf } from './parts';
import { runProblems } from './runs';
import { candidatesFor, runOf, runTrials, type Trial, trialOf, trialsOf } from './trials';

export interface ProofOptions {
  /** Also that each test of In production rejects a mistake that no other test rejects. */
  readonly alone: boolean;
}

/**
 * Proves labs: the solution passes, the starter fails as a starter, every mistake is rejected by the test that its diff
 * names, and every test rejects a mistake. @returns problems, one sentence each with file and remedy; none is a proof
 */
export async function proveLabs(
  labs: readonly Lab[],
  servers: readonly Servers[],
  { alone }: ProofOptions,
): Promise<string[]> {
  const runnable = labs.filter((lab) => obstacles(lab).length === 0);
  const first = await runTrials(
    runnable.flatMap((lab) => trialsOf(lab, alone)),
    servers,
  );
  const second = await runTrials(
    runnable.flatMap((lab) => [
      ...survivors(lab, first.runs),
      ...(alone ? furtherTrials(lab, first.runs) : []),
    ]),
    servers,
  );
  const runs = [...second.runs, ...first.runs];
  return [
    ...labs.flatMap(obstacles),
    ...first.lost,
    ...second.lost,
    ...runnable.flatMap((lab) => [
      ...paperProblems(lab),
      ...formProblems(lab),
      ...hintProblems(lab),
      ...runProblems(lab, runs),
      ...(alone ? soleProblems(lab, runs) : []),
    ]),
  ];
}

/** Mistakes that a busy machine may have let pass: each gets a second run, and that one counts. */
const survivors = (lab: Lab, runs: readonly LabRun[]): Trial[] =>
  trialsOf(lab).filter((trial) => {
    const tests = trial.subject.startsWith('mistakes/') ? (runOf(runs, trial)?.tests ?? []) : [];
    return tests.some(({ name, state }) => state === 'passed' && trial.only?.includes(name));
  });

/** Where another test rejected the first candidate too, all of them are tried: that one again, on a busy machine. */
const furtherTrials = (lab: Lab, runs: readonly LabRun[]): Trial[] =>
  unprovenOf(lab, runs)
    .flatMap((title) => candidatesFor(lab, title))
    .map((name) => trialOf(lab, `mistakes/${name}`));

/** Not every lab has these. */
const OPTIONAL = new Set(['measure', 'given', 'parts', 'core', 'variants']);

/** What makes it pointless to run a lab. */
function obstacles({ files }: Lab): string[] {
  const absent = Object.entries(files)
    .filter(([kind, path]) => !OPTIONAL.has(kind) && !existsSync(path))
    .map(([kind, path]) => `${shown(path)} is missing: each lab has its ${kind}`);
  if (absent.length > 0) return absent;
  const hiding = /\b(?:it|test|describe)(?:\.\w+)*\.(?:skip|only|todo|skipIf|runIf|fails)\b/g;
  return [...readFileSync(files.test, 'utf8').matchAll(hiding)].map(
    ([found]) => `${shown(files.test)}: ${found} hides tests: remove it`,
  );
}

/** What can be told from the files alone. */
function paperProblems(lab: Lab): string[] {
  const { starter, pristine, seal } = lab.files;
  const read = (path: string) => readFileSync(path, 'utf8');
  const count = mistakesOf(lab).length;
  return [
    ...(count < 4 ? [`${shown(lab.files.mistakes)}: a lab keeps at least 4 mistakes: add ${4 - count}`] : []),
    ...(read(starter) === read(pristine)
      ? []
      : [
          `${shown(starter)} differs from ${shown(pristine)}: npm run reset -- ${lab.id}, or npm run sync if you are its author`,
        ]),
    ...brokenSeals(lab).map(
      ({ file }) =>
        `${shown(file)} differs from its seal ${basename(seal)}: git checkout ${shown(file)}, or npm run sync if you are its author`,
    ),
  ];
}

function hintProblems(lab: Lab): string[] {
  const hints = shown(lab.files.hints);
  const tests = rungsOf(lab).map(({ title }) => title);
  // That there is no test is told by the run.
  if (tests.length === 0) return [];
  return [
    ...tests
      .filter((name) => helpFor(lab, name).hints.length === 0)
      .map((name) => `${hints}: no hints for the test "${name}": write "1. …" under "## ${name}"`),
    ...[...hintSections(lab).keys()]
      .filter((name) => !tests.includes(name))
      .map((name) => `${hints}: "${name}" is no test: rename the heading`),
  ];
}
