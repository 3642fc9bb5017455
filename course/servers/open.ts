import { type RedisCluster, startCluster } from './cluster';
import { composeServers } from './compose';
import { dockerWorks } from './docker';
import { givenServers } from './given';
import { type Install, installServers } from './install';
import { startMysql } from './mysql';
import { missingServers, oldServer } from './packages';
import { startRedis } from './redis';
import { ServerError } from './server';
import type { OpenedServers, Servers } from './types';

export type { Servers, ServerUrls } from './types';

export interface OpenOptions {
  readonly install?: Install;
  /** Told in one line what takes long. */
  say?(line: string): void;
}

/**
 * Opens servers in the first way that works here: the learner's URLs, private servers, Docker, an installation.
 * COURSE_SERVERS chooses one. @throws {ServerError} that says what is missing and how to fix it.
 */
export const openServers = async (options: OpenOptions = {}): Promise<Servers> =>
  withClusterOf(await openPair(options));

function withClusterOf(servers: OpenedServers): Servers {
  let starting: Promise<RedisCluster> | undefined;
  return {
    ...servers,
    async withCluster() {
      starting ??= startCluster();
      return { redis: servers.redis, mysql: servers.mysql, cluster: (await starting).nodes };
    },
    async close() {
      await Promise.all([servers.close(), starting?.then((cluster) => cluster.close()).catch(() => {})]);
    },
  };
}

async function openPair({ install = 'ask', say = toStderr }: OpenOptions): Promise<OpenedServers> {
  const installed = async () => {
    await installServers(install, say);
    return privateServers();
  };
  switch (process.env.COURSE_SERVERS ?? '') {
    case '':
      return (
        (await givenServers(process.env)) ??
        (await privateServersIfHere(true)) ??
        (await composeServersIfHere(say)) ??
        (await installed())
      );
    case 'given': {
      const given = await givenServers(process.env);
      if (given) return given;
      throw new ServerError('COURSE_SERVERS=given, and REDIS_URL and MYSQL_URL are not set. Set both.');
    }
    case 'private':
      return (await privateServersIfHere(false)) ?? (await installed());
    case 'compose': {
      const containers = await composeServersIfHere(say);
      if (containers) return containers;
      throw new ServerError(
        'COURSE_SERVERS=compose, and no Docker engine with docker compose answers. Start Docker, or unset COURSE_SERVERS.',
      );
    }
    default:
      throw new ServerError(
        `COURSE_SERVERS=${process.env.COURSE_SERVERS} is not a way to servers. Use given, private or compose, or unset it.`,
      );
  }
}

/** Undefined too where a server is too old, and containers can take its place. */
async function privateServersIfHere(orContainers: boolean): Promise<OpenedServers | undefined> {
  if (missingServers().length > 0) return undefined;
  const reason = await oldServer();
  if (!reason) return privateServers();
  if (orContainers && (await dockerWorks())) return undefined;
  throw new ServerError(
    `${reason}\nInstall a newer one, start Docker, or set REDIS_URL and MYSQL_URL to servers that you have.`,
  );
}

const composeServersIfHere = async (say: (line: string) => void) =>
  (await dockerWorks()) ? composeServers(say) : undefined;

async function privateServers(): Promise<OpenedServers> {
  const [redis, mysql] = await Promise.allSettled([startRedis(), startMysql()]);
  const close = async () => {
    const up = [redis, mysql].filter((start) => start.status === 'fulfilled');
    await Promise.all(up.map((start) => start.value.close()));
  };
  if (redis.status === 'fulfilled' && mysql.status === 'fulfilled') {
    return { kind: 'private', redis: redis.value.url, mysql: mysql.value.url, close };
  }
  await close();
  throw redis.status === 'rejected' ? redis.reason : mysql.status === 'rejected' ? mysql.reason : undefined;
}

function toStderr(line: string): void {
  process.stderr.write(`${line}\n`);
}
