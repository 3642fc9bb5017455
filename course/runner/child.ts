import { basename, dirname, join, resolve } from 'node:path';
import type { TestCase, TestModule, TestSpecification, Vitest } from 'vitest/node';
import type { StackUrls } from '../stack/open';
import type { LabRun, Order, Report, Round, TestError, TestResult } from './messages';
import { subjectResolver } from './subject';
import { testOptions } from './vitest-options';
import { warmThreads } from './warm-threads';

/**
 * The process in which lab code runs. It keeps one warm Vitest, does one run after the other, and answers over IPC.
 * Whatever happens here, the parent goes on living.
 */
const ROOT = resolve(import.meta.dirname, '../..');

declare module 'vitest' {
  interface ProvidedContext {
    /** One stack for each worker: a worker's tests count what reaches its servers. */
    stacks: readonly StackUrls[];
  }
}

export async function child([passes = '1', workers = '1']: readonly string[]): Promise<void> {
  const rounds: Round[] = [];
  let stacks: readonly StackUrls[] = [];
  const send = (report: Report) => process.send?.(report);
  // The parent is gone, however it went.
  process.on('disconnect', () => process.exit(1));

  const opening = open(rounds, Number(passes), Number(workers), send);
  process.on('message', async (order: Order) => {
    if (order.type === 'stacks') {
      stacks = order.stacks;
      return;
    }
    try {
      const vitest = await opening;
      rounds.splice(0, rounds.length, ...order.rounds);
      for (const project of vitest.projects) project.provide('stacks', stacks);
      await run(vitest, rounds, send);
    } catch (error) {
      send({ type: 'broken', message: String(error) });
    }
  });
}

async function open(
  rounds: readonly Round[],
  passes: number,
  workers: number,
  send: (report: Report) => void,
) {
  // A learner waits for a single pass; many passes share their workers instead.
  const pool = passes === 1 ? warmThreads() : testOptions.pool;
  const { createVitest } = await import('vitest/node');
  let vitest: Vitest | undefined;
  const reporter = {
    onTestModuleQueued: (module: TestModule) => send({ type: 'loading', place: placeOf(module.moduleId) }),
    onTestCaseResult(test: TestCase) {
      send({ type: 'tested' });
      // One promise that never settles is enough to tell; each further one would cost a learner seconds.
      if (passes === 1 && test.result().errors?.some(({ message }) => /timed out in \d+ms/.test(message))) {
        void vitest?.cancelCurrentRun('test-failure');
      }
    },
  };
  const project = (pass: number) => ({
    plugins: [subjectResolver((place) => rounds[pass]?.[place] ?? 'attempt')],
    // Many subjects, one worker: the libraries load once. A learner's own run stays isolated.
    test: { ...testOptions, pool, isolate: passes === 1, name: String(pass), include: ['labs/**/*.test.ts'] },
  });
  vitest = await createVitest('test', {
    root: ROOT,
    config: false,
    watch: false,
    reporters: [reporter],
    maxWorkers: workers,
    fileParallelism: workers > 1,
    projects: Array.from({ length: passes }, (_, pass) => project(pass)),
  });
  return vitest;
}

async function run(vitest: Vitest, rounds: readonly Round[], send: (report: Report) => void): Promise<void> {
  const specifications = vitest.projects.flatMap((project): TestSpecification[] =>
    Object.keys(rounds[Number(project.name)] ?? {}).map((place) =>
      project.createSpecification(join(ROOT, 'labs', place, `${place.split('/')[1]?.slice(3)}.test.ts`)),
    ),
  );
  for (const project of vitest.projects) project.vite.moduleGraph.invalidateAll();
  const { testModules, unhandledErrors } = await vitest.runTestSpecifications(specifications);
  const wanted = new Set(
    specifications.map((specification) => specification.moduleId + specification.project.name),
  );
  const runs = testModules
    .filter((module) => wanted.has(module.moduleId + module.project.name))
    .map((module) => labRun(module, rounds[Number(module.project.name)]));
  send({ type: 'done', runs, unhandled: unhandledErrors.map((error) => asError(error as VitestError)) });
}

function labRun(module: TestModule, round: Round | undefined): LabRun {
  const place = placeOf(module.moduleId);
  return {
    place,
    subject: round?.[place] ?? 'attempt',
    tests: [...module.children.allTests()].map(testResult),
    fileErrors: module.errors().map((error) => asError(error as VitestError)),
    ms: module.diagnostic().duration,
  };
}

function testResult(test: TestCase): TestResult {
  const result = test.result();
  const [error] = result.errors ?? [];
  const state = result.state === 'passed' || result.state === 'failed' ? result.state : 'not run';
  return { name: test.name, state, ...(error && { error: asError(error as VitestError) }) };
}

interface VitestError {
  name?: string;
  message: string;
  expected?: unknown;
  actual?: unknown;
  stacks?: readonly { file: string; line: number; column: number }[];
  loc?: { file?: string; line: number; column: number };
}

function asError(error: VitestError): TestError {
  const frame = error.stacks?.find(
    ({ file }) => /\/(labs|solutions)\//.test(file) && !file.includes('.test.ts'),
  );
  const place = error.loc ?? frame;
  return {
    name: error.name ?? 'Error',
    message: error.message,
    ...(error.expected !== undefined && { expected: String(error.expected) }),
    ...(error.actual !== undefined && { actual: String(error.actual) }),
    ...(place && {
      at: `${place.file ? basename(place.file.split('?')[0] ?? '') : ''}:${place.line}:${place.column}`,
    }),
  };
}

const placeOf = (testFile: string) => dirname(testFile).slice(join(ROOT, 'labs').length + 1);
