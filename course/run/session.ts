import { readFileSync } from 'node:fs';
import type { Lab } from '../content/catalog';
import { goneServers } from '../servers/gone';
import { openServers, type Servers } from '../servers/open';
import { ServerError } from '../servers/server';
import { typeErrors } from './check-types';
import { recordFailing, recordPassed } from './progress';
import { openRunner } from './runner';
import { type Answer, beforeRun, firstFailing, judge, type Verdict } from './verdict';

/** Everything that runs a learner's labs: child process, compiler, servers. All of it loads while the rest loads. */
export interface Session {
  /** Opens the servers, unless they are open. @throws {ServerError} */
  opened(): Promise<Servers>;
  /** One lab after the other: a lab that hangs ends its own run and no other's. @throws {ServerError} */
  run(labs: readonly Lab[]): Promise<Answer[]>;
  close(): Promise<void>;
}

/** @param open how to come by servers; called at the first lab that needs them, or at once with `eager` */
export function openSession(open: () => Promise<Servers> = openServers, { eager = false } = {}): Session {
  const runner = openRunner();
  let opening: Promise<Servers> | undefined;
  let up: Servers | undefined;
  const opened = () => {
    opening ??= open().then((servers) => {
      up = servers;
      return servers;
    });
    // Whoever awaits it later hears of a failure; until then it is nobody's unhandled rejection.
    opening.catch(() => {});
    return opening;
  };
  /** Servers that are still starting end with this process. */
  const closeServers = async () => {
    const closing = up;
    opening = up = undefined;
    await closing?.close();
  };
  if (eager) opened();

  async function verdictOf(lab: Lab): Promise<Verdict> {
    const servers = needsServers(lab) ? await opened() : undefined;
    if (servers) runner.use([servers], { shared: servers.kind !== 'private' });
    const verdict = judge(lab, await runner.run([{ place: lab.place, subject: 'attempt' }]));
    const gone = servers && verdict.kind !== 'passed' ? await goneServers(servers) : [];
    if (gone.length === 0) return verdict;
    await closeServers();
    throw new ServerError(
      `${gone.join(' and ')} went away in the middle of the run, so nothing was counted.\n` +
        `Run it again: npm test -- ${lab.id}. If it happens again: npm run doctor`,
    );
  }

  return {
    opened,
    async run(labs) {
      const answers: Answer[] = [];
      for (const lab of labs) {
        const early = beforeRun(lab);
        const types = early?.kind === 'void' ? NO_ERRORS : typeErrors(lab.files.starter);
        const verdict = early ?? (await verdictOf(lab));
        remember(lab, verdict);
        // A syntax error is told once, by the verdict.
        const told = verdict.kind === 'stopped' && verdict.why === 'syntax error';
        answers.push({ lab, verdict, typeErrors: told ? NO_ERRORS : types });
      }
      return answers;
    },
    async close() {
      runner.close();
      await closeServers();
    },
  };
}

const NO_ERRORS: Answer['typeErrors'] = Promise.resolve([]);

function needsServers(lab: Lab): boolean {
  try {
    return /from '#kit\/servers'/.test(readFileSync(lab.files.test, 'utf8'));
  } catch {
    return false;
  }
}

function remember(lab: Lab, verdict: Verdict): void {
  if (verdict.kind === 'passed') recordPassed(lab);
  const test =
    verdict.kind === 'red'
      ? firstFailing(verdict.run.tests)?.name
      : verdict.kind === 'stopped'
        ? verdict.test
        : undefined;
  if (test !== undefined) recordFailing(lab, test);
}
