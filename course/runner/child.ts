import { join, resolve } from 'node:path';
import type { UserConsoleLog } from 'vitest';
import type { TestCase, TestProject, TestSpecification, Vitest } from 'vitest/node';
import type { StackUrls } from '../stack/open';
import type { Order, Report, Round } from './messages';
import { labRun, Printed, unhandledError } from './results';
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
  const printed = new Printed();
  let stacks: readonly StackUrls[] = [];
  const send = (report: Report) => process.send?.(report);
  // The parent is gone, however it went.
  process.on('disconnect', () => process.exit(1));

  const opening = open(rounds, Number(passes), Number(workers), printed, () => send({ type: 'tested' }));
  process.on('message', async (order: Order) => {
    if (order.type === 'stacks') {
      stacks = order.stacks;
      return;
    }
    try {
      const vitest = await opening;
      rounds.splice(0, rounds.length, ...order.rounds);
      printed.clear();
      for (const project of vitest.projects) project.provide('stacks', stacks);
      send(await run(vitest, rounds, printed));
    } catch (error) {
      send({ type: 'broken', message: String(error) });
    }
  });
}

async function open(
  rounds: readonly Round[],
  passes: number,
  workers: number,
  printed: Printed,
  tested: () => void,
): Promise<Vitest> {
  // A learner waits for a single pass; many passes share their workers instead.
  const pool = passes === 1 ? warmThreads() : testOptions.pool;
  const { createVitest } = await import('vitest/node');
  let vitest: Vitest | undefined;
  const reporter = {
    onUserConsoleLog: (log: UserConsoleLog) => printed.add(log),
    onTestCaseResult(test: TestCase) {
      tested();
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
    includeTaskLocation: true,
    maxWorkers: workers,
    fileParallelism: workers > 1,
    projects: Array.from({ length: passes }, (_, pass) => project(pass)),
  });
  return vitest;
}

async function run(vitest: Vitest, rounds: readonly Round[], printed: Printed): Promise<Report> {
  const specifications = vitest.projects.flatMap((project): TestSpecification[] =>
    Object.keys(rounds[Number(project.name)] ?? {}).map((place) =>
      project.createSpecification(join(ROOT, 'labs', place, `${place.split('/')[1]?.slice(3)}.test.ts`)),
    ),
  );
  for (const project of vitest.projects) forgetLabs(project);
  const { testModules, unhandledErrors } = await vitest.runTestSpecifications(specifications);
  const wanted = new Set(
    specifications.map((specification) => specification.moduleId + specification.project.name),
  );
  const modules = testModules.filter((module) => wanted.has(module.moduleId + module.project.name));
  return {
    type: 'done',
    runs: modules.map((module) => labRun(module, rounds[Number(module.project.name)], printed)),
    unhandled: unhandledErrors.map((error) => unhandledError(error, modules)),
  };
}

/** Of all that a run loads, only the files of labs change while this process lives. */
function forgetLabs({ vite: { moduleGraph } }: TestProject): void {
  for (const module of moduleGraph.idToModuleMap.values()) {
    if (module.file?.startsWith(join(ROOT, 'labs'))) moduleGraph.invalidateModule(module);
  }
}
