import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { ownRedis } from '#kit/own-redis';
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

/** What Redis itself counted as run because of `action`. */
async function commandsOf(redis: Redis, action: () => Promise<unknown>) {
  const count = async () => {
    const stats = await redis.info('commandstats');
    return [...stats.matchAll(/:calls=(\d+)/g)].reduce((sum, match) => sum + Number(match[1]), 0);
  };
  const before = await count();
  await action();
  // The second count includes the first INFO, which could not count itself.
  return (await count()) - before - 1;
}

const HEALTHY = [
  '# Server\r\nrun_id:6a1f',
  '# Memory\r\nused_memory:600\r\nused_memory_rss:900\r\nmaxmemory:1000\r\nmaxmemory_policy:allkeys-lru',
  '# Stats\r\nkeyspace_hits:80\r\nkeyspace_misses:20',
  '# Keyspace\r\ndb0:keys=10,expires=5,avg_ttl=0\r\n',
].join('\r\n');

/** A healthy sample, through the subject's own parser. */
const sample = (changes: Partial<Sample> = {}): Sample => ({ ...parseInfo(HEALTHY), ...changes });

/** An older sample that differs in all that a judgement of `now` must not look at. */
const olderThan = (now: Sample): Sample => ({
  ...now,
  usedMemory: 2 * now.usedMemory + 1,
  maxMemory: now.maxMemory === 0 ? 1000 : 0,
  policy: now.policy === 'noeviction' ? 'allkeys-lru' : 'noeviction',
  keys: now.keys + 5,
  keysWithTtl: now.keysWithTtl === 0 ? 5 : 0,
});

const report = (now: Sample, ...kinds: [Kind, ...Kind[]]) => advise(olderThan(now), now, kinds);
const findingsOf = (now: Sample, ...kinds: [Kind, ...Kind[]]) => report(now, ...kinds).findings;
const codesOf = (now: Sample, ...kinds: [Kind, ...Kind[]]) =>
  findingsOf(now, ...kinds)
    .map((finding) => finding.code)
    .sort();
const adviceOn = (policy: string, ...kinds: [Kind, ...Kind[]]) => report(sample({ policy }), ...kinds).advice;

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
    await write(redis, 'page:1', 'v2', TTL_MS).catch((error: Error) => error.message),
    'Redis refused for want of a permission, not of memory: write must throw that error as it came, not answer "full"',
  ).toMatch(/^NOPERM/);

  await redis.acl('SETUSER', 'default', '+@string');
  expect(
    await redis.get('page:1'),
    'after an error that is not OOM write must send nothing more: what to do about the old value is for the caller',
  ).toBe('v1');
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

  expect(
    await commandsOf(redis, () => write(redis, 'page:80', 'v', TTL_MS)),
    'value and TTL must go in one command: a crash after the first of two leaves an entry without a TTL',
  ).toBe(1);
  expect(
    await write(redis, 'page:81', 'v', 1).catch(String),
    'one millisecond is a TTL: in whole seconds it would be 0, which Redis refuses',
  ).toBe('stored');
  expect(
    await redis.pttl('page:81'),
    'a TTL of one millisecond must not be rounded up to a second',
  ).toBeLessThanOrEqual(1);
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

  expect(findingsOf(unlimited, PAGE), 'maxmemory 0 means no limit: allkeys-lru never acts').toEqual([
    { code: 'no-limit' },
  ]);
  expect(report(unlimited, PAGE).usage, 'a share of no limit is not a number').toBeUndefined();
  expect(
    codesOf({ ...unlimited, policy: 'noeviction' }, PAGE),
    'without a limit the policy is judged all the same: one day there will be one',
  ).toEqual(['no-limit', 'refuses-writes']);

  await redis.config('SET', 'maxmemory', '64mb');
  const limited = await takeSample(redis);
  expect(findingsOf(limited, PAGE), 'with a limit there is nothing to say').toEqual([]);
  expect(
    report({ ...limited, usedMemory: 1.5 * limited.maxMemory }, PAGE).usage,
    'a limit that was lowered may be exceeded: 1.5 is a usage',
  ).toBe(1.5);
});

test('a sample is one INFO, each field under its whole name', async () => {
  const redis = await openRedis({ maxmemory: '8mb' });
  const samples: Sample[] = [];
  expect(
    await commandsOf(redis, async () => samples.push(await takeSample(redis))),
    'one INFO has everything: a second command is another round trip, and CONFIG is often forbidden',
  ).toBe(1);
  expect(samples[0]?.maxMemory, 'INFO gives maxmemory in bytes').toBe(8 * 1024 * 1024);

  const newer = HEALTHY.replace('avg_ttl=0', 'avg_ttl=0,subexpiry=0');
  expect(
    parseInfo(newer),
    'eviction looks at used_memory, not at the RSS; and a newer Redis appends more to the line of a database',
  ).toEqual({
    runId: '6a1f',
    hits: 80,
    misses: 20,
    usedMemory: 600,
    maxMemory: 1000,
    policy: 'allkeys-lru',
    keys: 10,
    keysWithTtl: 5,
  });

  const info = await redis.info();
  const fields = [
    'run_id',
    'keyspace_hits',
    'keyspace_misses',
    'used_memory',
    'maxmemory',
    'maxmemory_policy',
  ];
  for (const field of fields) {
    const hidden = info.replace(new RegExp(`^${field}:.*\\r\\n`, 'm'), '');
    expect(
      () => parseInfo(hidden),
      `a service that hides ${field} must get an error that names it, not a NaN, an empty text or "no limit"`,
    ).toThrow(new RegExp(`\\b${field}\\b`));
  }
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
    hitRate(sample({ hits: 1000, misses: 1 }), sample({ hits: 5, misses: 10 })),
    'the hits fell from 1000 to 5, so the counters began again, although the misses rose: no rate',
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
  expect(
    codesOf(sample({ policy: 'volatile-lru', maxMemory: 0, keys: 3, keysWithTtl: 0 }), PAGE, SESSION),
    'each finding is judged by itself: one must not keep another from being reported',
  ).toEqual(['evicts-state', 'no-limit', 'nothing-to-evict']);
});
