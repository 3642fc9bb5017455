import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, soon, unhandledRejections, until } from '#kit/waiting';
import {
  type Entry,
  type Layer,
  type LayerStats,
  LayerTimeoutError,
  productSource,
  type Source,
} from './given';
import { createLookup, predict, redisLayer } from './layers';

const servers = useServers('products');

const T0 = 1_700_000_000_000;
const HOUR_MS = 3_600_000;

describe('Core', () => {
  test('the first layer that has the key answers, and no layer below it is asked', async () => {
    const [near, far, source] = [memory('near'), memory('far'), memory('source')];
    far.map.set('a', inAnHour('a of far'));
    for (const layer of [near, far]) layer.map.set('d', inAnHour(`d of ${layer.name}`));
    for (const key of ['a', 'b']) source.map.set(key, inAnHour(`${key} of the source`));
    const lookup = createLookup([near, far], source);
    expect(await lookup('a'), 'near does not have a, and far has it: the entry of far, and its name').toEqual(
      {
        ...far.map.get('a'),
        layer: 'far',
      },
    );
    expect(source.asked, 'keys that the source was asked for: far has answered').toEqual([]);
    expect(await lookup('b'), 'only the source has b').toMatchObject({
      value: 'b of the source',
      layer: 'source',
    });
    expect(await lookup('c'), 'no layer has c: undefined').toBeUndefined();
    expect(await lookup('d'), 'near and far have d: near is asked first').toMatchObject({ layer: 'near' });
    expect(far.asked, 'keys that far was asked for: near has answered d').not.toContain('d');
    far.map.set('e', inAnHour(''));
    source.map.set('f', inAnHour(''));
    expect(
      await Promise.all([lookup('e'), lookup('f')]),
      'far has an empty text for e, and the source has one for f: an empty text is a value',
    ).toMatchObject([
      { value: '', layer: 'far' },
      { value: '', layer: 'source' },
    ]);
  });

  test('the caches that missed get a copy, and no other layer is written to', async () => {
    const [near, middle, far, source] = [memory('near'), memory('middle'), memory('far'), memory('source')];
    middle.map.set('a', inAnHour('a of middle'));
    source.map.set('b', inAnHour('b of the source'));
    const lookup = createLookup([near, middle, far], source);
    await lookup('a');
    await filled(near);
    expect(near.given, 'keys stored in near: it missed a, and the cache below it had it').toEqual(['a']);
    expect(middle.given, 'keys stored in middle: it already had a').toEqual([]);
    expect(far.given, 'keys stored in far: it was not asked, and may hold something newer').toEqual([]);
    await lookup('b');
    await filled(near, middle, far);
    for (const cache of [near, middle, far]) {
      expect(
        cache.map.get('b')?.value,
        `b in ${cache.name}: all caches missed it, and the source had it`,
      ).toBe('b of the source');
    }
    const all = [near, middle, far, source];
    for (const { given } of all) given.length = 0;
    await lookup('c');
    await lookup('a');
    await filled();
    expect(
      all.filter(({ given }) => given.length > 0).map(({ name }) => name),
      'layers that something was stored in: no layer has c, and near has a by now',
    ).toEqual([]);
    source.map.set('d', inAnHour('d of the source'));
    await Promise.all(['d', 'a'].map(lookup));
    await filled(near, middle, far);
    expect(
      near.given,
      'keys stored in near: two lookups at once, of d that it misses and of a that it has',
    ).toEqual(['d']);
    expect(
      Object.keys(source.map.get('d') ?? {}).sort(),
      'fields of the entry in the source: it belongs to its layer, and a lookup must not change it',
    ).toEqual(['expiresAt', 'value']);
  });

  test('a copy keeps the deadline of its entry, and an expired entry is a miss', async () => {
    const clock = fakeClock(T0);
    const [near, far, source] = [memory('near'), memory('far'), memory('source')];
    far.map.set('a', { value: 'old', expiresAt: T0 + 10_700 });
    source.map.set('a', { value: 'new', expiresAt: T0 + 90_000 });
    const lookup = createLookup([near, far], source, { now: clock.now });
    clock.advance(4_300);
    expect((await lookup('a'))?.value, 'value: the entry in far has 6.4 s left').toBe('old');
    await filled(near);
    expect(
      (near.map.get('a')?.expiresAt ?? 0) - T0,
      'deadline of the copy in near: that of the entry in far, 10.7 s after the start',
    ).toBe(10_700);
    clock.advance(6_400);
    expect((await lookup('a'))?.value, 'value: both entries have just expired').toBe('new');
    await filled(near, far);
    expect(near.map.get('a')?.value, 'value in near: an expired entry was a miss there too').toBe('new');
  });

  test('Redis keeps the deadline of a copy, and returns it', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const redis = redisLayer({ ...QUIET, redis: servers.connectRedis({}, proxy.url), now: () => T0 });
    let sentBare: string | undefined;
    let previous = '';
    proxy.schedule(async (request) => {
      if (/\bcopy\b/.test(previous) && (await servers.redis.pttl('copy')) === -1) sentBare ??= request;
      previous = request;
    });
    await redis.set('copy', { value: 'x', expiresAt: T0 + 15_400 });
    const left = await servers.redis.pttl('copy');
    expect(left, 'ms to live of a copy whose entry expires in 15.4 s').toBeLessThanOrEqual(15_400);
    expect(left, 'ms to live of a copy whose entry expires in 15.4 s').toBeGreaterThan(10_000);
    expect(
      sentBare,
      'the copy had no TTL when this command was sent: if the process dies before it, the copy stays forever',
    ).toBeUndefined();

    await servers.redis.set('a', 'a of Redis', 'PX', 50_900);
    const entry = await redis.get('a');
    expect(entry?.value).toBe('a of Redis');
    const leftOfA = (entry?.expiresAt ?? 0) - T0;
    expect(leftOfA, 'ms until the deadline: Redis drops a in 50.9 s').toBeLessThanOrEqual(50_900);
    expect(leftOfA, 'ms until the deadline: Redis drops a in 50.9 s').toBeGreaterThan(45_000);
    expect(await redis.get('nothing'), 'Redis does not have this key').toBeUndefined();
    await servers.redis.set('empty', '', 'PX', 50_900);
    expect((await redis.get('empty'))?.value, 'value: Redis has an empty text under this key').toBe('');

    await servers.redis.set('product:1', 'without a TTL');
    const found = await createLookup([redis], mysql(), { now: () => T0 })('product:1');
    expect(
      found?.layer,
      'layer that answers: without a TTL there is no deadline to copy, so it is a miss',
    ).toBe('mysql');
  });

  test('a miss pays for every layer that it went through', () => {
    const { effectiveMs } = predict([
      { name: 'map', hitRate: 0.5, latencyMs: 1 },
      { name: 'redis', hitRate: 0.5, latencyMs: 10 },
      { name: 'mysql', hitRate: 1, latencyMs: 100 },
    ]);
    expect(
      effectiveMs,
      'ms: all requests wait 1 ms, half of them 10 ms more, and a quarter of them 100 ms more',
    ).toBeCloseTo(31, 9);
    const useless = predict([
      { name: 'useless', hitRate: 0, latencyMs: 5 },
      { name: 'mysql', hitRate: 1, latencyMs: 100 },
    ]);
    expect(useless.effectiveMs, 'ms: a layer that never hits still costs its 5 ms').toBeCloseTo(105, 9);
  });

  test('a rate is a share of what reaches the layer, and the funnel sums to 1', () => {
    const { funnel, absent } = predict([
      { name: 'browser', hitRate: 0.4, latencyMs: 0 },
      { name: 'cdn', hitRate: 0.9, latencyMs: 30 },
      { name: 'redis', hitRate: 0.8, latencyMs: 3 },
      { name: 'mysql', hitRate: 0.75, latencyMs: 125 },
    ]);
    const rounded = (share: number) => Number(share.toFixed(9));
    expect(
      funnel.map(({ reached }) => rounded(reached)),
      'shares that reach browser, cdn, redis and mysql: those that the layers above have missed',
    ).toEqual([1, 0.6, 0.06, 0.012]);
    expect(
      funnel.map(({ served }) => rounded(served)),
      'shares that browser, cdn, redis and mysql answer: the CDN answers 90 % of 60 %',
    ).toEqual([0.4, 0.54, 0.048, 0.009]);
    expect(rounded(absent), 'share that no layer answers: a quarter of what reaches mysql').toBe(0.003);
  });
});

