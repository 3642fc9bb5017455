import { existsSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { type Lab, mistakesOf, shown } from '../catalog';
import { hintSections } from '../lesson';
import { type Mistake, readMistake } from '../mistake';
import type { LabRun, Round, TestResult } from '../runner/messages';
import { openRunner } from '../runner/run';
import type { Subject } from '../runner/subject';
import { digest } from '../seal';
import type { StackUrls } from '../stack/types';

/**
 * Proves labs: the solution passes, the starter fails as a starter, every mistake is rejected by the test that its diff
 * names, and every test rejects a mistake. @returns problems, one sentence each with file and remedy; none is a proof
 */
export async function proveLabs(labs: readonly Lab[], stacks: readonly StackUrls[]): Promise<string[]> {
  const onPaper = labs.flatMap(paperProblems);
  const subjects = new Map(labs.map((lab) => [lab.place, subjectsOf(lab)]));
  const passes = Math.max(...[...subjects.values()].map((all) => all.length));
  const rounds = Array.from({ length: passes }, (_, pass): Round => {
    const entries = [...subjects].flatMap(([place, all]) => (all[pass] ? [[place, all[pass]] as const] : []));
    return Object.fromEntries(entries);
  });

  const runner = openRunner({ passes, workers: stacks.length });
  runner.use(stacks);
  const outcome = await runner.run(rounds);
  runner.close();

  if (outcome.kind !== 'ran') {
    const how =
      outcome.kind === 'hung' ? 'a subject hung' : `the test process ended: ${outcome.how} ${outcome.output}`;
    return [
      ...onPaper,
      `${how}, in the test "${outcome.test}": run the labs one by one with npm run verify -- LAB`,
    ];
  }
  const strays = outcome.unhandled.map(({ message }) => `an error outside of any test: ${message}`);
  return [...onPaper, ...strays, ...labs.flatMap((lab) => labProblems(lab, outcome.runs))];
}

const subjectsOf = (lab: Lab): Subject[] => [
  'solution',
  'starter',
  ...mistakesOf(lab).map((mistake): Subject => `mistakes/${mistake}`),
];

function labProblems(lab: Lab, runs: readonly LabRun[]): string[] {
  const runOf = (subject: Subject) => runs.find((run) => run.place === lab.place && run.subject === subject);
  const tests = shown(lab.files.test);
  const mistakes = mistakesOf(lab).map((mistake) => {
    const path = join(lab.files.mistakes, `${mistake}.diff`);
    return { path, run: runOf(`mistakes/${mistake}`) };
  });
  const names = runOf('solution')?.tests.map(({ name }) => name) ?? [];
  const idle = names.filter((name) => !mistakes.some(({ run }) => failed(run, name)));
  return [
    ...solutionProblems(lab, runOf('solution')),
    ...starterProblems(lab, runOf('starter')),
    ...mistakes.flatMap(({ path, run }) => mistakeProblems(path, run)),
    ...idle.map(
      (name) => `${tests}: the test "${name}" rejects no mistake: sharpen it, or add the mistake it is for`,
    ),
    ...hintProblems(lab, names),
  ];
}

const failed = (run: LabRun | undefined, name: string): boolean =>
  run?.tests.some((test) => test.name === name && test.state === 'failed') ?? false;

function solutionProblems(lab: Lab, run: LabRun | undefined): string[] {
  const solution = shown(lab.files.solution);
  if (!run || run.tests.length === 0) {
    return [
      `${shown(lab.files.test)}: no test was run${because(run)}: a run that executes nothing proves nothing`,
    ];
  }
  const red = run.tests.filter(({ state }) => state !== 'passed');
  return [
    ...red.map(
      (test) => `${solution}: fails its own test "${test.name}" (${reason(test)}): mend the one or the other`,
    ),
    ...run.fileErrors.map(({ message }) => `${solution}: ${message}: the tests must leave nothing behind`),
    ...(run.ms > 4000
      ? [`${shown(lab.files.test)}: took ${Math.round(run.ms)} ms: a lab's tests finish in 2 s`]
      : []),
  ];
}

function starterProblems(lab: Lab, run: LabRun | undefined): string[] {
  const starter = shown(lab.files.pristine);
  if (!run || run.tests.length === 0)
    return [`${starter}: its tests did not run${because(run)}: it must load`];
  return run.tests
    .filter(({ error }) => !error?.message.includes('not implemented'))
    .map(
      (test) =>
        `${starter}: the test "${test.name}" must fail by "not implemented" and ${test.state === 'passed' ? 'passed' : `failed by: ${reason(test)}`}: let it throw where the learner has to write`,
    );
}

function mistakeProblems(path: string, run: LabRun | undefined): string[] {
  const file = shown(path);
  const mistake = read(path);
  if (typeof mistake === 'string') return [mistake];
  if (!run || run.tests.length === 0)
    return [`${file}: could not be run${because(run)}: make the diff again`];
  const named = run.tests.find(({ name }) => name === mistake.rejectedBy);
  if (!named) return [`${file}: no test is called "${mistake.rejectedBy}": correct the line Rejected-by`];
  if (named.state === 'passed') {
    return [`${file}: survives: the test "${named.name}" does not reject it: sharpen the test`];
  }
  if (named.error?.name !== 'AssertionError') {
    return [`${file}: must be rejected by an assertion of "${named.name}", not by: ${reason(named)}`];
  }
  return [];
}

const read = (path: string): Mistake | string => {
  try {
    return readMistake(path);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
};

/** What can be told from the files alone. */
function paperProblems(lab: Lab): string[] {
  const { test, starter, pristine, seal } = lab.files;
  const absent = Object.entries(lab.files)
    .filter(([kind, path]) => kind !== 'measure' && !existsSync(path))
    .map(([kind, path]) => `${shown(path)} is missing: each lab has its ${kind}`);
  if (absent.length > 0) return absent;

  const text = readFileSync(test, 'utf8');
  const count = mistakesOf(lab).length;
  const skips = [...text.matchAll(/\b(?:it|test|describe)\.(skip|only|todo|skipIf|runIf|fails)\b/g)];
  return [
    ...skips.map(([found]) => `${shown(test)}: ${found} hides tests: remove it`),
    ...(count < 4 ? [`${shown(lab.files.mistakes)}: ${count} mistakes: a lab keeps at least 4`] : []),
    ...(readFileSync(starter, 'utf8') === readFileSync(pristine, 'utf8')
      ? []
      : [
          `${shown(starter)} differs from ${shown(pristine)}: npm run reset -- ${lab.id}, or npm run sync if you are its author`,
        ]),
    ...(readFileSync(seal, 'utf8').startsWith(digest(text))
      ? []
      : [`${shown(test)} differs from its seal ${basename(seal)}: npm run sync if you are its author`]),
  ];
}

function hintProblems(lab: Lab, tests: readonly string[]): string[] {
  const hints = shown(lab.files.hints);
  const sections = [...hintSections(lab).keys()];
  return [
    ...tests
      .filter((name) => !sections.includes(name))
      .map((name) => `${hints}: no hints for the test "${name}": add "## ${name}"`),
    ...sections
      .filter((name) => !tests.includes(name))
      .map((name) => `${hints}: "${name}" is no test: rename the heading`),
  ];
}

const reason = ({ state, error }: TestResult): string =>
  error ? `${error.name}: ${error.message.split('\n')[0]}` : state;

const because = (run: LabRun | undefined): string =>
  run?.fileErrors[0] ? ` (${run.fileErrors[0].message.split('\n')[0]})` : '';
