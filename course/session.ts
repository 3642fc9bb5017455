import { readFileSync } from 'node:fs';
import type { Lab } from './catalog';
import { recordRun } from './progress';
import { firstFailing } from './report';
import { typeErrors } from './runner/check-types';
import type { Round } from './runner/messages';
import { openRunner } from './runner/run';
import { openStack, type Stack } from './stack/open';
import { beforeRun, judge, type Verdict } from './verdict';

/** A lab's run as the learner is to see it. */
export interface Answer {
  readonly lab: Lab;
  readonly verdict: Verdict;
  readonly typeErrors: readonly string[];
}

/** Everything that runs a learner's labs: child process, compiler, servers. All of it loads while the rest loads. */
export interface Session {
  run(labs: readonly Lab[]): Promise<Answer[]>;
  close(): Promise<void>;
}

const needsStack = (lab: Lab): boolean => {
  try {
    return /from '#kit\/stack'/.test(readFileSync(lab.files.test, 'utf8'));
  } catch {
    return false;
  }
};

/** @param open how to come by servers; called at the first lab that needs them, or at once with `eager` */
export function openSession(open: () => Promise<Stack> = openStack, { eager = false } = {}): Session {
  const runner = openRunner();
  let stack: Promise<Stack> | undefined;
  const opened = () => {
    stack ??= open();
    // Whoever awaits it later hears of a failure; until then it is nobody's unhandled rejection.
    stack.catch(() => {});
    return stack;
  };
  if (eager) opened();

  return {
    async run(labs) {
      const early = new Map(labs.map((lab) => [lab, beforeRun(lab)]));
      const runnable = labs.filter((lab) => early.get(lab) === undefined);
      const typed = Promise.all(labs.map((lab) => typeErrors(lab.files.starter)));
      if (runnable.some(needsStack)) {
        const { redis, mysql } = await opened();
        runner.use([{ redis, mysql }]);
      }
      const round: Round = Object.fromEntries(runnable.map((lab) => [lab.place, 'attempt']));
      const outcome = runnable.length > 0 ? await runner.run([round]) : undefined;
      const errors = await typed;
      return labs.map((lab, index) => {
        const verdict = early.get(lab) ?? (outcome && judge(lab, outcome));
        if (!verdict) throw new Error(`no verdict for ${lab.id}`);
        remember(lab, verdict);
        // A syntax error is told once, by the verdict.
        const told = verdict.kind === 'stopped' && verdict.why === 'syntax error';
        return { lab, verdict, typeErrors: told ? [] : (errors[index] ?? []) };
      });
    },
    async close() {
      runner.close();
      await (await stack?.catch(() => undefined))?.close();
    },
  };
}

function remember(lab: Lab, verdict: Verdict): void {
  if (verdict.kind === 'passed') recordRun(lab, undefined);
  if (verdict.kind === 'red') recordRun(lab, firstFailing(verdict.run.tests)?.name ?? '');
  if (verdict.kind === 'stopped') recordRun(lab, verdict.test ?? '');
}
