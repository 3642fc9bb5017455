import { basename } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { type RedisSettings, startRedis } from '../servers/redis';
import { ServerError } from '../servers/server';
import { recordRequests } from './requests';

/**
 * A Redis for this test alone: one that may be filled, reconfigured or killed. Ended when the test ends.
 * @param settings lines of redis.conf, for example `{ maxmemory: '3mb', 'maxmemory-policy': 'noeviction' }`
 * @throws {ServerError} that begins with "NEEDS SERVER: ", by which the runner tells it from a wrong solution
 */
export async function ownRedis(settings: RedisSettings = {}) {
  recordRequests();
  const server = await startRedis(settings).catch((error: unknown) => {
    if (!(error instanceof ServerError)) throw error;
    const lab = basename(expect.getState().testPath ?? 'this lab', '.test.ts');
    throw new ServerError(
      `NEEDS SERVER: ${lab} starts a Redis of its own, which its tests fill, reconfigure or stop. ${error.message}`,
    );
  });
  onTestFinished(() => server.close());
  return server;
}
