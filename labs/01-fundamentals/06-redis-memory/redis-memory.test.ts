import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { ownRedis } from '#kit/own-redis';
import { openProxy } from '#kit/proxy';
import { outcome } from '#kit/waiting';
import type { Finding, Kind } from './given';
import { advise, write } from './redis-memory';

const PAGE: Kind = { name: 'page', rebuildable: true, expires: true };
const FRAGMENT: Kind = { name: 'fragment', rebuildable: true, expires: false };
const SESSION: Kind = { name: 'session', rebuildable: false, expires: true };
const COUNTER: Kind = { name: 'counter', rebuildable: false, expires: false };

const KEY = 'page:1';
const TTL_MS = 60_400;
const REJECTION = expect.stringMatching(/^rejected/);

describe('Core', () => {
  test('a full Redis fails no write and no read', async () => {
    const { redis } = await openRedis({ maxmemory: '6mb' });
    const page = 'x'.repeat(128 * 1024);
    const outcomes = [await outcome(write(redis, 'page:0', page, TTL_MS))];
    expect(outcomes, 'outcome of the first write: Redis has room for it').toEqual(['stored']);
    while (outcomes.at(-1) === 'stored' && outcomes.length < 100) {
      outcomes.push(await outcome(write(redis, `page:${outcomes.length}`, page, TTL_MS)));
    }
    expect(outcomes.at(-1), 'outcome of the write that Redis refuses, because its memory is full').toBe(
      'full',
    );
    const read = await redis.get('page:0');
    expect(read === page, 'whether a full Redis still serves the first page').toBe(true);
  });

  test('an entry gets its TTL from the command that stores it', async () => {
    const { redis, url } = await openRedis();
    const proxy = await openProxy(url);
    let sentBare: string | undefined;
    let sentEmpty: string | undefined;
    proxy.schedule(async (request) => {
      const ttlMs = await redis.pttl(KEY);
      if (ttlMs === -1) sentBare ??= request;
      if (ttlMs === -2) sentEmpty ??= request;
    });
    await redis.set(KEY, 'price 10', 'PX', 5000);
    await write(connect(proxy.url), KEY, 'price 12', TTL_MS);
    expect(await redis.get(KEY), 'value in Redis: price 12 was written over price 10').toBe('price 12');
    expect(
      sentBare,
      'the entry had no TTL when this command was sent: if the process dies before it, no volatile-* can evict the entry',
    ).toBeUndefined();
    expect(
      sentEmpty,
      'Redis had no entry when this command was sent: all readers of that moment miss, and go to the database',
    ).toBeUndefined();
    const ttlMs = await redis.pttl(KEY);
    const message = `ms to live, of the ${TTL_MS} ms that write was called with`;
    expect(ttlMs, message).toBeLessThanOrEqual(TTL_MS);
    expect(ttlMs, message).toBeGreaterThan(TTL_MS / 2);
  });

  test('a refused value is not sent again', async () => {
    const { redis } = await fullRedis();
    await write(redis, KEY, 'price 12', TTL_MS);
    expect(
      await refusedCommands(redis),
      'commands that a full Redis has refused: it is still full a moment later, and each try sends the whole value',
    ).toBe(1);
  });

  test('noeviction is named where cache entries live', async () => {
    const { findings } = await openRedis({ maxmemory: '64mb' });
    expect(await findings([PAGE]), 'findings: noeviction, the default, and only pages').toEqual([
      'refuses-writes',
    ]);
    expect(
      await findings([COUNTER, PAGE]),
      'findings: noeviction, counters and pages. The pages fill Redis, then the counters cannot be written either',
    ).toEqual(['refuses-writes']);
    expect(
      await findings([COUNTER, SESSION]),
      'findings: noeviction and only state, which must not be evicted',
    ).toEqual([]);
  });

  test('volatile-* is named while no key has a TTL', async () => {
    const { redis, findings } = await openRedis({ maxmemory: '64mb' });
    for (const policy of ['volatile-lru', 'volatile-ttl']) {
      await redis.flushall();
      await redis.config('SET', 'maxmemory-policy', policy);
      expect(await findings([PAGE]), `findings: ${policy}, and Redis is empty: that is normal`).toEqual([]);
      await redis.mset('page:1', 'v', 'page:2', 'v');
      expect(await findings([PAGE]), `findings: ${policy}, and 2 keys without a TTL`).toEqual([
        'nothing-to-evict',
      ]);
      await redis.pexpire('page:2', TTL_MS);
      expect(await findings([PAGE]), `findings: ${policy}, and 1 of 2 keys has a TTL`).toEqual([]);
    }
    await redis.persist('page:2');
    await redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
    expect(await findings([PAGE]), 'findings: allkeys-lru, which needs no TTL').toEqual([]);
  });

  test('maxmemory 0 is named, whatever the policy is', async () => {
    const { redis, findings } = await openRedis({ 'maxmemory-policy': 'allkeys-lru' });
    expect(await findings([PAGE]), 'findings: maxmemory 0 and allkeys-lru, which then never acts').toEqual([
      'no-limit',
    ]);
    await redis.config('SET', 'maxmemory-policy', 'noeviction');
    expect(await findings([PAGE]), 'findings: maxmemory 0 and noeviction, both wrong for pages').toEqual([
      'no-limit',
      'refuses-writes',
    ]);
    await redis.config('SET', 'maxmemory', '64mb', 'maxmemory-policy', 'allkeys-lru');
    expect(await findings([PAGE]), 'findings: a limit and allkeys-lru').toEqual([]);
  });
});

