import { expect, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { soon } from '#kit/waiting';
import {
  createLookup,
  type Entry,
  type Layer,
  LayerTimeoutError,
  mapLayer,
  predict,
  productSource,
  redisLayer,
  type Source,
} from './layers';

const servers = useServers('products');

const T0 = 1_700_000_000_000;
const MUG = 'Enamel mug, 350 ml';
/** Whatever stores product:1, but not its reading. */
const FILL = /^(SET|PSETEX|EVAL|EVALSHA)\b.*\bproduct:1\b.*Enamel/is;

test('the first layer that holds the key answers: those above are filled, those below are left alone', async () => {
  const map = new Map<string, Entry>();
  const below = recorder('below');
  const redis = redisLayer({ redis: servers.redis, timeoutMs: 2000 });
  const lookup = createLookup([mapLayer(map), redis, below], mysql());

  const cold = await lookup('product:1');
  await cold?.filled;
  expect(cold?.layer, 'the caches are empty: MySQL has to answer').toBe('mysql');
  expect(cold?.value, "the value is the source's, unchanged").toContain(MUG);
  expect(await servers.redis.get('product:1'), 'Redis missed and is above MySQL: fill it').toBe(cold?.value);
  expect(map.get('product:1')?.value, 'the Map missed too: fill every layer above').toBe(cold?.value);

  map.clear();
  const work = await servers.work(async () => {
    const warm = await lookup('product:1');
    await warm?.filled;
    expect(warm?.layer, 'Redis holds the key and is the first that does').toBe('redis');
  });
  expect(map.get('product:1')?.value, 'the Map is above Redis and missed: fill it from Redis').toBe(
    cold?.value,
  );
  expect(work.redis('set', 'psetex', 'setex'), 'Redis already has the entry: do not write it back').toBe(0);
  expect(work.sql('select'), 'Redis answered: MySQL must not be asked').toBe(0);
  expect(below.asked, 'Redis answered: the layers below it must not be asked').toHaveLength(1);
  expect(below.given, 'only layers above the one that answered are filled').toHaveLength(1);
});

test('a filled layer never outlives the one it was filled from', async () => {
  const clock = fakeClock(T0);
  const map = new Map<string, Entry>();
  const redis = redisLayer({ redis: servers.redis, timeoutMs: 2000, now: clock.now });
  const slow: Source = {
    name: 'slow',
    timeoutMs: 2000,
    async get(key) {
      const entry = { value: `${key} of the source`, expiresAt: clock.now() + 60_000 };
      clock.advance(45_000);
      return entry;
    },
  };
  const lookup = createLookup([mapLayer(map), redis], slow, { now: clock.now });

  await (await lookup('a'))?.filled;
  const left = await servers.redis.pttl('a');
  expect(left, 'the copy in Redis must expire by itself').toBeGreaterThan(0);
  expect(left, 'the entry had 15 s left when Redis was filled: set PX from what remains').toBeLessThanOrEqual(
    15_000,
  );

  await servers.redis.set('b', 'b of Redis', 'PX', 50_000);
  await (await lookup('b'))?.filled;
  const copy = map.get('b')?.expiresAt ?? 0;
  expect(copy, 'Redis holds b for 50 s more: the copy in the Map is alive').toBeGreaterThan(clock.now());
  expect(copy, 'Redis drops b in 50 s: its copy in the Map must be gone by then').toBeLessThanOrEqual(
    clock.now() + 50_000,
  );
  clock.advance(copy - clock.now());
  const again = await lookup('b');
  await again?.filled;
  expect(again?.layer, 'an entry at its deadline is a miss').toBe('redis');
  expect(
    map.get('b')?.expiresAt,
    'the Map held an entry past its deadline, so it missed: fill it again',
  ).toBeGreaterThan(clock.now());

  await servers.redis.set('c', 'c without a time to live');
  const endless = await lookup('c');
  expect(endless?.layer, 'a key without a deadline must not be copied: count it as a miss').toBe('slow');
});

test('a value is copied with its own time left', async () => {
  const clock = fakeClock(T0);
  const proxy = await openProxy(servers.redisUrl);
  const client = servers.connectRedis({}, proxy.url);
  const redis = redisLayer({ redis: client, timeoutMs: 4000, now: clock.now });
  await client.ping();

  for (const ttls of [
    [5_000, 60_000, 5_000, 60_000],
    [60_000, 5_000, 60_000, 5_000],
  ]) {
    // Before each request of the reader, whatever it is, the key is written: its value says how long it lives.
    proxy.schedule(async () => {
      const ttl = ttls.shift();
      if (ttl) await servers.redis.set('k', String(ttl), 'PX', ttl);
    });
    const entry = await redis.get('k');
    proxy.schedule();
    expect(
      (entry?.expiresAt ?? 0) - clock.now(),
      "a SET came between your two commands, and one value got the other's time: read both in one step",
    ).toBeLessThanOrEqual(Number(entry?.value ?? 0));
  }

  await servers.redis.set('k', 'slow to come', 'PX', 5_000);
  const first = proxy.hold(/\bk\b|^MULTI/i);
  const late = redis.get('k');
  await first.arrived;
  clock.advance(4_500);
  first.release();
  expect(
    ((await late)?.expiresAt ?? 0) - T0,
    'the answer took 4.5 s: read the clock before you ask, or the copy outlives the original by them',
  ).toBeLessThanOrEqual(5_000);

  const sent: string[] = [];
  const seen: number[] = [];
  proxy.schedule(async (request) => {
    sent.push(request);
    seen.push(await servers.redis.pttl('copy'));
  });
  const stored = await redis
    .set('copy', { value: 'x', expiresAt: clock.now() + 14_500.9 })
    .then(() => 'stored', String);
  proxy.schedule();
  seen.push(await servers.redis.pttl('copy'));
  expect(stored, 'Redis takes whole ms only: round down').toBe('stored');
  expect(
    seen,
    'a crash after the SET leaves a key for ever: value and time to live are one command',
  ).not.toContain(-1);
  expect(
    sent.join('\n'),
    '14 500.9 ms are left: send 14500, neither seconds nor a ms that the entry does not have',
  ).toMatch(/\b14500\b/);

  const written = await servers.work(async () => {
    for (const left of [0.5, 0, -1]) await redis.set('gone', { value: 'x', expiresAt: clock.now() + left });
  });
  expect(written.redis(), 'less than 1 ms is left: there is nothing to send').toBe(0);
  await servers.redis.lpush('list', 'not a text');
  expect(
    await redis.get('list').catch(() => 'rejected'),
    'an error in the reply (WRONGTYPE) is a failure, and no miss: nobody would ever hear of it',
  ).toBe('rejected');
});

test('a layer that fails is passed over', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const client = servers.connectRedis(
    { lazyConnect: true, enableOfflineQueue: false, retryStrategy: () => null },
    proxy.url,
  );
  const redis = spied(redisLayer({ redis: client, timeoutMs: 1000 }));
  const map = new Map<string, Entry>();
  const failures: string[] = [];
  const lookup = createLookup([mapLayer(map), redis], mysql(), {
    onFailure: (layer) => failures.push(layer),
  });
  await client.connect();
  await proxy.refuse();

  const found = await soon(lookup('product:1').catch((error: Error) => error.message));
  expect(found, 'Redis is down and MySQL is not: the read must not fail').toMatchObject({ layer: 'mysql' });
  await (await lookup('product:2'))?.filled;
  expect(map.get('product:2')?.value, 'the healthy layer is filled all the same').toContain('board');
  expect(failures, 'a failure that nobody hears of is never repaired: report it').toContain('redis');
  expect(redis.sets, 'Redis has just failed: a fill would queue another command on a broken connection').toBe(
    0,
  );

  const rude = recorder('rude');
  const throws: Layer = {
    ...rude,
    get() {
      throw new Error('before there was any promise');
    },
  };
  const told: string[] = [];
  const patient = createLookup([throws], mysql(), { onFailure: (layer) => told.push(layer) });
  const past = await patient('product:1').catch((error: Error) => error.message);
  expect(past, 'a cache that throws at once has failed like one that rejects').toMatchObject({
    layer: 'mysql',
  });
  expect([told, rude.given], 'a cache that throws at once is reported, and not filled').toEqual([
    ['rude'],
    [],
  ]);

  const unheard = createLookup([throws], mysql(), {
    onFailure() {
      throw new Error('the log is down too');
    },
  });
  const still = await unheard('product:1').catch((error: Error) => error.message);
  expect(still, 'onFailure threw: that must not fail the read').toMatchObject({ layer: 'mysql' });
});

