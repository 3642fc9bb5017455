import { basename } from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, expect, onTestFinished } from 'vitest';
import { type RedisSettings, startRedis } from '../servers/redis';
import { ServerError } from '../servers/server';
import { nameRequests, recordRequests } from './requests';

/**
 * A Redis for this test alone: one that may be filled, reconfigured or killed. Ended when the test ends.
 * @param settings lines of redis.conf, for example `{ maxmemory: '3mb', 'maxmemory-policy': 'noeviction' }`
 * @throws {ServerError} that begins with "NEEDS SERVER: ", by which the runner tells it from a wrong solution
 */
export async function ownRedis(settings: RedisSettings = {}) {
  recordRequests();
  const server = await start(settings);
  onTestFinished(() => server.close());
  return server;
}

/**
 * One for all tests of a file, started by the first that asks: call it at the top. Each call empties it, and sets its
 * `settings` again. @returns its URL
 */
export function useOwnRedis(settings: RedisSettings): () => Promise<string> {
  recordRequests();
  let server: ReturnType<typeof start> | undefined;
  afterAll(async () => {
    const started = await server?.catch(() => undefined);
    await started?.close();
  });
  return async () => {
    server ??= start(settings);
    const { url } = await server;
    const redis = new Redis(url, { retryStrategy: () => null });
    nameRequests(redis, '');
    await redis.flushall();
    for (const [name, value] of Object.entries(settings)) await redis.config('SET', name, value);
    redis.disconnect();
    return url;
  };
}

/** @throws {ServerError} that names the lab */
function start(settings: RedisSettings) {
  return startRedis(settings).catch((error: unknown) => {
    if (!(error instanceof ServerError)) throw error;
    const lab = basename(expect.getState().testPath ?? 'this lab', '.test.ts');
    throw new ServerError(
      `NEEDS SERVER: ${lab} starts a Redis of its own, which its tests fill, reconfigure or stop. ${error.message}`,
    );
  });
}
