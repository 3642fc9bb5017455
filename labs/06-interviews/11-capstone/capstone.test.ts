import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis, RedisOptions } from 'ioredis';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { leave } from '#kit/faulty-redis';
import { DeadlineError } from '#kit/given';
import { begun, countedLoad, heldLoad } from '#kit/loads';
import { startProcesses } from '#kit/processes';
import { openProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import { createCache } from './capstone';
import subjectFile from './capstone?file';
import { type Cache, type Options, PendingInvalidationError, type Policy, valueKey } from './given';

const servers = useServers();

const NAME = 'shop';
const POLICY = { ttlMs: 60_000 };
const OLD = { name: 'old', parts: ['a'] };
const NEW = { name: 'new', parts: ['b'] };

describe('Core', () => {
  test('a value is loaded once, and a hit gives what the miss gave', async () => {
    const { cache } = await openCache();
    const source = countedLoad(OLD);
    for (const call of ['first', 'second', 'third']) {
      expect(await soon(cache.get('mug', source.load, POLICY)), `value of the ${call} call`).toEqual(OLD);
    }
    expect(source.loads, 'loads for three calls of one key').toBe(1);
    expect(await cache.get('cup', countedLoad(NEW).load, POLICY), 'value of another key').toEqual(NEW);
  });

  test('null, 0, false and an empty text are values, and undefined is refused', async () => {
    const { cache } = await openCache();
    for (const value of [null, 0, false, '']) {
      const key = `key of ${JSON.stringify(value)}`;
      const source = countedLoad(value);
      for (let call = 0; call < 3; call++) {
        expect(await soon(cache.get(key, source.load, POLICY)), `value of ${key}`).toBe(value);
      }
      expect(source.loads, `loads for three calls of ${key}`).toBe(1);
    }
    const nothing = countedLoad(undefined);
    expect(
      await rejectionOf(() => cache.get('undefined', nothing.load, POLICY)),
      'the end of a call whose source gives undefined, which JSON cannot hold',
    ).toBeInstanceOf(TypeError);
  });

  test('a value is loaded again after its TTL', async () => {
    const { cache } = await openCache();
    await cache.get('mug', countedLoad(OLD).load, { ttlMs: 30 });
    await sleep(50);
    expect(
      await soon(cache.get('mug', countedLoad(NEW).load, { ttlMs: 30 })),
      'value 50 ms after a fill with ttlMs 30',
    ).toEqual(NEW);
  });

  test('after an invalidation the next call loads', async () => {
    const { cache } = await openCache();
    for (const key of ['mug', 'cup']) await cache.get(key, countedLoad(OLD).load, POLICY);
    await cache.invalidate('mug');
    expect(await soon(cache.get('mug', countedLoad(NEW).load, POLICY)), 'value after invalidate').toEqual(
      NEW,
    );
    expect(
      await soon(cache.get('cup', countedLoad(NEW).load, POLICY)),
      'value of a key that was not invalidated',
    ).toEqual(OLD);
  });

  test('a tag invalidates all values that have it, and no other', async () => {
    const { cache } = await openCache();
    const tagsOf = { mug: ['shop', 'red'], cup: ['red'], pot: ['blue', 'shop'], jug: [] };
    for (const [key, tags] of Object.entries(tagsOf)) {
      await cache.get(key, countedLoad(OLD).load, { ...POLICY, tags });
    }
    await cache.invalidateTag('red');
    const seen: Record<string, unknown> = {};
    for (const [key, tags] of Object.entries(tagsOf)) {
      seen[key] = await soon(cache.get(key, countedLoad(NEW).load, { ...POLICY, tags }));
    }
    expect(seen, 'values after invalidateTag(red): mug and cup have the tag').toEqual({
      mug: NEW,
      cup: NEW,
      pot: OLD,
      jug: OLD,
    });
  });

  test('calls that come together share one load, or its failure, and the next call loads again', async () => {
    const { cache } = await openCache();
    const source = heldLoad(OLD);
    const calls = Array.from({ length: 20 }, () => outcome(cache.get('mug', source.load, POLICY)));
    await begun(source, Promise.all(calls));
    source.fail(new Error('the source is down'));
    expect(new Set(await Promise.all(calls)), 'answers of 20 calls whose load fails').toEqual(
      new Set(['rejected: Error: the source is down']),
    );
    expect(source.loads, 'loads for 20 calls that came together').toBe(1);
    expect(
      await outcome(cache.get('mug', countedLoad(NEW).load, POLICY)),
      'the call after a load that failed',
    ).toEqual(NEW);
  });
});

describe('In production', () => {
  test('a thousand readers in several processes cost one load', async () => {
    const inThisProcess = [await openCache(), await openCache()];
    const args = { url: servers.redisUrl, name: NAME, readers: 400 };
    const [peer] = await startProcesses<Subject, typeof args, number>(
      1,
      subjectFile,
      args,
      async ({ subject, args: { url, name, readers }, tell, Redis }) => {
        const own = new Redis(url);
        const connections = [own];
        const connect = (options: RedisOptions) => {
          const redis = new Redis(url, options);
          connections.push(redis);
          return redis;
        };
        const deadlines = { loadDeadlineMs: 9_000, redisDeadlineMs: 9_000 };
        const cache = subject.createCache({ name, connect, onError: () => {}, ...deadlines });
        const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
        while (connections.some(({ status }) => status !== 'ready')) await pause(2);
        tell('connected');
        const load = async () => {
          const loads = await own.incr('loads');
          while (Number(await own.get('asked')) < 2) await pause(2);
          await pause(30);
          return loads;
        };
        const calls = Array.from({ length: readers }, () => cache.get('mug', load, { ttlMs: 60_000 }));
        await own.incr('asked');
        const values = await Promise.all(calls);
        for (const redis of connections) redis.disconnect();
        return Math.max(...values);
      },
    );
    await peer?.heard('connected');
    const load = async () => {
      const loads = await servers.redis.incr('loads');
      await until(async () => Number(await servers.redis.get('asked')) === 2);
      await sleep(30);
      return loads;
    };
    const calls = inThisProcess.flatMap(({ cache }) =>
      Array.from({ length: 300 }, () => cache.get('mug', load, POLICY)),
    );
    await servers.redis.incr('asked');
    const seen = await soon(Promise.all([peer?.result, ...calls]), 8_000);
    expect(Number(await servers.redis.get('loads')), 'loads of 1,000 readers that found nothing').toBe(1);
    const values = typeof seen === 'string' ? seen : [...new Set(seen)];
    expect(values, 'the loads whose value the readers saw').toEqual([1]);

    const { value, questions } = await waitsFor100Ms();
    expect(value, 'value of a reader that has waited for the load of another process').toEqual(OLD);
    expect(questions, 'commands in Redis while a reader waits 100 ms: there must be pauses').toBeLessThan(
      200,
    );
  });

  test('a value in use is refreshed, and no reader waits for it', async () => {
    const unhandled = unhandledRejections();
    const [first, second] = [await openCache(), await openCache()];
    const caches = [first, second];
    let loads = 0;
    const load = async () => {
      const load = { number: ++loads, begunAt: performance.now() };
      await sleep(10);
      return load;
    };
    const policy = { ttlMs: 40, staleMs: 60_000 };
    await first.cache.get('mug', load, policy);
    const began = performance.now();
    const waits = await Promise.all(
      [...caches, ...caches, ...caches].map((each) => reader(each, load, policy)),
    );
    const refreshes = loads - 1;
    expect(
      Math.max(...waits),
      'reads that waited for a load: the value before it is less than staleMs old',
    ).toBe(0);
    expect(refreshes, 'refreshes in 250 ms, with ttlMs 40').toBeGreaterThan(0);
    expect(
      refreshes,
      'refreshes: one in ttlMs (less a tenth) over all processes, which is 36 ms',
    ).toBeLessThanOrEqual((performance.now() - began) / 36 + 1);

    const failing = async () => {
      loads++;
      throw new Error('the source is down');
    };
    loads = 0;
    await until(async () => {
      await outcome(first.cache.get('mug', failing, policy));
      return loads > 0;
    });
    for (const { cache } of [...caches, ...caches]) {
      expect(await outcome(cache.get('mug', failing, policy)), 'a stale value').toBeTypeOf('object');
    }
    expect(loads, 'loads while a refresh that has failed has its lease').toBe(1);
    expect(first.errors.map(String), 'the errors that onError got').toEqual(['Error: the source is down']);
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);

    await second.cache.get('pan', countedLoad(OLD).load, { ttlMs: 60, staleMs: 60_000 });
    await until(() => first.heard(valueKey(NAME, 'pan')));
    const read = () => look(first.cache, 'pan', { ttlMs: 60_000, staleMs: 60_000 });
    await read();
    await sleep(70);
    expect(
      (await servers.work(read)).redis(),
      'commands sent to Redis for a read 70 ms after a fill with ttlMs 60: L1 keeps what is left of the TTL',
    ).toBeGreaterThan(0);
  });

  test('a load that an invalidation overtakes, by key or by tag, is neither stored nor joined', async () => {
    const [{ cache }, other] = [await openCache(), await openCache()];
    const policy = { ...POLICY, tags: ['red', 'shop'] };
    const byKey = { name: 'invalidate', invalidate: () => other.cache.invalidate('mug') };
    const byTag = { name: 'invalidateTag', invalidate: () => other.cache.invalidateTag('shop') };
    const overtaken = [byKey, byTag].flatMap((each) => [true, false].map((joins) => ({ ...each, joins })));
    for (const { name, invalidate, joins } of overtaken) {
      await cache.invalidate('mug');
      const source = heldLoad(OLD);
      const early = cache.get('mug', source.load, policy);
      await begun(source, early);
      await invalidate();
      if (joins) {
        expect(
          await outcome(look(cache, 'mug', policy)),
          `value of a call that began after ${name}, while the load from before it is under way`,
        ).toEqual(NEW);
      }
      source.end();
      await early;
      for (const each of [cache, other.cache]) {
        expect(
          await outcome(look(each, 'mug', policy)),
          `value after ${name}, when the old load has ended`,
        ).toEqual(NEW);
      }
    }
  });

  test('a read of Redis that an invalidation overtakes is not kept in L1', async () => {
    const [tiers, other] = [await openCache(), await openCache()];
    await keptInL1(tiers, 'pot');
    await other.cache.get('mug', countedLoad(OLD).load, POLICY);
    const before = await scriptCalls();
    for (const { stream } of tiers.stores()) stream.pause();
    const reading = outcome(look(tiers.cache, 'mug', POLICY), 3_000);
    await until(async () => (await scriptCalls()) > before);
    await other.cache.invalidate('mug');
    await until(() => tiers.heard(valueKey(NAME, 'mug')));
    for (const { stream } of tiers.stores()) stream.resume();
    await reading;
    expect(
      await look(tiers.cache, 'mug', POLICY),
      'value after a read whose answer left Redis before the invalidation, and came after its message',
    ).toEqual(NEW);
  });

  test('while Redis stalls or is gone a call gets its value from the source', async () => {
    const unhandled = unhandledRejections();
    const { cache, proxy } = await openCache({ redisDeadlineMs: 60 });
    for (const fault of ['stall', 'refuse'] as const) {
      await proxy[fault]();
      const source = heldLoad(NEW);
      const firstAt = performance.now();
      const calls = Array.from({ length: 20 }, () => outcome(cache.get(fault, source.load, POLICY)));
      const ofAnotherKey = outcome(cache.get(`${fault} 2`, countedLoad(OLD).load, POLICY));
      const spreadMs = performance.now() - firstAt;
      await begun(source, Promise.all(calls));
      // The deadlines of the calls end as they began: within that time.
      await sleep(spreadMs + 10);
      source.end();
      expect(await Promise.all(calls), `answers of 20 calls (${fault})`).toEqual(calls.map(() => NEW));
      expect(source.loads, `loads for 20 calls that came together (${fault})`).toBeLessThan(10);
      expect(await ofAnotherKey, `value of another key, at the same time (${fault})`).toEqual(OLD);
      expect(
        await outcome(cache.get(fault, countedLoad(OLD).load, POLICY)),
        `value of a call after them: nothing that was loaded in the outage is kept (${fault})`,
      ).toEqual(OLD);
      await proxy.heal();
      const later = countedLoad(OLD);
      let before = -1;
      await until(async () => {
        before = later.loads;
        await outcome(cache.get(fault, later.load, POLICY));
        return later.loads === before;
      });
      expect(later.loads - before, `loads for a call, a second after the end of the outage (${fault})`).toBe(
        0,
      );
    }
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);
  });

  test('an invalidation during an outage is not reported as done, and not lost', async () => {
    const unhandled = unhandledRejections();
    const [own, other] = [await openCache({ redisDeadlineMs: 60 }), await openCache()];
    const { cache, proxy } = own;
    const policy = { ...POLICY, tags: ['red'] };
    for (const [key, what] of [
      ['mug', 'invalidate'],
      ['cup', 'invalidateTag'],
    ] as const) {
      for (const each of [cache, other.cache, cache]) await each.get(key, countedLoad(OLD).load, policy);
      await proxy.refuse();
      const early = heldLoad(OLD);
      const reading = outcome(cache.get('pot', early.load, policy), 3_000);
      await begun(early, reading);
      expect(
        await soon(rejectionOf(() => cache[what](what === 'invalidate' ? key : 'red'))),
        `the end of ${what}: Redis has not confirmed it`,
      ).toBeInstanceOf(PendingInvalidationError);
      if (what === 'invalidateTag') {
        expect(
          await outcome(look(cache, 'pot', policy)),
          'value of a call in the outage, after the invalidation: it must not join a load from before it',
        ).toEqual(NEW);
      }
      early.end();
      await reading;
      const seen = [await look(cache, key, policy)];
      await proxy.heal();
      for (let reads = 0; reads < 30; reads++) {
        seen.push(await look(cache, key, policy));
        await sleep(2);
      }
      expect(
        seen.filter(({ name }) => name !== NEW.name),
        `old values that this process has given after ${what}, during the outage and after it`,
      ).toEqual([]);
      await until(async () => (await look(other.cache, key, policy)).name === NEW.name);
      expect(
        await look(other.cache, key, policy),
        `value in another process, a second after Redis has come back (${what})`,
      ).toEqual(NEW);
    }
    expect(String(await closeWithPending(own, 'away')), 'close, which loses an invalidation').toMatch(
      /PendingInvalidationError/,
    );
    expect(await closeWithPending(other, 'back'), 'close, when Redis is back: its last try').toBe(undefined);
    await until(() => other.connections.every(({ status }) => status === 'end'));
    expect(
      other.connections.map(({ status }) => status),
      'connections a second after close: an open one keeps the process alive',
    ).toEqual(['end', 'end']);
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);
  });

  test('L1 answers while its channel lives, and is flushed when the channel was down', async () => {
    const [tiers, other] = [await openCache({ maxKeys: 3 }), await openCache()];
    await keptInL1(tiers, 'mug');
    await other.cache.invalidate('mug');
    await until(async () => (await look(tiers.cache, 'mug', POLICY)).name === NEW.name);
    expect(
      await look(tiers.cache, 'mug', POLICY),
      'value a second after an invalidation by another process: a message has come',
    ).toEqual(NEW);

    for (const key of ['cup', 'jug']) await keptInL1(tiers, key);
    tiers.channelProxy.stall();
    tiers.channelProxy.cut();
    await until(() => tiers.connections.some(({ status }) => status === 'connect'));
    for (const key of ['cup', 'jug']) {
      await look(tiers.cache, key, POLICY);
      await other.cache.invalidate(key);
    }
    expect(
      await look(tiers.cache, 'cup', POLICY),
      'value after an invalidation by another process, while the channel is down',
    ).toEqual(NEW);
    await tiers.channelProxy.heal();
    await keptInL1(tiers, 'pot');
    for (const key of ['cup', 'jug']) {
      expect(await look(tiers.cache, key, POLICY), 'value when the channel is there again').toEqual(NEW);
    }

    const keys = ['cup', 'jug', 'pot', 'mug'];
    for (const key of keys) await keptInL1(tiers, key);
    const fourHits = () => Promise.all(keys.map((key) => look(tiers.cache, key, POLICY)));
    expect(
      (await servers.work(fourHits)).redis(),
      'commands sent to Redis for hits of four keys, with maxKeys 3',
    ).toBeGreaterThan(0);

    await keptInL1(tiers, 'pan');
    tiers.channelProxy.stall();
    await other.cache.invalidate('pan');
    const clock = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => clock() + 6_000);
    const seen = await outcome(look(tiers.cache, 'pan', POLICY));
    vi.restoreAllMocks();
    expect(seen, 'value when the process was paused for 6 s, and its socket with it').toEqual(NEW);
  });

  test('a load that hangs ends with its deadline, and does not poison its key', async () => {
    const [{ cache, proxy }, patient] = [await openCache({ loadDeadlineMs: 60 }), await openCache()];
    let aborted = false;
    const hanging = (signal: AbortSignal) => {
      signal.addEventListener('abort', () => {
        aborted = true;
      });
      return new Promise<never>(() => {});
    };
    const [first, second] = ['first', 'second'].map(() =>
      rejectionOf(() => cache.get('mug', hanging, POLICY)),
    );
    for (const call of [first, second]) {
      expect(await soon(Promise.resolve(call)), 'the end of a call whose load never ends').toBeInstanceOf(
        DeadlineError,
      );
    }
    await until(() => aborted);
    expect(aborted, 'whether the signal of the load was aborted').toBe(true);
    expect(
      await outcome(cache.get('mug', countedLoad(NEW).load, POLICY)),
      'the call after a load that hung: it must load',
    ).toEqual(NEW);
    expect(await outcome(look(cache, 'mug', POLICY)), 'the call after that: the value was stored').toEqual(
      NEW,
    );
    const source = heldLoad(OLD);
    const holding = patient.cache.get('jug', source.load, POLICY);
    await begun(source, holding);
    expect(
      await soon(rejectionOf(() => cache.get('jug', hanging, POLICY))),
      'the end of a call that has waited for the load of another process: it has a deadline too',
    ).toBeInstanceOf(DeadlineError);
    source.end();
    await holding;
    await proxy.refuse();
    expect(
      await soon(rejectionOf(() => cache.get('cup', hanging, POLICY))),
      'the end of a call whose load never ends, while Redis is gone',
    ).toBeInstanceOf(DeadlineError);
  });

  test('bytes that are not JSON are reported, loaded again and replaced', async () => {
    await (await openCache()).cache.get('mug', countedLoad(OLD).load, POLICY);
    const redisKey = valueKey(NAME, 'mug');
    const good = await servers.redis.getBuffer(redisKey);
    const head = good?.subarray(0, good.indexOf('\n') + 1) ?? Buffer.of();
    const notUtf8 = Buffer.from('fffe00', 'hex');
    for (const bytes of [Buffer.from('<html>'), notUtf8, Buffer.concat([head, notUtf8])]) {
      await servers.redis.set(redisKey, bytes, 'PX', 60_000);
      const { cache, errors } = await openCache();
      const says = `the entry is ${JSON.stringify(String(bytes))}`;
      expect(await outcome(cache.get('mug', countedLoad(NEW).load, POLICY)), says).toEqual(NEW);
      expect(errors.length, `calls of onError: ${says}`).toBeGreaterThan(0);
      expect(await outcome(look((await openCache()).cache, 'mug', POLICY)), `the next call: ${says}`).toEqual(
        NEW,
      );
    }
  });

  test('a value that one caller changes stays as it was for all others', async () => {
    const [tiers, other] = [await openCache(), await openCache()];
    const source = heldLoad(structuredClone(OLD));
    const calls = [1, 2].map(() => tiers.cache.get('mug', source.load, POLICY));
    await begun(source, Promise.all(calls));
    source.end();
    const [first, second] = await Promise.all(calls);
    change(first);
    expect(second, 'the value of a call, after a call that shared its load has changed its own').toEqual(OLD);
    for (const { cache } of [other, tiers, tiers]) {
      await keptInL1({ ...tiers, cache }, 'mug').catch(() => {});
      change(await look(cache, 'mug', POLICY));
      expect(
        await look(cache, 'mug', POLICY),
        'the value of a hit, after the hit before it was changed',
      ).toEqual(OLD);
    }
  });
});