describe('In production', () => {
  test('a refused overwrite leaves no old value to be read', async () => {
    const { redis } = await fullRedis({ [KEY]: 'price 10' });
    expect(
      await outcome(write(redis, KEY, 'price 12', TTL_MS)),
      'outcome of a write that Redis refuses, because its memory is full',
    ).toBe('full');
    expect(
      await redis.get(KEY),
      'value in Redis: the write of price 12 was refused, so readers must not get price 10',
    ).toBeNull();
  });

  test('a removal that fails is an error, and not a full Redis', async () => {
    const { clientWith } = await fullRedis({ [KEY]: 'price 10' });
    const client = await clientWith('-@keyspace', '-getdel', '-getex');
    expect(
      await outcome(write(client, KEY, 'price 12', TTL_MS)),
      'Redis is full and has refused the removal too (NOPERM), so price 10 can still be read: write must reject',
    ).toEqual(REJECTION);
  });

  test('an error that is not OOM is thrown', async () => {
    const { clientWith } = await openRedis();
    const client = await clientWith('-@string');
    expect(
      await outcome(write(client, KEY, 'price 12', TTL_MS)),
      'this user may not write (NOPERM), and Redis is almost empty: write must reject',
    ).toEqual(REJECTION);
    client.disconnect();
    expect(
      await outcome(write(client, KEY, 'price 12', TTL_MS)),
      'the connection is closed, so Redis was not asked: write must reject',
    ).toEqual(REJECTION);
  });

  test('the keys of all databases count', async () => {
    const { redis, findings } = await openRedis({ maxmemory: '64mb', 'maxmemory-policy': 'volatile-lru' });
    await redis.select(12);
    await redis.set('page:1', 'v');
    expect(
      await findings([PAGE]),
      'findings: volatile-lru, and the only key is in database 12 and has no TTL',
    ).toEqual(['nothing-to-evict']);
    await redis.select(0);
    await redis.set('page:2', 'v', 'PX', TTL_MS);
    await redis.select(3);
    await redis.set('page:3', 'v');
    expect(
      await findings([PAGE]),
      'findings: volatile-lru, and of the databases 0, 3 and 12 only database 0 has a key with a TTL',
    ).toEqual([]);
    await redis.select(12);
    await redis.pexpire('page:1', TTL_MS);
    await redis.select(0);
    await redis.persist('page:2');
    expect(
      await findings([PAGE]),
      'findings: volatile-lru, and of the databases 0, 3 and 12 only database 12 has a key with a TTL',
    ).toEqual([]);
  });

  test('a field that INFO does not show is an error', async () => {
    const { redis } = await openRedis({ maxmemory: '64mb' });
    const info = await redis.info();
    const fields = ['maxmemory', 'maxmemory_policy', 'used_memory', 'keyspace_hits', 'keyspace_misses'];
    for (const field of [...fields, 'run_id']) {
      const line = new RegExp(`^${field}:.*\r\n`, 'm');
      const shown = { missing: info.replace(line, ''), empty: info.replace(line, `${field}:\r\n`) };
      for (const [how, text] of Object.entries(shown)) {
        expect(
          resultOf(() => advise(text, [PAGE], info)),
          `${field} is ${how} in INFO: advise must throw an Error with this name, and not guess a value`,
        ).toMatch(new RegExp(`^thrown: .*\\b${field}\\b`));
      }
    }
  });

  test('the usage is used_memory in maxmemory, and there is none without a limit', async () => {
    const { redis } = await openRedis({ maxmemory: '64mb' });
    const fields = { used_memory_rss: 900, used_memory_peak: 800, maxmemory: 1000, used_memory: 600 };
    const info = withFields(await redis.info(), fields);
    expect(
      advise(info, [PAGE]).usage,
      'usage: of maxmemory 1000, used_memory takes 600, and the resident set (RSS) is 900',
    ).toBe(0.6);
    expect(
      advise(withFields(info, { maxmemory: 0 }), [PAGE]).usage,
      'usage with maxmemory 0: there is no limit, so there is no share of it',
    ).toBeUndefined();
  });

  test('the hit rate is that of the time between the two INFOs', async () => {
    const { redis } = await openRedis({ maxmemory: '64mb' });
    await redis.set(KEY, 'v');
    await redis.mget('no:1', 'no:2', 'no:3', 'no:4', 'no:5', 'no:6', 'no:7', 'no:8');
    const before = await redis.info();
    await redis.mget(KEY, KEY, KEY, 'no:1');
    const now = await redis.info();
    expect(
      advise(now, [PAGE], before).hitRate,
      'hit rate: 3 of the 4 reads between the two INFOs were hits, and 8 misses came before',
    ).toBe(0.75);
    expect(
      advise(await redis.info(), [PAGE], now).hitRate,
      'hit rate: nothing was read between the two INFOs',
    ).toBeUndefined();
    for (const [hits, misses] of [
      [0, 3],
      [3, 0],
      [2, 2],
      [1, 2],
    ] as const) {
      const later = withFields(before, { keyspace_hits: 5 + hits, keyspace_misses: 9 + misses });
      const earlier = withFields(before, { keyspace_hits: 5, keyspace_misses: 9 });
      expect(
        advise(later, [PAGE], earlier).hitRate,
        `hit rate: between the two INFOs, ${hits} reads were hits and ${misses} were misses`,
      ).toBeCloseTo(hits / (hits + misses), 9);
    }
  });

  test('counters that began again give no hit rate', async () => {
    const { redis } = await openRedis({ maxmemory: '64mb' });
    const counts = (hits: number, misses: number) => ({ keyspace_hits: hits, keyspace_misses: misses });
    const before = withFields(await redis.info(), counts(1000, 100));
    const hitRate = (fields: object) => advise(withFields(before, fields), [PAGE], before).hitRate;
    expect(hitRate(counts(1003, 101)), 'hit rate: 3 hits and 1 miss more than before').toBe(0.75);
    expect(
      hitRate(counts(1200, 7)),
      'hit rate: misses fell from 100 to 7, so the counters began again (CONFIG RESETSTAT)',
    ).toBeUndefined();
    expect(
      hitRate(counts(3, 160)),
      'hit rate: hits fell from 1000 to 3, so the counters began again (CONFIG RESETSTAT)',
    ).toBeUndefined();
    expect(
      hitRate({ ...counts(1003, 101), run_id: 'f00d' }),
      'hit rate: another run_id is another process, whose counters began at 0',
    ).toBeUndefined();
  });

  test('state that the policy may evict is named', async () => {
    const { redis } = await openRedis({ maxmemory: '64mb' });
    const info = await redis.info();
    const atRisk = (policy: string) =>
      advise(withFields(info, { maxmemory_policy: policy }), [PAGE, SESSION, FRAGMENT, COUNTER])
        .atRisk?.slice()
        .sort();
    for (const policy of ['allkeys-lru', 'allkeys-random']) {
      expect(atRisk(policy), `at risk under ${policy}: it may evict every key`).toEqual([
        'counter',
        'session',
      ]);
    }
    for (const policy of ['volatile-ttl', 'volatile-random']) {
      expect(atRisk(policy), `at risk under ${policy}: sessions have a TTL, and counters have none`).toEqual([
        'session',
      ]);
    }
    expect(atRisk('noeviction'), 'at risk under noeviction: it evicts nothing').toEqual([]);
  });

  test('the advised policy may evict each cache entry and no state', async () => {
    const { redis } = await openRedis({ maxmemory: '64mb', 'maxmemory-policy': 'allkeys-lru' });
    const info = await redis.info();
    const advice = (...kinds: Kind[]) => advise(info, kinds).advice;
    expect(advice(PAGE, FRAGMENT), 'advice for a cache alone: every key may be lost').toBe('allkeys-*');
    expect(advice(PAGE), 'advice for pages alone, all with a TTL: every key may be lost').toBe('allkeys-*');
    expect(advice(COUNTER), 'advice for counters alone: no key may be lost').toBe('noeviction');
    expect(advice(SESSION, COUNTER), 'advice for state alone: no key may be lost').toBe('noeviction');
    expect(advice(PAGE, COUNTER), 'advice for pages with a TTL and counters without').toBe('volatile-*');
    expect(
      advice(PAGE, SESSION),
      'advice for pages and sessions, both with a TTL: volatile-* would evict the sessions too',
    ).toBe('two instances');
    expect(
      advice(FRAGMENT, COUNTER),
      'advice for fragments and counters, both without a TTL: volatile-* would evict neither',
    ).toBe('two instances');
    expect(
      advice(PAGE, COUNTER, SESSION),
      'advice for pages and sessions with a TTL, and counters without: volatile-* would evict the sessions too',
    ).toBe('two instances');
  });
});

