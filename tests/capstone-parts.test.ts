import { setTimeout as sleep } from 'node:timers/promises';
import type { RedisOptions } from 'ioredis';
import { expect, test } from 'vitest';
import { useServers } from '#kit/servers';
import { until } from '#kit/waiting';
import { DEFAULTS } from '../labs/06-interviews/11-capstone/parts/api';
import { entryOf, tagKey, valueKey } from '../labs/06-interviews/11-capstone/parts/entry';
import { openStore } from '../labs/06-interviews/11-capstone/parts/store';

/** The lab's tests run against the file that joins the parts. These are faults that the parts once had. */

const servers = useServers();
const DEADLINE_MS = 30;

/** A store whose answers come so much later. */
function storeWith(delayMs: number) {
  const errors: unknown[] = [];
  const connect = (options: RedisOptions) => {
    const redis = servers.connectRedis(options);
    const { callBuffer } = redis;
    Reflect.set(redis, 'callBuffer', async (...args: unknown[]) => {
      const answer = await Reflect.apply(callBuffer, redis, args);
      await sleep(delayMs);
      return answer;
    });
    return redis;
  };
  const store = openStore({
    ...DEFAULTS,
    name: 'shop',
    connect,
    redisDeadlineMs: delayMs > 0 ? DEADLINE_MS : 5_000,
    onError: (error) => void errors.push(error),
  });
  return { store, errors };
}

const ENTRY = entryOf('shop', 'a', { ttlMs: 60_000 });
const lease = () => servers.redis.get(`lease:${ENTRY.value}`);

test('a lease that is granted too late is given back, and that of another call is not', async () => {
  const slow = storeWith(100);
  await until(async () => (await slow.store.look(ENTRY)).kind === 'unanswered' && (await lease()) !== null);
  await until(async () => (await lease()) === null);

  const quick = storeWith(0);
  await until(async () => (await quick.store.look(ENTRY)).kind === 'granted');
  const held = await lease();
  expect((await slow.store.look(ENTRY)).kind).toBe('unanswered');
  await sleep(200);
  expect(await lease(), 'the lease of the call that loads').toBe(held);
  for (const { store } of [slow, quick]) store.close();
});

test('a key is in Redis as it is here, also with half of a surrogate pair', async () => {
  for (const key of [valueKey('shop', 'a\ud800'), tagKey('shop', '\udc00')]) {
    await servers.redis.set(key, '1');
    expect(await servers.redis.keys('*')).toContain(key);
  }
});
