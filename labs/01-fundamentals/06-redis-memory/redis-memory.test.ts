import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { ownRedis } from '#kit/server';
import { advise, type Kind, parseInfo, type Sample, takeSample, write } from './redis-memory';

const PAGE: Kind = { name: 'page', rebuildable: true, expires: true };
const FRAGMENT: Kind = { name: 'fragment', rebuildable: true, expires: false };
const SESSION: Kind = { name: 'session', rebuildable: false, expires: true };
const COUNTER: Kind = { name: 'counter', rebuildable: false, expires: false };

const BIG = 'x'.repeat(128 * 1024);
const TTL_MS = 60_000;

/** A client on a Redis of this test's own. */
async function openRedis(settings: Record<string, string> = {}) {
  const redis = new Redis((await ownRedis(settings)).url);
  onTestFinished(() => redis.disconnect());
  return redis;
}

/** Commands that Redis refused before running them, by its own count. */
async function refusedCommands(redis: Redis) {
  const stats = await redis.info('commandstats');
  return [...stats.matchAll(/rejected_calls=(\d+)/g)].reduce((sum, match) => sum + Number(match[1]), 0);
}

/** A healthy sample, through the subject's own parser. */
function sample(changes: Partial<Sample> = {}): Sample {
  const healthy = parseInfo(
    [
      '# Server\r\nrun_id:6a1f',
      '# Memory\r\nused_memory:600\r\nused_memory_rss:900\r\nmaxmemory:1000\r\nmaxmemory_policy:allkeys-lru',
      '# Stats\r\nkeyspace_hits:80\r\nkeyspace_misses:20',
      '# Keyspace\r\ndb0:keys=10,expires=5,avg_ttl=0\r\n',
    ].join('\r\n'),
  );
  return { ...healthy, ...changes };
}

const findingsOf = (now: Sample, ...kinds: [Kind, ...Kind[]]) => advise(now, now, kinds).findings;
const adviceOn = (policy: string, ...kinds: [Kind, ...Kind[]]) =>
  advise(sample({ policy }), sample({ policy }), kinds).advice;

test('a full Redis answers full after one try, and its reads go on', async () => {
  const redis = await openRedis({ maxmemory: '6mb' });
  const outcomes: string[] = [];
  while (outcomes.length < 100 && !outcomes.includes('full')) {
    outcomes.push(await write(redis, `page:${outcomes.length}`, BIG, TTL_MS));
  }

  expect(outcomes[0], 'the first entry fits, so write must answer "stored"').toBe('stored');
  expect(outcomes.at(-1), 'at maxmemory Redis refuses the SET with OOM, and write must answer "full"').toBe(
    'full',
  );
  expect(await redis.get('page:0'), 'a full Redis still serves what it holds').toBe(BIG);
  expect(
    await refusedCommands(redis),
    'write must not try again: a full Redis stays full, and each try moves the whole value once more',
  ).toBeLessThanOrEqual(1);
});

test('a refused overwrite does not leave the old value to be read', async () => {
  const redis = await openRedis();
  await write(redis, 'page:1', 'price 10', TTL_MS);
  await redis.config('SET', 'maxmemory', '1');

  expect(await write(redis, 'page:1', 'price 12', TTL_MS), 'Redis is full, so this write is refused').toBe(
    'full',
  );
  expect(
    await redis.get('page:1'),
    'the price is 12 now: what a refused write was to replace must go (removing is allowed when full)',
  ).toBeNull();
});

test('an error that is not OOM is thrown', async () => {
  const redis = await openRedis();
  await write(redis, 'page:1', 'v1', TTL_MS);
  await redis.acl('SETUSER', 'default', '-@string');

  expect(
    await write(redis, 'page:1', 'v2', TTL_MS).catch(String),
    'Redis refused for want of a permission, not of memory: write must throw that error, for "full" would hide it',
  ).toContain('NOPERM');
});

test('every entry has a TTL, so volatile-lru can make room for the next', async () => {
  const redis = await openRedis({ maxmemory: '6mb', 'maxmemory-policy': 'volatile-lru' });
  const outcomes = new Set<string>();
  for (let n = 0; n < 80; n++) outcomes.add(await write(redis, `page:${n}`, BIG, TTL_MS));

  expect(
    [...outcomes],
    'volatile-lru evicts only keys with a TTL: a SET without PX fills Redis for good',
  ).toEqual(['stored']);
  const ttlMs = await redis.pttl('page:79');
  expect(ttlMs, 'the entry must live for ttlMs milliseconds').toBeLessThanOrEqual(TTL_MS);
  expect(ttlMs, 'the entry must live for ttlMs milliseconds, not seconds or less').toBeGreaterThan(
    TTL_MS / 2,
  );
});

test('a policy that cannot make room is named, over all databases', async () => {
  const redis = await openRedis({ maxmemory: '64mb', databases: '4' });

  expect(
    findingsOf(await takeSample(redis), PAGE),
    'noeviction is the default of Redis: a cache under it ends in refused writes',
  ).toEqual([{ code: 'refuses-writes' }]);
  expect(
    findingsOf(await takeSample(redis), COUNTER),
    'noeviction is right where nothing may be lost',
  ).toEqual([]);

  await redis.config('SET', 'maxmemory-policy', 'volatile-lru');
  expect(
    findingsOf(await takeSample(redis), PAGE),
    'an empty Redis has nothing to evict yet, and that is fine',
  ).toEqual([]);

  await redis.set('page:1', 'v');
  await redis.select(3);
  await redis.set('page:2', 'v');
  expect(
    findingsOf(await takeSample(redis), PAGE),
    'two keys, in databases 0 and 3, and none with a TTL: volatile-lru has nothing to evict',
  ).toEqual([{ code: 'nothing-to-evict', keys: 2 }]);

  await redis.pexpire('page:2', TTL_MS);
  expect(
    findingsOf(await takeSample(redis), PAGE),
    'a key of database 3 has a TTL now and can be evicted: the policy acts on all databases',
  ).toEqual([]);
});

