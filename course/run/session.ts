import type { Lab } from '../content/catalog';
import { needsOf } from '../content/needs';
import { testFile } from '../content/seal';
import { goneServers } from '../servers/gone';
import { openServers, type Servers } from '../servers/open';
import { ServerError } from '../servers/server';
import { typeErrors } from './check-types';
import type { Task } from './messages';
import { recordCore, recordFailing, recordPassed } from './progress';
import { openRunner } from './runner';
import { standingOf, versionOf } from './standing';
import {
  type Answer,
  beforeRun,
  firstFailing,
  isCoreGreen,
  judge,
  serverNeeded,
  type Verdict,
} from './verdict';

/** Everything that runs a learner's labs: child process, compiler, servers. All of it loads while the rest loads. */
export interface Session {
  /** Opens the servers, unless they are open. @throws {ServerError} */
  opened(): Promise<Servers>;
  /** @throws {ServerError} where the lab needs servers and they cannot be had, or went away */
  run(lab: Lab, how?: RunOptions): Promise<Answer>;
  close(): Promise<void>;
}

export interface RunOptions {
  /** Core alone. */
  readonly core?: boolean;
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
    // A failure is told to the run that awaits it; until then nobody handles it.
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

  async function verdictOf(lab: Lab, { core = false }: RunOptions): Promise<Verdict> {
    const needs = needsOf(lab);
    const servers = needs.servers || needs.cluster ? await opened() : undefined;
    if (servers) {
      // A cluster takes two seconds to form: it is kept with the servers, from save to save.
      const urls = needs.cluster ? await servers.withCluster() : servers;
      runner.use([urls], { shared: servers.kind !== 'private' });
    }
    const task: Task = { place: lab.place, subject: 'attempt', ...(core && { part: 'core' as const }) };
    const verdict = judge(lab, await runner.run([task]));
    const needed = 'run' in verdict ? serverNeeded(verdict.run) : undefined;
    if (needed) throw new ServerError(`${lab.number} ${lab.title} was not counted. ${needed}`);
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
    async run(lab, how = {}) {
      const before = standingOf(lab);
      const early = beforeRun(lab);
      const types = early?.kind === 'not counted' ? NO_ERRORS : typeErrors(lab.files.starter);
      const verdict = early ?? (await verdictOf(lab, how));
      remember(lab, verdict);
      // A syntax error is told once, by the verdict.
      const told = verdict.kind === 'stopped' && verdict.why === 'syntax error';
      return { lab, verdict, before, typeErrors: told ? NO_ERRORS : types };
    },
    async close() {
      runner.close();
      await closeServers();
    },
  };
}

const NO_ERRORS: Answer['typeErrors'] = Promise.resolve([]);

function remember(lab: Lab, verdict: Verdict): void {
  if (verdict.kind === 'not counted') return;
  const core = verdict.kind === 'stopped' ? verdict.core : isCoreGreen(verdict.run.tests);
  if (core && testFile(lab) === 'as handed out') recordCore(lab, versionOf(lab));
  if (verdict.kind === 'passed') {
    recordPassed(lab, versionOf(lab));
    return;
  }
  const test = verdict.kind === 'stopped' ? verdict.test : firstFailing(verdict.run.tests)?.name;
  recordFailing(lab, test);
}
