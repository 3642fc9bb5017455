import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { pausingClock } from '#kit/clock';
import { expectTtl } from '#kit/expect-ttl';
import { redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import { lateness } from '#kit/lateness';
import { countedLoad, heldLoad } from '#kit/loads';
import { useServers } from '#kit/servers';
import { rejectionOf, soon } from '#kit/waiting';

const servers = useServers();

test('a held load begins, and ends when it is told to', async () => {
  const source = heldLoad('mug');
  const first = source.load();
  await source.begun;
  expect(await soon(first, 20)).toBe('still waiting');
  source.end();
  expect(await Promise.all([first, source.load()])).toEqual(['mug', 'mug']);
  expect(source.loads).toBe(2);
});

test('a held load can fail, and a counted one counts', async () => {
  const failing = heldLoad('mug');
  failing.fail(new Error('no'));
  expect(await rejectionOf(failing.load)).toMatchObject({ message: 'no' });
  const source = countedLoad(1);
  await source.load();
  expect(source.loads).toBe(1);
});

test('a client behind a proxy is connected, and meets its faults', async () => {
  const { proxy, redis } = await redisBehindProxy(servers, { commandTimeout: 50 });
  expect(await redis.set('a', '1')).toBe('OK');
  proxy.blackHole();
  expect(await rejectionOf(() => redis.get('a'))).toMatchObject({ message: 'Command timed out' });
});

test('a refusing Redis reads, refuses to write, and can be permitted', async () => {
  const { redis, permit, refuseReads } = await refusingRedis(servers);
  expect(await redis.get('a')).toBe(null);
  expect(String(await rejectionOf(() => redis.set('a', '1')))).toContain('NOPERM');
  await permit('a');
  expect(await redis.set('a', '1')).toBe('OK');
  expect(String(await rejectionOf(() => redis.set('b', '1')))).toContain('NOPERM');
  expect(await redis.get('b')).toBe(null);
  await permit();
  expect(await redis.set('b', '1')).toBe('OK');
  await refuseReads();
  expect(String(await rejectionOf(() => redis.get('a')))).toContain('NOPERM');
});

test('a call is as late as in its best try, and each try opens anew', async () => {
  const waitsMs = [400, 20];
  let opened = 0;
  const { result, lateMs } = await lateness({
    open: async () => ({ redis: servers.connectRedis(), waitMs: waitsMs[opened++] ?? 20 }),
    call: ({ waitMs }) => sleep(waitMs, 'called'),
    reference: () => sleep(10),
    toleratedMs: 50,
  });
  expect(result).toBe('called');
  expect(lateMs).toBeLessThan(50);
  expect(opened).toBeGreaterThan(1);
});

test('a TTL is told from none, from a shorter and from a longer one', async () => {
  await servers.redis.set('a', '1', 'PX', 57_300);
  await expectTtl(servers.redis, 'a', 57_300, 'as given');
  for (const [ttlMs, key] of [
    [60_500, 'a'],
    [50_000, 'a'],
    [57_300, 'b'],
  ] as const) {
    await servers.redis.set('a', '1', 'PX', ttlMs === 60_500 ? 55_000 : 57_300);
    await expect(expectTtl(servers.redis, key, ttlMs, 'not as given')).rejects.toThrow();
  }
});

test('pauses of a clock pass at once and are kept', async () => {
  const seen: number[] = [];
  const clock = pausingClock(async (waited) => seen.push(waited));
  await clock.sleep(30);
  await clock.sleep(12);
  expect([clock.pauses, clock.now(), seen]).toEqual([[30, 12], 1_042, [30, 42]]);
});