test('a layer that hangs is passed over when its time is up', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const client = servers.connectRedis({ lazyConnect: true }, proxy.url);
  const redis = spied(redisLayer({ redis: client, timeoutMs: 20 }));
  const failures: unknown[] = [];
  const lookup = createLookup([redis], inMemory(), { onFailure: (_, error) => failures.push(error) });
  await client.connect();
  proxy.blackHole();

  // Both waits are timers of this process: however slow the machine, 20 ms end before 150 ms.
  const found = await soon(
    lookup('a').catch((error: Error) => error.message),
    150,
  );
  expect(found, 'Redis does not answer and never will: stop waiting after its timeoutMs').toMatchObject({
    layer: 'source',
  });
  expect(failures[0], 'a late layer is reported as such').toBeInstanceOf(LayerTimeoutError);
  expect(redis.sets, 'Redis has just hung: a fill would queue another command behind those that wait').toBe(
    0,
  );

  const prompt = createLookup([recorder('prompt')], inMemory());
  const before = timers();
  for (let i = 0; i < 20; i++) await (await prompt('a'))?.filled;
  await new Promise((resolve) => setImmediate(resolve));
  expect(timers() - before, '20 reads were in time: clear the timer of a deadline that was met').toBeLessThan(
    10,
  );
});

test('a fill is not waited for, and its failure stays its own', async () => {
  const proxy = await openProxy(servers.redisUrl);
  const client = servers.connectRedis({}, proxy.url);
  const redis = redisLayer({ redis: client, timeoutMs: 10_000 });
  const full: Layer = { ...recorder('full'), set: () => Promise.reject(new Error('OOM')) };
  const throws: Layer = {
    ...recorder('throws'),
    set() {
      throw new Error('before there was any promise');
    },
  };
  const stuck: Layer = { ...recorder('stuck'), timeoutMs: 20, set: () => new Promise(() => {}) };
  const failures: string[] = [];
  const lookup = createLookup([full, throws, stuck, redis], mysql(), {
    onFailure(layer) {
      failures.push(layer);
      throw new Error('the log is down too');
    },
  });

  // The read does not need the fill: it has ended by the time that the wire sees the SET.
  const gate = proxy.hold(FILL);
  const found = await Promise.race([
    lookup('product:1'),
    gate.arrived.then(
      () => new Promise<'still waiting'>((resolve) => setImmediate(resolve, 'still waiting')),
    ),
  ]);
  expect(found, 'the value is known: do not let the reader wait for the fills').toMatchObject({
    layer: 'mysql',
  });
  if (typeof found !== 'object') return;
  const filled = found.filled.then(() => 'ended', String);
  await Promise.race([gate.arrived, filled]);
  expect(await servers.redis.exists('product:1'), 'the SET is still held on the wire').toBe(0);
  gate.release();
  // Answered after the SET, on the same connection: only timers are left to wait for.
  await client.ping();

  const ended = await soon(filled, 150);
  expect(ended, 'filled resolves whatever fills and onFailure throw, each fill within its timeoutMs').toBe(
    'ended',
  );
  expect(await servers.redis.exists('product:1'), 'filled resolves after the last fill, not before').toBe(1);
  expect(failures.sort(), 'fills that failed are reported too').toEqual(['full', 'stuck', 'throws']);
});