type Subject = { readonly createCache: (options: Options) => Cache };
type Opened = Awaited<ReturnType<typeof openCache>>;

/** A cache, as one of several processes has it. Its channel has a proxy of its own. */
async function openCache(options: Partial<Options> = {}) {
  const [proxy, channelProxy] = [await openProxy(servers.redisUrl), await openProxy(servers.redisUrl)];
  const connections: Redis[] = [];
  const errors: unknown[] = [];
  const heard = new Set<string>();
  const connect = (own: RedisOptions) => {
    const { url } = own.connectionName === 'channel' ? channelProxy : proxy;
    const redis = servers.connectRedis({ retryStrategy: () => 5, ...own }, url);
    nameRequests(redis, own.connectionName ?? 'your code');
    redis.on('messageBuffer', (_channel: Buffer, keys: unknown) => {
      if (Array.isArray(keys)) for (const key of keys) heard.add(String(key));
    });
    connections.push(redis);
    return redis;
  };
  const cache = createCache({
    name: NAME,
    connect,
    onError: (error) => errors.push(error),
    redisDeadlineMs: 2_000,
    maxSilenceMs: 5_000,
    ...options,
  });
  onTestFinished(async () => {
    await outcome(cache.close(), 100);
    for (const redis of connections) leave(redis);
  });
  await untilReady(connections);
  return {
    cache,
    proxy,
    channelProxy,
    connections,
    errors,
    stores: () => connections.filter(({ options }) => options.connectionName !== 'channel'),
    /** Whether a message about this key of Redis has come. */
    heard: (redisKey: string) => heard.has(redisKey),
  };
}