function connect(url: string): Redis {
  const redis = new Redis(url);
  onTestFinished(() => redis.disconnect());
  return redis;
}

/** A Redis of this test's own. */
async function openRedis(settings: Record<string, string> = {}) {
  const { url } = await ownRedis(settings);
  const redis = connect(url);
  return {
    redis,
    url,
    /** A client whose user may do everything, but for these rules of the access control list. */
    clientWith: async (...rules: string[]) => {
      await redis.acl('SETUSER', 'shop', 'on', '>secret', '~*', '+@all', ...rules);
      return connect(url.replace(/\/\/.*@/, '//shop:secret@'));
    },
    /** In the order of the alphabet. */
    findings: async (kinds: readonly Kind[]): Promise<Finding[]> =>
      [...advise(await redis.info(), kinds).findings].sort(),
  };
}

/** A Redis that has these entries, and refuses everything that may need memory. */
async function fullRedis(entries: Record<string, string> = {}) {
  const opened = await openRedis();
  for (const [key, value] of Object.entries(entries)) await opened.redis.set(key, value, 'PX', TTL_MS);
  await opened.redis.config('SET', 'maxmemory', '1');
  return opened;
}

/** Commands that carry a value and that Redis refused, by its own count. In a MULTI it refuses the others too. */
async function refusedCommands(redis: Redis): Promise<number> {
  const stats = await redis.info('commandstats');
  const refused = stats.matchAll(/^cmdstat_(?!exec:|p?expire:).*rejected_calls=(\d+)/gm);
  return [...refused].reduce((sum, [, calls]) => sum + Number(calls), 0);
}

/** The text of an INFO, with other values in these fields. */
const withFields = (info: string, fields: object): string =>
  Object.entries(fields).reduce(
    (text, [name, value]) => text.replace(new RegExp(`^${name}:.*?\r$`, 'm'), `${name}:${value}\r`),
    info,
  );

/** What a call returns, or throws, as a text. */
function resultOf(call: () => unknown): string {
  try {
    return `returned: ${JSON.stringify(call())}`;
  } catch (error) {
    return `thrown: ${error}`;
  }
}