test('the source has the last word: its failure is an error, its absence is not', async () => {
  const cache = recorder('cache');
  const map = new Map<string, Entry>([['stale', { value: 'a while ago', expiresAt: T0 - 1 }]]);
  const refused = new Error('connect ECONNREFUSED');
  const answers: Record<string, () => Promise<Entry | undefined>> = {
    dead: () => Promise.reject(refused),
    stale: () => Promise.reject(refused),
    late: () => new Promise(() => {}),
    absent: async () => undefined,
    brief: async () => ({ value: 'read slowly', expiresAt: T0 - 1 }),
  };
  const source: Source = { name: 'source', timeoutMs: 20, get: async (key) => answers[key]?.() };
  const lookup = createLookup([cache, mapLayer(map)], source, { now: () => T0 });
  const ask = (key: string) =>
    soon(
      lookup(key).catch((error: unknown) => error),
      150,
    );

  expect(await ask('dead'), 'undefined would be a lie: nobody knows. Throw the error of the source').toBe(
    refused,
  );
  expect(
    await ask('stale'),
    'what a cache holds past its deadline does not become true because the source is dead: throw',
  ).toBe(refused);
  expect(await ask('late'), 'a source that hangs ends in a LayerTimeoutError').toBeInstanceOf(
    LayerTimeoutError,
  );
  expect(await ask('absent'), 'the source answered that there is no such key: undefined').toBeUndefined();
  expect(cache.given, 'nothing was found, so there is nothing to fill with').toEqual([]);
  const brief = await lookup('brief');
  await brief?.filled;
  expect(brief?.value, "the source's entry is the truth even past its deadline").toBe('read slowly');
  expect(
    await ask('brief'),
    'no cache may serve an entry past its deadline: ask the source again',
  ).toMatchObject({
    layer: 'source',
  });
});