/** A channel that is subscribed answers no command that the kit's `connected` sends. */
const untilReady = (connections: readonly Redis[]): Promise<void> =>
  until(() => connections.every(({ status }) => status === 'ready'));

/** What the cache gives for a key whose source says NEW by now. */
const look = (cache: Cache, key: string, policy: Policy) => cache.get(key, async () => NEW, policy);

/** How many commands and scripts Redis has executed for caches: GET counts too, for one without scripts. */
async function scriptCalls(): Promise<number> {
  const stats = await servers.redis.info('commandstats');
  const calls = stats.matchAll(/^cmdstat_(?:eval|evalsha|get|mget|exec):calls=(\d+)/gm);
  return Array.from(calls, ([, count]) => Number(count)).reduce((sum, count) => sum + count, 0);
}

/** What a reader gets that waits for the load of another process, and how often it asks Redis meanwhile. */
async function waitsFor100Ms() {
  const [holder, waiter] = [await openCache(), await openCache()];
  const source = heldLoad(OLD);
  const holding = holder.cache.get('cup', source.load, POLICY);
  await begun(source, holding);
  const before = await scriptCalls();
  const waiting = outcome(look(waiter.cache, 'cup', POLICY));
  await sleep(100);
  const questions = (await scriptCalls()) - before;
  source.end();
  await holding;
  return { value: await waiting, questions };
}

