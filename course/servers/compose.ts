import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { IDockerComposeOptions } from 'docker-compose';
import { ROOT } from '../base/root';
import { claimServers } from './given';
import { ServerError } from './server';
import { keep } from './supervisor';
import type { OpenedServers, ServerUrls } from './types';

const FILE = join(ROOT, 'docker-compose.yml');
const SERVICES = ['redis', 'mysql'];
/** Database 0 of containers that the learner keeps running stays the learner's. */
const TESTS_DB = 1;

/** Redis 8 and MySQL 8.4 in containers: those that run already, or a project of this run's own. */
export async function composeServers(say: (line: string) => void): Promise<OpenedServers> {
  return (await runningContainers()) ?? (await ownContainers(say));
}

/** The containers of `docker compose up` in this folder. They are used, and left as they were. */
async function runningContainers(): Promise<OpenedServers | undefined> {
  const project = { cwd: ROOT, env: { ...process.env, COMPOSE_FILE: FILE } };
  if (!(await published(project))) return undefined;
  await up(project);
  const urls = await published(project);
  if (!urls) return undefined;
  return claimServers({ ...urls, redis: `${urls.redis}/${TESTS_DB}` }, 'compose');
}

/** Also ends an `up` that outlived this process: it would create containers after `down`. */
const DOWN =
  'pkill -KILL -f -- "--project-name $COURSE_PROJECT up" 2>/dev/null; ' +
  'docker compose --project-name "$COURSE_PROJECT" down --volumes --remove-orphans --timeout 0 >/dev/null 2>&1';

async function ownContainers(say: (line: string) => void): Promise<OpenedServers> {
  say('Starting Redis 8 and MySQL 8.4 with docker compose. The first time, their images are downloaded.');
  // A name of its own, and free ports: two runs never meet.
  const name = `caching-deep-dive-${randomBytes(4).toString('hex')}`;
  const env = { ...process.env, COMPOSE_FILE: FILE, COURSE_REDIS_PORT: '', COURSE_MYSQL_PORT: '' };
  const project = { cwd: ROOT, env, composeOptions: ['--project-name', name] };
  const supervisor = keep({
    command: () => ['tail', '-f', '/dev/null'],
    afterwards: DOWN,
    env: { ...env, COURSE_PROJECT: name },
  });
  try {
    await up(project);
    const urls = await published(project);
    if (!urls) throw new ServerError('docker compose published no port. Look at: docker compose ps');
    return { kind: 'compose', ...urls, close: supervisor.close };
  } catch (error) {
    await supervisor.close();
    throw error;
  }
}

async function up(project: IDockerComposeOptions): Promise<void> {
  const { upMany } = await import('docker-compose');
  try {
    await upMany(SERVICES, {
      ...project,
      commandOptions: ['--wait', '--wait-timeout', '180', '--no-recreate', '--quiet-pull'],
    });
  } catch (failure) {
    throw new ServerError(
      `docker compose could not start Redis and MySQL:\n${lastLines(failure)}\n` +
        'Fix that (docker compose up --wait shows it in full), or use servers without Docker: npm run doctor',
    );
  }
}

/** Where the two services listen on this machine; undefined while either does not run. */
async function published(project: IDockerComposeOptions): Promise<ServerUrls | undefined> {
  const { port } = await import('docker-compose');
  try {
    const [redis, mysql] = await Promise.all([port('redis', 6379, project), port('mysql', 3306, project)]);
    return {
      redis: `redis://127.0.0.1:${redis.data.port}`,
      mysql: `mysql://root:course@127.0.0.1:${mysql.data.port}`,
    };
  } catch {
    return undefined;
  }
}

/** The docker-compose package rejects with what the command printed. */
function lastLines(failure: unknown): string {
  const printed = failure && typeof failure === 'object' && 'err' in failure ? failure.err : failure;
  return String(printed).trim().split('\n').slice(-6).join('\n');
}
