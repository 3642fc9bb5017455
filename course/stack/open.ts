import { composeStack, dockerWorks } from './compose';
import { givenStack } from './given';
import { type Install, installServers } from './install';
import { startMysql } from './mysql';
import { missingServers } from './packages';
import { startRedis } from './redis';
import { StackError } from './server';
import type { Stack } from './types';

export type { Stack, StackUrls } from './types';

export interface OpenOptions {
  readonly install?: Install;
  /** Told in one line what takes long. */
  say?(line: string): void;
}

/**
 * Opens a stack in the first way that works here: the learner's URLs, private servers, Docker, an installation.
 * COURSE_STACK chooses one. @throws {StackError} that says what is missing and how to mend it.
 */
export async function openStack({ install = 'ask', say = toStderr }: OpenOptions = {}): Promise<Stack> {
  const installed = async () => {
    await installServers(install, say);
    return privateStack();
  };
  switch (process.env.COURSE_STACK ?? '') {
    case '':
      return (
        (await givenStack(process.env)) ??
        (await privateStackIfHere()) ??
        (await composeStackIfHere(say)) ??
        (await installed())
      );
    case 'given': {
      const given = await givenStack(process.env);
      if (given) return given;
      throw new StackError('COURSE_STACK=given, and REDIS_URL and MYSQL_URL are not set. Set both.');
    }
    case 'private':
      return (await privateStackIfHere()) ?? (await installed());
    case 'compose': {
      const containers = await composeStackIfHere(say);
      if (containers) return containers;
      throw new StackError(
        'COURSE_STACK=compose, and no Docker engine with docker compose answers. Start Docker, or unset COURSE_STACK.',
      );
    }
    default:
      throw new StackError(
        `COURSE_STACK=${process.env.COURSE_STACK} is not a way to a stack. Use given, private or compose, or unset it.`,
      );
  }
}

const privateStackIfHere = async () => (missingServers().length === 0 ? privateStack() : undefined);

const composeStackIfHere = async (say: (line: string) => void) =>
  (await dockerWorks()) ? composeStack(say) : undefined;

async function privateStack(): Promise<Stack> {
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