/** Reads until L1 answers. */
async function keptInL1({ cache }: Pick<Opened, 'cache'>, key: string): Promise<void> {
  const source = countedLoad(OLD);
  const asks = async () => (await servers.work(() => cache.get(key, source.load, POLICY))).redis();
  await until(async () => (await asks()) === 0);
  expect(await asks(), `commands sent to Redis for a hit of ${key}: L1 must have it within a second`).toBe(0);
}

/** Reads for 250 ms. Says how many of its reads have waited for a load. */
async function reader({ cache }: Opened, load: () => Promise<{ begunAt: number }>, policy: Policy) {
  let waited = 0;
  for (const began = performance.now(); performance.now() - began < 250; await sleep(2)) {
    const askedAt = performance.now();
    const value = await cache.get('mug', load, policy);
    if (value.begunAt > askedAt) waited++;
  }
  return waited;
}

/** How `close` ends with an invalidation that Redis has not confirmed, while Redis is away or back again. */
async function closeWithPending({ cache, proxy, connections }: Opened, redis: 'away' | 'back') {
  await proxy.refuse();
  await rejectionOf(() => cache.invalidate('mug'));
  if (redis === 'back') {
    await proxy.heal();
    await untilReady(connections);
  }
  return outcome(cache.close());
}

function change(value: unknown): void {
  try {
    Object.assign(Object(value), { name: 'changed' });
  } catch {
    // It cannot be changed.
  }
  try {
    Object(value).parts.push('changed');
  } catch {
    // Nor can its parts.
  }
}
