import { onTestFinished } from 'vitest';
import { type RedisSettings, startRedis } from '../servers/redis';
import { recordRequests } from './requests';

/**
 * A Redis for this test alone: one that may be filled, reconfigured or killed. Ended when the test ends.
 * @param settings lines of redis.conf, for example `{ maxmemory: '3mb', 'maxmemory-policy': 'noeviction' }`
 */
export async function ownRedis(settings: RedisSettings = {}) {
  recordRequests();
  const server = await startRedis(settings);
  onTestFinished(() => server.close());
  return server;
}