describe('In production', () => {
  test('a cache that fails is skipped, and reported', async () => {
    const { redis, proxy, lookup, failures } = await redisAbove(mysql());
    const KEY = 'product:1';
    const fromMySql = { layer: 'mysql', value: expect.stringContaining('Enamel mug') };
    await servers.redis.lpush(KEY, 'a list, which GET refuses');
    expect(await outcome(lookup(KEY)), 'Redis refuses to read the key: MySQL must answer').toMatchObject(
      fromMySql,
    );
    expect(failures, 'caches reported: Redis has refused to read').toContain('redis');

    failures.length = 0;
    await servers.redis.set(KEY, 'of Redis', 'PX', HOUR_MS);
    await redis.watch(KEY);
    await servers.redis.set(KEY, 'newer', 'PX', HOUR_MS);
    const found = await outcome(lookup(KEY));
    const answered = typeof found === 'object' && found.layer === 'redis';
    expect(
      answered || failures.includes('redis'),
      'answered by Redis, or reported: a WATCH on this connection aborts a MULTI, which is not a miss',
    ).toBe(true);

    failures.length = 0;
    await proxy.refuse();
    expect(await outcome(lookup(KEY)), 'Redis is down: MySQL must answer').toMatchObject(fromMySql);
    expect(failures, 'caches reported: Redis is down').toContain('redis');
  });

  test('a cache that hangs is skipped after its own timeout', async () => {
    const slow = { ...memory('slow', 5000), get: () => sleep(60, inAnHour('a of slow')) };
    const { proxy, lookup, errors } = await redisAbove(sourceOf('a'), { timeoutMs: 20, below: [slow] });
    proxy.blackHole();
    const lookedUp = outcome(lookup('a'));
    // Begun after the wait for Redis: however slow the machine, this timer ends after one of 20 ms.
    const reportedBy35Ms = sleep(35).then(() => errors.length);
    expect(
      await lookedUp,
      'Redis never answers, and may take 20 ms. The cache below it takes 60 ms, and may take 5 s: it has the key',
    ).toMatchObject({ layer: 'slow' });
    expect(errors[0], 'the first error reported: Redis was late').toBeInstanceOf(LayerTimeoutError);
    expect(await reportedBy35Ms, 'errors reported after 35 ms: Redis may take 20 ms, and not 40').toBe(1);
  });

  test('a source that fails or hangs is an error, and not an absence', async () => {
    const stale = memory('stale');
    stale.map.set('a', { value: 'a while ago', expiresAt: Date.now() - 1 });
    const refused = new Error('connect ECONNREFUSED');
    const failing: Source = { ...QUIET, name: 'mysql', get: () => Promise.reject(refused) };
    expect(
      await errorOf(createLookup([stale], failing)('a')),
      'the source failed, so nobody knows whether the key exists: its error',
    ).toBe(refused);
    const hanging: Source = { name: 'mysql', timeoutMs: 20, get: never };
    expect(
      await errorOf(createLookup([stale], hanging)('a')),
      'the source has 20 ms, and never answers: a LayerTimeoutError',
    ).toBeInstanceOf(LayerTimeoutError);
  });

  test('a fill that fails is reported, and stops neither the read nor another fill', async () => {
    const uncaught = unhandledRejections();
    const failures: string[] = [];
    const full = (name: string): Layer => ({
      ...memory(name),
      set: () => Promise.reject(new Error('OOM command not allowed')),
    });
    const healthy = memory('healthy');
    const lookup = createLookup([full('full'), healthy, full('full too')], sourceOf('a'), {
      onFailure: (layer) => failures.push(layer),
    });
    expect(
      await outcome(lookup('a')),
      'two caches refuse to store a, and the source has answered',
    ).toMatchObject({ layer: 'source' });
    await until(() => healthy.given.length > 0 && failures.length > 1);
    expect(healthy.given, 'keys stored in the healthy cache between the two').toEqual(['a']);
    expect(failures.sort(), 'caches reported: those that refused to store').toEqual(['full', 'full too']);
    expect(uncaught(), 'rejections that nobody has caught: they end the process').toEqual([]);
  });

  test('fills that hang hold up the read for one timeout at most', async () => {
    const errors: unknown[] = [];
    const stuck = Array.from({ length: 10 }, (_, at) => ({ ...memory(`stuck ${at}`, 40), set: never }));
    const lookup = createLookup(stuck, sourceOf('a'), { onFailure: (_, error) => errors.push(error) });
    // All waits are timers of this process: however slow the machine, 40 ms end before 250 ms.
    expect(
      await outcome(lookup('a'), 250),
      'the source has answered, and ten fills hang. Each has 40 ms: the read takes 40 ms at most, and not 400',
    ).toMatchObject({ layer: 'source' });
    await until(() => errors.length >= 10);
    expect(errors, 'errors reported: each of the ten fills was late').toEqual(
      stuck.map(() => expect.any(LayerTimeoutError)),
    );
  });

  test('a deadline leaves no timer behind', async () => {
    const failing: Layer = {
      ...memory('failing', HOUR_MS),
      get: () => Promise.reject(new Error('READONLY')),
    };
    const full: Layer = { ...memory('full', HOUR_MS), set: () => Promise.reject(new Error('OOM')) };
    const source = { ...sourceOf('a'), timeoutMs: HOUR_MS };
    const forgetful: Layer = { ...memory('forgetful', HOUR_MS), set: async () => {} };
    const lookup = createLookup([forgetful, failing, full], source);
    const before = timers();
    for (let reads = 0; reads < 20; reads++) {
      expect(await outcome(lookup('a')), 'one cache fails: the source must answer').toMatchObject({
        layer: 'source',
      });
    }
    await filled();
    expect(
      timers() - before,
      'timers left by 20 reads, of which each layer has answered or failed at once: a process that is done waits for them',
    ).toBeLessThan(10);
  });

  test('a value and its time left are read in one step', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const client = servers.connectRedis({}, proxy.url);
    const redis = redisLayer({ ...QUIET, redis: client, now: () => T0 });
    await client.ping();
    for (const lives of [
      [5_300, 60_700, 5_300, 60_700],
      [60_700, 5_300, 60_700, 5_300],
    ]) {
      // Before each request of the reader, another client replaces the key. Its value says how long it lives.
      proxy.schedule(async () => {
        const ms = lives.shift();
        if (ms) await servers.redis.set('k', String(ms), 'PX', ms);
      });
      const entry = await redis.get('k');
      proxy.schedule();
      expect(
        (entry?.expiresAt ?? 0) - T0,
        `ms left of the value that lives for ${entry?.value} ms: another client replaced it between two requests`,
      ).toBeLessThanOrEqual(Number(entry?.value));
    }
  });

  test('a slow answer does not lengthen the life of a copy', async () => {
    const clock = fakeClock(T0);
    const proxy = await openProxy(servers.redisUrl);
    const redis = redisLayer({ ...QUIET, redis: servers.connectRedis({}, proxy.url), now: clock.now });
    await servers.redis.set('late', 'x', 'PX', 50_000);
    const request = proxy.hold(/\blate\b|^MULTI/i);
    const reading = redis.get('late');
    await request.arrived;
    clock.advance(4_500);
    request.release();
    const leftMs = ((await reading)?.expiresAt ?? 0) - T0;
    expect(
      leftMs,
      'ms from the question to the deadline: Redis drops the key 50 s after it, and its answer took 4.5 s',
    ).toBeLessThanOrEqual(50_000);
    expect(leftMs, 'ms from the question to the deadline: the key has 50 s left').toBeGreaterThan(40_000);
  });

  test('the time left reaches Redis in whole milliseconds, or not at all', async () => {
    const redis = redisLayer({ ...QUIET, redis: servers.redis, now: () => T0 });
    const store = (key: string, leftMs: number) =>
      outcome(redis.set(key, { value: 'x', expiresAt: T0 + leftMs }));
    expect(
      await store('copy', 14_500.9),
      'storing a copy with 14,500.9 ms left: Redis refuses a fraction',
    ).toBeUndefined();
    expect(await servers.redis.pttl('copy'), 'ms to live of a copy with 14,500.9 ms left').toBeGreaterThan(
      10_000,
    );
    for (const leftMs of [0.4, 0, -1]) {
      expect(
        await store('gone', leftMs),
        `storing a copy with ${leftMs} ms left: there is nothing to store, and nothing has failed`,
      ).toBeUndefined();
    }
    expect(await servers.redis.exists('gone'), 'keys stored with no time left').toBe(0);
  });

  test('a rate or a latency that cannot be is refused', () => {
    for (const hitRate of [90, 1.01, -0.1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(
        refusalOf({ name: 'cdn', hitRate, latencyMs: 1 }),
        `a hit rate of ${hitRate} must be refused with RangeError: a rate is from 0 to 1, and 0 hits of 0 are not a rate`,
      ).toBeInstanceOf(RangeError);
    }
    for (const latencyMs of [-1, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(
        refusalOf({ name: 'cdn', hitRate: 0.9, latencyMs }),
        `a latency of ${latencyMs} ms must be refused with RangeError: it spoils the sum without a trace`,
      ).toBeInstanceOf(RangeError);
    }
  });
});

const QUIET = { timeoutMs: 4000 };

const inAnHour = (value: string): Entry => ({ value, expiresAt: Date.now() + HOUR_MS });

const never = () => new Promise<never>(() => {});

/** A layer in memory that notes the keys it is asked for and given. */
function memory(name: string, timeoutMs = QUIET.timeoutMs) {
  const map = new Map<string, Entry>();
  const asked: string[] = [];
  const given: string[] = [];
  return {
    name,
    timeoutMs,
    map,
    asked,
    given,
    async get(key: string): Promise<Entry | undefined> {
      asked.push(key);
      return map.get(key);
    },
    async set(key: string, entry: Entry): Promise<void> {
      given.push(key);
      map.set(key, entry);
    },
  };
}

const mysql = () => productSource({ db: servers.db, ttlMs: 60_000, timeoutMs: QUIET.timeoutMs });

/** A source in memory that has one key. */
function sourceOf(key: string): Source {
  const source = memory('source');
  source.map.set(key, inAnHour(`${key} of the source`));
  return source;
}

/** Redis behind a proxy, and a lookup through it. The connection is up. */
async function redisAbove(source: Source, { timeoutMs = 4000, below = [] as readonly Layer[] } = {}) {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({ enableOfflineQueue: true, retryStrategy: () => null }, proxy.url);
  await redis.ping();
  const [failures, errors]: [string[], unknown[]] = [[], []];
  const lookup = createLookup([redisLayer({ redis, timeoutMs }), ...below], source, {
    onFailure(layer, error) {
      failures.push(layer);
      errors.push(error);
    },
  });
  return { proxy, redis, lookup, failures, errors };
}

/** Waits for fills of these caches, which the reader need not wait for; and for those that should not be. */
async function filled(...caches: readonly { readonly given: readonly string[] }[]) {
  await until(() => caches.every(({ given }) => given.length > 0));
  await new Promise((resolve) => setImmediate(resolve));
}

/** What a promise rejects with, or a text where it does not. */
const errorOf = (promise: Promise<unknown>) =>
  soon(
    promise.then(
      (value) => `resolved: ${JSON.stringify(value)}`,
      (error: unknown) => error,
    ),
  );

/** What `predict` throws, or its result. */
function refusalOf(layer: LayerStats): unknown {
  try {
    return predict([layer]);
  } catch (error) {
    return error;
  }
}

/** Timers that keep this process alive. */
const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
