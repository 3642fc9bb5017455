import { randomBytes } from 'node:crypto';
import { dockerWorks, hasImage } from './docker';
import { planFor, redisBinary } from './packages';
import { type Server, ServerError, type ServerPlan, startServer } from './server';
import { tooOld, versionText } from './versions';

/** Settings of redis.conf by name, for example `{ maxmemory: '3mb' }`. */
export type RedisSettings = Readonly<Record<string, string>>;

/** As in docker-compose.yml: a learner whose labs run in containers has it. */
const IMAGE = 'redis:8';
export const NO_REDIS = 'This machine has no redis-server or valkey-server.';

/**
 * A Redis of our own: loopback, a random password, nothing on disk. It runs in a container where this machine has no
 * redis-server and Docker works. @throws {ServerError} where neither can be had
 */
export async function startRedis(settings: RedisSettings = {}): Promise<Server & { url: string }> {
  const binary = redisBinary();
  const old = binary && tooOld(binary, await versionText(binary));
  const password = randomBytes(12).toString('hex');
  const all = { save: '""', appendonly: 'no', requirepass: password, ...settings };
  const plan = binary && !old ? localPlan(binary, all) : await containerPlan(all, old);
  const server = await startServer(plan);
  return { ...server, url: `redis://default:${password}@127.0.0.1:${server.port}` };
}

const localPlan = (binary: string, settings: RedisSettings): ServerPlan => ({
  name: 'redis-server',
  config: (folder, port) =>
    lines({
      port: String(port),
      bind: '127.0.0.1',
      dir: `"${folder.replace(/[\\"]/g, '\\$&')}"`,
      ...settings,
    }),
  command: (folder) => [binary, `${folder}/config`],
});

async function containerPlan(settings: RedisSettings, old: string | undefined): Promise<ServerPlan> {
  if (!(await dockerWorks())) {
    throw new ServerError(
      `${old ?? NO_REDIS} No Docker engine answers. Run this, then the same command again:\n  ${planFor(['redis']).command}\nWhat this machine has: npm run doctor`,
    );
  }
  if (!(await hasImage(IMAGE))) {
    throw new ServerError(
      `${old ?? NO_REDIS} Docker has not downloaded ${IMAGE} yet. Run this, then the same command again:\n  docker pull ${IMAGE}`,
    );
  }
  const name = `caching-deep-dive-redis-${randomBytes(6).toString('hex')}`;
  return {
    name: `docker run ${IMAGE}`,
    config: () => lines({ port: '6379', bind: '*', ...settings }),
    // The settings go in by standard input: the container's user could not read the file.
    command: (folder, port) => [
      'sh',
      '-c',
      'exec docker run --rm --interactive --name "$1" --publish "127.0.0.1:$2:6379" --entrypoint redis-server "$3" - <"$4"',
      'sh',
      name,
      String(port),
      IMAGE,
      `${folder}/config`,
    ],
    // The container outlives the docker command that started it.
    afterwards: `docker rm --force ${name} >/dev/null 2>&1`,
  };
}

const lines = (settings: RedisSettings): string =>
  Object.entries(settings)
    .map(([name, value]) => `${name} ${value}\n`)
    .join('');
