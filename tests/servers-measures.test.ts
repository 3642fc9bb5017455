import { Redis } from 'ioredis';
import { expect, it, onTestFinished, vi } from 'vitest';
import { openMeasureServers } from '../course/claims/servers';
import { startMysql } from '../course/servers/mysql';
import { startRedis } from '../course/servers/redis';
import { LONG_MS, noWayChosen } from './servers-tools';

noWayChosen();

it('a measure that flushed Redis leaves no key on the servers of a learner', {
  timeout: LONG_MS,
}, async () => {
  const [redisServer, mysqlServer] = await Promise.all([startRedis(), startMysql()]);
  onTestFinished(() => Promise.all([redisServer.close(), mysqlServer.close()]).then(() => {}));
  vi.stubEnv('REDIS_URL', redisServer.url);
  vi.stubEnv('MYSQL_URL', mysqlServer.url);
  const servers = await openMeasureServers();
  await servers.redis.flushdb();
  await servers.redis.set('left', '1');

  await servers.close();

  const redis = new Redis(redisServer.url);
  onTestFinished(() => redis.disconnect());
  expect(await redis.dbsize()).toBe(0);
});
