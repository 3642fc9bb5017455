import type { Redis, RedisOptions } from 'ioredis';
import { expect, onTestFinished } from 'vitest';
import { ownRedis } from './own-redis';
import { type FaultyProxy, openProxy } from './proxy';
import { nameRequests } from './requests';
import type { LabServers } from './servers';

/** Resolves when the client is connected (again); an assertion where it is not within 3 s. */
export const connected = (redis: Redis): Promise<void> =>
  expect
    .poll(() => (redis.status === 'ready' ? redis.ping().catch(() => 'away') : redis.status), {
      timeout: 3000,
      interval: 5,
      message: 'the client must connect (again)',
    })
    .toBe('PONG');

/** A connected client with a faulty proxy before Redis. Both end with the test. */
export async function redisBehindProxy(
  servers: Pick<LabServers, 'redisUrl' | 'connectRedis'>,
  options: RedisOptions = {},
): Promise<{ proxy: FaultyProxy; redis: Redis }> {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis(options, proxy.url);
  onTestFinished(() => leave(redis));
  await connected(redis);
  return { proxy, redis };
}

/** A Redis of this test's own that answers reads, and refuses every write with NOPERM until its key is permitted. */
export async function refusingRedis(servers: Pick<LabServers, 'connectRedis'>, options: RedisOptions = {}) {
  const { url } = await ownRedis();
  const admin = servers.connectRedis({}, url);
  nameRequests(admin, '');
  const allow = (...keys: string[]) =>
    admin.acl('SETUSER', 'shop', 'on', 'nopass', '+@all', 'resetkeys', 'allchannels', ...keys);
  await allow('%R~*');
  const asShop = Object.assign(new URL(url), { username: 'shop', password: 'any' }).href;
  const redis = servers.connectRedis(options, asShop);
  onTestFinished(() => {
    for (const client of [redis, admin]) leave(client);
  });
  await connected(redis);
  return {
    url,
    redis,
    admin,
    /** From now on these keys may be written, and no others; without keys, all. */
    permit: (...keys: string[]) => allow('%R~*', ...(keys.length > 0 ? keys : ['*']).map((key) => `~${key}`)),
    /** From now on, reads are refused too. */
    refuseReads: () => allow(),
  };
}

/** What a client still has to say after its test is noise: code may try again without end. */
export function leave(redis: Redis): void {
  nameRequests(redis, '');
  redis.disconnect();
}