test('a miss pays for every layer that it went through', () => {
  const { effectiveMs } = predict([
    { name: 'map', hitRate: 0.5, latencyMs: 1 },
    { name: 'redis', hitRate: 0.5, latencyMs: 10 },
    { name: 'mysql', hitRate: 1, latencyMs: 100 },
  ]);
  expect(effectiveMs, 'all pay 1 ms, half of them 10 ms more, a quarter of them 100 ms more').toBeCloseTo(
    31,
    9,
  );

  const useless = predict([
    { name: 'useless', hitRate: 0, latencyMs: 5 },
    { name: 'mysql', hitRate: 1, latencyMs: 100 },
  ]);
  expect(useless.effectiveMs, 'a layer that never hits still costs its lookup').toBeCloseTo(105, 9);
});

test('a rate is a share of what reaches the layer, and the funnel sums to 1', () => {
  const { funnel, absent } = predict([
    { name: 'browser', hitRate: 0.4, latencyMs: 0 },
    { name: 'cdn', hitRate: 0.9, latencyMs: 30 },
    { name: 'redis', hitRate: 0.8, latencyMs: 3 },
    { name: 'mysql', hitRate: 0.75, latencyMs: 125 },
  ]);
  const served = funnel.map((share) => Number(share.served.toFixed(9)));
  const reached = funnel.map((share) => Number(share.reached.toFixed(9)));
  expect(reached, 'a layer is reached by what the layers above it missed').toEqual([1, 0.6, 0.06, 0.012]);
  expect(served, '90 % of the 60 % that reach the CDN are 54 % of the requests').toEqual([
    0.4, 0.54, 0.048, 0.009,
  ]);
  const sum = served.reduce((total, share) => total + share, absent);
  expect(sum, 'each request is answered once, or by nobody').toBeCloseTo(1, 9);
  expect(absent, 'what the last layer does not have is nowhere').toBeCloseTo(0.003, 9);

  const wrong = (hitRate: number, latencyMs: number) => () => predict([{ name: 'cdn', hitRate, latencyMs }]);
  for (const hitRate of [90, 1.01, -0.1, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(wrong(hitRate, 1), `a rate of ${hitRate} (a percentage, 0 of 0) is no share: refuse it`).toThrow(
      RangeError,
    );
  }
  for (const latencyMs of [-1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    expect(wrong(0.9, latencyMs), `a latency of ${latencyMs} ms is a mistake of the caller`).toThrow(
      RangeError,
    );
  }
});

const mysql = () => productSource({ db: servers.db, ttlMs: 60_000, timeoutMs: 2000 });

const inMemory = (): Source => ({
  name: 'source',
  timeoutMs: 2000,
  get: async (key) => ({ value: `${key} of the source`, expiresAt: Date.now() + 60_000 }),
});

/** Timers that keep this process alive. */
const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;

/** A cache that holds nothing and writes down what it is asked and given. */
function recorder(name: string) {
  const asked: string[] = [];
  const given: Entry[] = [];
  return {
    name,
    timeoutMs: 2000,
    asked,
    given,
    async get(key: string) {
      asked.push(key);
      return undefined;
    },
    async set(_key: string, entry: Entry) {
      given.push(entry);
    },
  };
}

/** The same layer, counting the fills. */
function spied(layer: Layer) {
  const spy = {
    name: layer.name,
    timeoutMs: layer.timeoutMs,
    sets: 0,
    get: (key: string) => layer.get(key),
    set(key: string, entry: Entry) {
      spy.sets++;
      return layer.set(key, entry);
    },
  };
  return spy;
}
