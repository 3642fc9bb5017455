import { join } from 'node:path';
import type { UserConsoleLog } from 'vitest';
import type { TestCase, TestProject, TestSuite, Vitest } from 'vitest/node';
import { ROOT } from '../base/root';
import type { ServerUrls } from '../servers/open';
import { type Order, PARTS, type Report, type Task, type TestResult } from './messages';
import { labRun, Printed, testResult, unhandledError } from './results';
import { subjectResolver, testModule } from './subject';
import { PROOF_TIMEOUT_MS, testOptions } from './vitest-options';
import { TIMED_OUT } from './vitest-words';
import { warmThreads } from './warm-threads';

/**
 * The process in which lab code runs. It keeps one warm Vitest, does one run after the other, and answers over IPC.
 * Whatever happens here, the parent goes on living.
 */

declare module 'vitest' {
  interface ProvidedContext {
    /** A pair of servers for each worker: a worker's tests count what reaches its servers. */
    servers: readonly ServerUrls[];
  }
}

export async function child([workers, threads]: readonly string[]): Promise<void> {
  const printed = new Printed();
  let servers: readonly ServerUrls[] = [];
  const send = (report: Report) => process.send?.(report);
  // The parent is gone, however it went.
  process.on('disconnect', () => process.exit(1));

  const opening = open({ workers: Number(workers), isolate: threads === 'isolated' }, printed, (result) =>
    send({ type: 'tested', result }),
  );
  process.on('message', async (order: Order) => {
    if (order.type === 'servers') {
      servers = order.servers;
      return;
    }
    try {
      const vitest = await opening;
      printed.clear();
      for (const project of vitest.projects) project.provide('servers', servers);
      send(await run(vitest, order.tasks, printed));
    } catch (error) {
      send({ type: 'broken', message: String(error) });
    }
  });
}

async function open(
  { workers, isolate }: { workers: number; isolate: boolean },
  printed: Printed,
  tested: (result: TestResult) => void,
): Promise<Vitest> {
  const { createVitest } = await import('vitest/node');
  let vitest: Vitest | undefined;
  const reporter = {
    onUserConsoleLog: (log: UserConsoleLog) => printed.add(log),
    onTestCaseResult(test: TestCase) {
      tested(testResult(test, printed));
      // One promise that never settles is enough to tell; each further one would cost a learner seconds.
      if (isolate && test.result().errors?.some(({ message }) => TIMED_OUT.test(message))) {
        void vitest?.cancelCurrentRun('test-failure');
      }
    },
    onTestSuiteResult(suite: TestSuite) {
      // What production adds is asked for when Core stands. A proof wants every test.
      if (isolate && suite.name === PARTS.core && suite.state() === 'failed') {
        void vitest?.cancelCurrentRun('test-failure');
      }
    },
  };
  vitest = await createVitest(
    'test',
    {
      ...testOptions,
      ...(!isolate && { testTimeout: PROOF_TIMEOUT_MS }),
      root: ROOT,
      config: false,
      watch: false,
      reporters: [reporter],
      includeTaskLocation: true,
      include: ['labs/**/*.test.ts'],
      isolate,
      maxWorkers: workers,
      fileParallelism: workers > 1,
      // A learner waits for one file; many files share threads instead.
      pool: isolate ? warmThreads() : testOptions.pool,
    },
    { plugins: [subjectResolver('attempt')] },
  );
  return vitest;
}

async function run(vitest: Vitest, tasks: readonly Task[], printed: Printed): Promise<Report> {
  const project = vitest.getRootProject();
  const specifications = tasks.map((task) =>
    project.createSpecification(testModule(task.place, task.subject), { testNamePattern: pattern(task) }),
  );
  forgetLabs(project);
  const { testModules, unhandledErrors } = await vitest.runTestSpecifications(specifications);
  const wanted = new Set(specifications.map(({ moduleId }) => moduleId));
  const modules = testModules.filter(({ moduleId }) => wanted.has(moduleId));
  return {
    type: 'done',
    runs: modules.map((module) => labRun(module, printed)),
    unhandled: unhandledErrors.map((error) => unhandledError(error, modules)),
  };
}

/** Vitest matches the full name: that of the part, then that of the test. */
function pattern({ part, only }: Task): RegExp {
  const home = part ? `${PARTS[part]} ` : `(?:${Object.values(PARTS).join(' |')} )?`;
  const names = only?.map((name) => name.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')).join('|') ?? '.*';
  return new RegExp(`^${home}(?:${names})$`);
}

/** Of all that a run loads, only the files of labs change while this process lives. */
function forgetLabs({ vite: { moduleGraph } }: TestProject): void {
  for (const module of moduleGraph.idToModuleMap.values()) {
    if (module.file?.startsWith(join(ROOT, 'labs'))) moduleGraph.invalidateModule(module);
  }
}
