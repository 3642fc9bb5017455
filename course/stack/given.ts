import type { Stack } from './open';
import { StackError } from './server';

/** The learner's own servers, named by REDIS_URL and MYSQL_URL; undefined when neither is set. */
export async function givenStack(env: NodeJS.ProcessEnv): Promise<Stack | undefined> {
  const { REDIS_URL: redis, MYSQL_URL: mysql } = env;
  if (!redis && !mysql) return undefined;
  if (!redis || !mysql) {
    throw new StackError(
      `${redis ? 'REDIS_URL' : 'MYSQL_URL'} is set and its twin is not. Set both, or neither.`,
    );
  }
  return { kind: 'given', redis, mysql, close: async () => {} };
}
