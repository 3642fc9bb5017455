import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Refusal } from '../base/refusal';
import { ROOT, shown } from '../base/root';
import { onEnd } from '../base/signals';
import { checkClaims } from '../claims/check';
import { hasMeasure, type Target, targetOf } from '../claims/targets';
import { find, type Lab, labs, type Overview, overviews } from '../content/catalog';
import { questions } from '../content/questions';
import { checkConfigFiles } from '../proof/config-files';
import { coverageNote, runCourseTests } from '../proof/course-tests';
import { proveLabs } from '../proof/labs';
import { codeLanguage, pageLanguage } from '../proof/language';
import { lessonProblems, overviewProblems } from '../proof/lessons';
import { bankProblems, ownQuestionProblems } from '../proof/questions';
import { changedFiles, everything, type Scope, scopeOf } from '../proof/scope';
import { textProblems } from '../proof/text';
import { runTool } from '../proof/tools';
import { bold, dim, green, red } from '../screen/terminal';
import { openServers, type Servers } from '../servers/open';
import { unknownName } from './test';

/** One proof: problems, each naming a file and a remedy; none is a pass. */
interface Proof {
  readonly name: string;
  prove(): Promise<readonly string[]>;
  /** What to say beside a pass. */
  note?(): string;
}

/**
 * `npm run verify`: the course's own proofs: all, for the labs named, or for what a change touches.
 * @returns 0 when everything holds
 */
export async function verify(names: readonly string[], { changed = false } = {}): Promise<number> {
  const scope = scopeFor(names, changed);
  const ofFiles = names.length === 0;
  if (changed) console.log(dim(`${inWords(scope)}\n`));

  const start = performance.now();
  const servers = new ServerPool();
  onEnd(() => servers.close());
  let failed = 0;
  let passed = 0;
  const carryOut = async ({ name, prove, note }: Proof) => {
    const began = performance.now();
    const problems = await prove();
    if (problems.length > 0) failed++;
    else passed++;
    const seconds = `${((performance.now() - began) / 1000).toFixed(1)} s`;
    console.log(`${problems.length > 0 ? red('✗') : green('✓')} ${name}  ${dim(seconds)}`);
    if (note && problems.length === 0) console.log(dim(`  ${note()}`));
    for (const problem of problems) console.log(`  ${problem.replaceAll('\n', '\n  ')}`);
  };
  const inTurn = async (proofs: readonly Proof[]) => {
    for (const proof of proofs) await carryOut(proof);
  };

  try {
    // The labs wait for deadlines and the course's own tests for processes: side by side they fill two cores.
    await Promise.all([
      inTurn([
        ...(scope.labs.length > 0 ? [labProof(scope.labs, servers, !ofFiles)] : []),
        ...(ofFiles ? [] : [textProof(scope.labs.flatMap(readIn), scope.labs, [])]),
      ]),
      inTurn([...(ofFiles ? fileProofs() : []), ...(scope.tests ? [courseTests()] : [])]),
    ]);
    // Claims are ratios of times: nothing else may run beside them.
    await servers.close();
    const measured = [...scope.labs, ...scope.pages].map(targetOf).filter(hasMeasure);
    if (measured.length > 0) await carryOut(claimProof(measured));
  } finally {
    await servers.close();
  }
  console.log(`\n${dim(`${((performance.now() - start) / 1000).toFixed(0)} s`)}`);
  console.log(bold(`${passed} passed, ${failed} failed`));
  return failed > 0 ? 1 : 0;
}

function scopeFor(names: readonly string[], changed: boolean): Scope {
  if (changed && names.length > 0) throw new Refusal('Name labs or give --changed, not both.');
  if (changed) return scopeOf(changedFiles());
  const { found, unknown } = find(names.length > 0 ? names : ['all']);
  if (unknown[0]) throw new Refusal(unknownName(unknown[0], labs()));
  if (found.length === 0)
    throw new Refusal('There is no lab to prove here. Is this a complete copy of the course?');
  return names.length > 0 ? { labs: found, pages: [], tests: false } : everything();
}

function inWords({ labs: chosen, pages, tests }: Scope): string {
  const lessons = [...chosen, ...pages].map(({ number }) => number);
  const parts = [...lessons, ...(tests ? ["the course's own tests"] : [])];
  return `Touched: ${parts.length > 0 ? parts.join(', ') : 'no lesson'}; and the files of the whole course.`;
}

/** Trials wait more than they compute: six of them keep two cores busy. */
const PAIRS = 6;

/** Private servers, a pair for each trial at a time; one pair where the servers are shared with others. */
class ServerPool {
  readonly #opened: Servers[] = [];

  async open(): Promise<readonly Servers[]> {
    const first = await openServers();
    this.#opened.push(first);
    if (first.kind === 'private') {
      this.#opened.push(...(await Promise.all(Array.from({ length: PAIRS - 1 }, () => openServers()))));
    }
    return this.#opened;
  }

  async close(): Promise<void> {
    await Promise.all(this.#opened.splice(0).map((servers) => servers.close()));
  }
}

/** @param alone what an author wants to know of a lab, and too long for all of them */
const labProof = (chosen: readonly Lab[], servers: ServerPool, alone: boolean): Proof => ({
  name: `labs: ${chosen.length} solutions pass, starters and mistakes are rejected as they should be`,
  prove: async () => proveLabs(chosen, await servers.open(), { alone }),
});

const textProof = (texts: readonly string[], chosen: readonly Lab[], pages: readonly Overview[]): Proof => ({
  name: 'lessons and hints: headings, code from files, links, figures as measured, plain English',
  prove: async () => [
    ...texts.flatMap(textProblems),
    ...chosen.flatMap(lessonProblems),
    ...pages.flatMap(overviewProblems),
    ...[...chosen, ...pages].flatMap(ownQuestions()),
    ...texts.flatMap(pageLanguage),
    ...chosen.flatMap(codeLanguage),
  ],
});

/** The bank is read once for all lessons. */
function ownQuestions(): (lesson: Lab | Overview) => string[] {
  const bank = questions();
  return (lesson) => ownQuestionProblems(lesson, bank);
}

const fileProofs = (): Proof[] => [
  textProof(markdown(), labs(), overviews()),
  {
    name: 'question bank: levels, lengths, and the tests that prove the answers',
    prove: async () => bankProblems(),
  },
  { name: 'Docker compose, devcontainer and workflow are sound', prove: () => checkConfigFiles() },
  { name: 'Markdown', prove: () => runTool('markdownlint', markdown().map(shown)) },
  { name: 'format and lint', prove: () => runTool('biome', ['check', '--error-on-warnings', '.']) },
  { name: 'types', prove: () => runTool('tsc', ['--noEmit']) },
];

const courseTests = (): Proof => ({
  name: "the course's own tests",
  prove: runCourseTests,
  note: coverageNote,
});

const claimProof = (chosen: readonly Target[]): Proof => ({
  name: 'claims hold here (quick mode)',
  prove: async () => (await checkClaims(chosen, 'quick')).flatMap(({ problems }) => problems),
});

/** What a reader of one lab has before them. */
const readIn = ({ files }: Lab): string[] => [files.lesson, files.hints].filter(existsSync);

/** The Markdown that a reader may meet. */
function markdown(): string[] {
  const below = (folder: string) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.md'))
      .map((file) => join(ROOT, folder, file));
  const top = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', 'course/README.md'].map((file) =>
    join(ROOT, file),
  );
  return [...top.filter(existsSync), ...below('chapters'), ...below('labs')];
}
