import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  isRoot,
  missingPeers,
  missingServers,
  PART_NAMES,
  type Plan,
  planFor,
  planForPeers,
  rootWithoutPassword,
} from './packages';
import { findBinary, ServerError } from './server';

/** May the course install servers: `ask` asks on a terminal, and elsewhere does what CI=true and root allow. */
export type Install = 'ask' | 'yes' | 'no';

const APT = join(import.meta.dirname, 'apt.sh');
const STEP = '==> ';

type Automatic = Exclude<Plan, { by: 'hand' }>;

/** Installs the servers that are missing here, if it may. @throws {ServerError} that names the one command to run. */
export async function installServers(install: Install, say: (line: string) => void): Promise<void> {
  const parts = missingServers();
  const plan = planFor(parts);
  const missing = parts.map((part) => PART_NAMES[part]).join(' and ');
  const byHand =
    `This machine lacks ${missing}, and no Docker engine answers. Run this, then the same command again:\n` +
    `  ${plan.command}\nOr set REDIS_URL and MYSQL_URL to servers that you have. What this machine has: npm run doctor`;
  if (plan.by === 'hand') throw new ServerError(byHand);
  const onTerminal = process.stdin.isTTY && process.stdout.isTTY;
  // A person at the terminal can type a password for sudo; nobody else can.
  if (plan.by === 'apt' && !onTerminal && !rootWithoutPassword()) throw new ServerError(byHand);
  if (!(await mayInstall(install, missing, plan.command, onTerminal))) throw new ServerError(byHand);

  say(`Installing ${missing}: ${plan.command}`);
  await runPlan(plan, onTerminal, say);
  if (missingServers().length > 0) {
    throw new ServerError(
      `The installation ended well, and ${missing} is still not to be found. Look at: npm run doctor`,
    );
  }
}

/** Installs the other caches that are missing here and that measures compare with. @throws {ServerError} as above */
export async function installPeers(say: (line: string) => void): Promise<void> {
  const missing = missingPeers();
  if (missing.length === 0) return;
  const plan = planForPeers(missing);
  const onTerminal = Boolean(process.stdin.isTTY && process.stdout.isTTY);
  if (plan.by === 'hand' || (plan.by === 'apt' && !onTerminal && !rootWithoutPassword())) {
    throw new ServerError(`This machine lacks ${missing.join(', ')}. Run this: ${plan.command}`);
  }
  say(`Installing ${missing.join(', ')}: ${plan.command}`);
  await runPlan(plan, onTerminal, say);
}

async function mayInstall(
  install: Install,
  missing: string,
  command: string,
  onTerminal: boolean,
): Promise<boolean> {
  if (install !== 'ask') return install === 'yes';
  if (process.env.CI === 'true') return true;
  if (!onTerminal) return isRoot();
  const { confirm, isCancel } = await import('@clack/prompts');
  const answer = await confirm({
    message: `The labs run against real servers, and this machine lacks ${missing}. Install now? (${command}; nothing is started on your ports)`,
  });
  return !isCancel(answer) && answer;
}

async function runPlan(plan: Automatic, onTerminal: boolean, say: (line: string) => void): Promise<void> {
  const [command, ...args] = commandOf(plan, onTerminal);
  const logFile = join(tmpdir(), `caching-deep-dive-install-${process.pid}.log`);
  // A file and not a pipe: should this process be killed, the package manager must not die of a broken pipe.
  const log = openSync(logFile, 'w', 0o600);
  const lines = () =>
    readFileSync(logFile, 'utf8')
      .split('\n')
      .filter((line) => line.trim());
  const child = spawn(command, args, {
    stdio: ['inherit', log, log],
    env: { ...process.env, HOMEBREW_NO_AUTO_UPDATE: '1', HOMEBREW_NO_ENV_HINTS: '1', NONINTERACTIVE: '1' },
  });
  closeSync(log);

  let shown = 0;
  const showSteps = () => {
    const steps = lines().filter((line) => line.startsWith(STEP));
    for (const step of steps.slice(shown)) say(`  ${step.slice(STEP.length)}`);
    shown = steps.length;
  };
  const ticker = setInterval(showSteps, 200);
  // Ctrl-C reaches the package manager too, which stops where it leaves nothing half done: wait for that.
  let interrupted = false;
  const interrupt = () => {
    interrupted = true;
    child.kill('SIGTERM');
  };
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  const code = await new Promise<number | string | null>((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', resolve);
  });
  process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  clearInterval(ticker);
  showSteps();

  if (code === 0) return rmSync(logFile, { force: true });
  if (interrupted)
    throw new ServerError('The installation was interrupted. Run the same command again to complete it.');
  const last = [...lines().slice(-8), ...(typeof code === 'string' ? [code] : [])].join('\n');
  throw new ServerError(`${plan.command} failed:\n${last}\n${remedy(last)} The full log: ${logFile}`);
}

function commandOf(plan: Automatic, onTerminal: boolean): [string, ...string[]] {
  if (plan.by === 'brew') return [findBinary('brew') ?? 'brew', 'install', ...plan.packages];
  const script: [string, ...string[]] = ['sh', APT, ...plan.packages];
  if (isRoot()) return script;
  return ['sudo', ...(onTerminal ? [] : ['-n']), ...script];
}

function remedy(text: string): string {
  if (/resolve|unable to fetch|failed to fetch|could not connect|network|timed out/i.test(text)) {
    return 'The package source cannot be reached: connect to the network and run the same command again.';
  }
  if (/get lock|locked/i.test(text))
    return 'Another installation is at work: run the same command again after it.';
  if (/no space/i.test(text)) return 'The disk is full: free some space and run the same command again.';
  return 'Fix that and run the same command again, or set REDIS_URL and MYSQL_URL.';
}
