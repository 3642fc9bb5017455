import { givenStack } from './given';
import { mysqlBinary, startMysql } from './mysql';
import { redisBinary, startRedis } from './redis';
import { StackError } from './server';

/** What every part of the course knows of the servers: where they are. */
export interface StackUrls {
  readonly redis: string;
  readonly mysql: string;
}

export interface Stack extends StackUrls {
  /** How it was come by: `given`, `private` or `compose`. */
  readonly kind: 'given' | 'private' | 'compose';
  close(): Promise<void>;
}

/** Opens a stack in the first way that works here. @throws {StackError} that says what is missing and how to mend it. */
export async function openStack(): Promise<Stack> {
  const given = await givenStack(process.env);
  if (given) return given;
  if (redisBinary() && mysqlBinary()) return privateStack();
  throw new StackError('redis-server or mariadbd is missing: npm run doctor');
}

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