test('no limit is a finding, and leaves no usage to report', async () => {
  const redis = await openRedis({ 'maxmemory-policy': 'allkeys-lru' });
  const unlimited = await takeSample(redis);
  const report = advise(unlimited, unlimited, [PAGE]);

  expect(report.findings, 'maxmemory 0 means no limit: allkeys-lru never acts').toEqual([
    { code: 'no-limit' },
  ]);
  expect(report.usage, 'a share of no limit is not a number').toBeUndefined();

  await redis.config('SET', 'maxmemory', '64mb');
  expect(findingsOf(await takeSample(redis), PAGE), 'with a limit there is nothing to say').toEqual([]);

  const hidden = (await redis.info()).replace(/^maxmemory:.*\r\n/m, '');
  expect(
    () => parseInfo(hidden),
    'a service that hides maxmemory must not look like one without a limit',
  ).toThrow('maxmemory');
});

test('usage compares used_memory with maxmemory', async () => {
  const redis = await openRedis({ maxmemory: '8mb' });
  const info = await redis.info();
  const now = parseInfo(info);

  expect(
    advise(now, now, [PAGE]).usage,
    'eviction looks at used_memory; the RSS also counts pages that the allocator keeps, and the program itself',
  ).toBeCloseTo(Number(/^used_memory:(\d+)/m.exec(info)?.[1]) / (8 * 1024 * 1024), 6);
});

test('the hit rate is that of the time between the two samples', async () => {
  const redis = await openRedis({ maxmemory: '64mb' });
  await redis.set('page:1', 'v');
  await redis.mget('no:1', 'no:2', 'no:3', 'no:4', 'no:5', 'no:6', 'no:7', 'no:8');
  const first = await takeSample(redis);
  await redis.mget('page:1', 'page:1', 'page:1', 'no:1');
  const second = await takeSample(redis);
  const idle = await takeSample(redis);
  await redis.config('RESETSTAT');
  await redis.mget('page:1', 'page:1', 'page:1', 'page:1');
  const reset = await takeSample(redis);
  const restarted = { ...second, runId: 'another process', hits: second.hits + 5, misses: second.misses + 5 };

  const hitRate = (before: Sample, after: Sample) => advise(before, after, [PAGE]).hitRate;
  expect(
    hitRate(first, second),
    'between the samples 3 of 4 reads hit; the 8 misses before are history',
  ).toBe(0.75);
  expect(hitRate(second, idle), 'nothing was read between the samples: there is no rate').toBeUndefined();
  expect(
    hitRate(idle, reset),
    'the misses fell from 9 to 0, so the counters began again: no rate',
  ).toBeUndefined();
  expect(
    hitRate(second, restarted),
    'another run_id is another process: its counters began at 0',
  ).toBeUndefined();
});

test('the advice never lets Redis evict what cannot be made again', () => {
  const allkeys = { action: 'switch', to: expect.stringMatching(/^allkeys-l[rf]u$/) };
  const volatile = { action: 'switch', to: expect.stringMatching(/^volatile-l[rf]u$/) };

  expect(adviceOn('noeviction', PAGE, FRAGMENT), 'a pure cache may lose any key').toEqual(allkeys);
  expect(adviceOn('allkeys-lfu', PAGE), 'allkeys-lfu suits a pure cache as well').toEqual({ action: 'keep' });
  expect(adviceOn('allkeys-lru', COUNTER), 'without a cache nothing may be evicted').toEqual({
    action: 'switch',
    to: 'noeviction',
  });
  expect(
    adviceOn('allkeys-lru', PAGE, COUNTER),
    'allkeys-* evicts counters as well as pages; only the pages have a TTL, so volatile-* tells them apart',
  ).toEqual(volatile);
  expect(adviceOn('volatile-ttl', PAGE, COUNTER), 'volatile-ttl is one of the volatile-* policies').toEqual({
    action: 'keep',
  });
  expect(
    adviceOn('volatile-lru', PAGE, SESSION),
    'sessions have a TTL and are lost to volatile-* like any page: they need an instance of their own',
  ).toEqual({ action: 'separate-instances' });
  expect(
    adviceOn('volatile-lru', FRAGMENT, COUNTER),
    'neither kind has a TTL: volatile-* has nothing to evict, allkeys-* takes the counters',
  ).toEqual({ action: 'separate-instances' });

  expect(
    findingsOf(sample({ policy: 'allkeys-lru' }), PAGE, SESSION, COUNTER),
    'allkeys-* may evict sessions and counters: name both',
  ).toEqual([{ code: 'evicts-state', kinds: ['session', 'counter'] }]);
  expect(
    findingsOf(sample({ policy: 'volatile-ttl' }), PAGE, SESSION, COUNTER),
    'volatile-* may evict the sessions, which expire; the counters have no TTL and are safe',
  ).toEqual([{ code: 'evicts-state', kinds: ['session'] }]);
});
