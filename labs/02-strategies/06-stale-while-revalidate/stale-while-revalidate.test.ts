import { setTimeout as sleep } from 'node:timers/promises';
import type { RedisOptions } from 'ioredis';
import type { RowDataPacket } from 'mysql2/promise';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { fakeClock } from '#kit/clock';
import { numberedLoads } from '#kit/loads';
import { startProcesses } from '#kit/processes';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { drained, type Struck, strikeAtEachStep } from '#kit/strikes';
import { outcome, unhandledRejections, until } from '#kit/waiting';
import { decode, encode, entryKey, LoadTimeoutError, lockKey, lockTtlMs, type Options } from './given';
import { createSwr } from './stale-while-revalidate';
import subjectFile from './stale-while-revalidate?file';

const servers = useServers('products');

const T0 = 1_700_000_000_000;
const SOFT_MS = 10_000;
const HARD_MS = 60_000;
const KEY = 'product:1';
const MUG = 'Enamel mug, 350 ml';
const STORES = /^(SET|SETEX|PSETEX|EVAL|EVALSHA|MULTI)\b.*swr:entry/is;

interface Product {
  readonly name: string;
  readonly updatedAt?: Date;
}

describe('Core', () => {
  test('a fresh value comes from Redis, without a load', async () => {
    const clock = fakeClock(T0);
    const swr = open(selectProduct, { now: clock.now });
    const loaded = await swr.get(KEY);
    expect(loaded, 'nothing is cached: get must load').toMatchObject({
      name: MUG,
      updatedAt: expect.any(Date),
    });
    await stored(KEY);
    clock.advance(SOFT_MS - 1);
    const work = await servers.work(async () => {
      expect(await swr.get(KEY), 'a hit must equal what was loaded').toEqual(loaded);
      await drained(servers.redis);
    });
    expect(work.sql('select'), 'SELECTs of the second get, 1 ms before the end of softTtlMs').toBe(0);
    const ttl = await servers.redis.pttl(entryKey(KEY));
    expect(ttl, 'ms to live: the entry must live for hardTtlMs').toBeGreaterThan(HARD_MS - 10_000);
    expect(ttl, 'ms to live: the entry must live for hardTtlMs').toBeLessThanOrEqual(HARD_MS);
    for (const value of [0, '', false, null]) {
      const key = `the value ${JSON.stringify(value)}`;
      const cache = open<unknown>(async () => value);
      expect(await cache.get(key), `load returns ${JSON.stringify(value)}: get must return it`).toBe(value);
      await drained(servers.redis);
      expect(await servers.redis.exists(entryKey(key)), `entries of ${key}: only undefined is missing`).toBe(
        1,
      );
    }
  });

  test('when the hard TTL is over, a reader waits for a load', async () => {
    const source = numberedLoads(servers);
    const swr = open(source.load, { softTtlMs: 10, hardTtlMs: 40, now: Date.now });
    await swr.get(KEY);
    await stored(KEY);
    await until(async () => (await servers.redis.exists(entryKey(KEY))) === 0);
    const answer = await outcome(swr.get(KEY));
    expect(answer, 'the entry has expired in Redis: get must return a newly loaded value').toMatchObject({
      name: 'load 2',
    });
  });

  test('readers of a missing value share one load', async () => {
    const source = numberedLoads(servers);
    const swr = open(source.load);
    const readers = await Promise.all(Array.from({ length: 20 }, () => swr.get(KEY)));
    expect(source.loads, 'loads for 20 readers that missed at the same time').toBe(1);
    expect(readers, 'each of the 20 readers must get the value').toEqual(Array(20).fill({ name: 'load 1' }));
    const two = await Promise.all([swr.get('product:2'), swr.get('product:3')]);
    expect(two, 'two keys that miss at the same time: each has a load of its own').toEqual([
      { name: 'load 2' },
      { name: 'load 3' },
    ]);
  });

  test('a stale value is returned at once', async () => {
    await cacheStale(KEY);
    const source = numberedLoads(servers);
    source.hold();
    const answer = await outcome(open(source.load).get(KEY));
    expect(answer, 'softTtlMs is over, and the load does not end: get must return the stale value').toEqual({
      name: 'stale',
    });
    await until(() => source.loads === 1);
    expect(source.loads, 'loads: the value is stale, so a load must have begun').toBe(1);
  });

  test('the readers of a stale value start one refresh, which is fresh again', async () => {
    const clock = fakeClock(T0);
    await cacheStale(KEY, 5_000);
    const source = numberedLoads(servers);
    const load = source.hold();
    const swr = open(source.load, { now: clock.now });
    const first = await outcome(swr.get(KEY));
    await until(() => source.loads === 1);
    const readers = [first, ...(await Promise.all(Array.from({ length: 20 }, () => outcome(swr.get(KEY)))))];
    expect(readers, 'while the refresh runs, all 21 readers must get the stale value').toEqual(
      Array(21).fill({ name: 'stale' }),
    );
    await drained(servers.redis);
    expect(source.loads, 'loads for 21 readers of a stale value').toBe(1);
    load.release();
    await until(async () => (await nameInRedis(KEY)) === 'load 1');
    clock.advance(SOFT_MS - 1);
    expect(await swr.get(KEY), 'the refresh has ended: get must return what it has loaded').toEqual({
      name: 'load 1',
    });
    await drained(servers.redis);
    expect(source.loads, 'loads: the refreshed value is fresh for softTtlMs').toBe(1);
    const ttl = await servers.redis.pttl(entryKey(KEY));
    const wanted = 'ms to live after the refresh: the new value lives for hardTtlMs';
    expect(ttl, wanted).toBeGreaterThan(HARD_MS - 10_000);
    expect(ttl, wanted).toBeLessThanOrEqual(HARD_MS);
  });

  test('another process sees in the entry how old it is', async () => {
    const clock = fakeClock(T0);
    const source = numberedLoads(servers);
    await open(source.load, { now: clock.now }).get(KEY);
    await stored(KEY);
    const other = open(source.load, { now: clock.now, redis: servers.connectRedis() });
    clock.advance(SOFT_MS - 1);
    await other.get(KEY);
    await drained(servers.redis);
    expect(source.loads, 'loads: the value is still fresh, whichever process has stored it').toBe(1);
    clock.advance(2);
    expect(await other.get(KEY), 'the value is stale: get must return it').toEqual({ name: 'load 1' });
    await until(() => source.loads === 2);
    expect(source.loads, 'loads: the value is stale, whichever process has stored it').toBe(2);
  });
});

describe('In production', () => {
  test('a failing refresh is reported, and leaves its readers and its entry alone', async () => {
    const unhandled = unhandledRejections();
    const down = new Error('connect ECONNREFUSED');
    const failures: Readonly<Record<string, (proxy: FaultyProxy) => Options<Product>['load']>> = {
      'load rejects': () => () => Promise.reject(down),
      'Redis does not answer to the lock': (proxy) => {
        proxy.hold(/swr:lock:/);
        return async () => ({ name: 'new' });
      },
      'Redis falls silent during the load': (proxy) => async () => {
        proxy.stall();
        return { name: 'new' };
      },
    };
    const scenes = Object.entries(failures).map(async ([failure, strike]) => {
      await cacheStale(failure, 5_000);
      const { proxy, redis } = await behindProxy(PATIENT);
      const errors: unknown[] = [];
      const swr = open(strike(proxy), {
        redis,
        cacheDeadlineMs: 150,
        onError: (error) => errors.push(error),
      });
      expect(await outcome(swr.get(failure)), `${failure}: the reader must get the stale value`).toEqual({
        name: 'stale',
      });
      await (failure === 'load rejects' ? drained(servers.redis) : until(() => errors.length > 0));
      expect(errors.length, `errors reported when ${failure}`).toBeGreaterThan(0);
      if (failure === 'load rejects') expect(errors, 'the error of load must be reported').toEqual([down]);
      expect(await nameInRedis(failure), `${failure}: the stale value must stay, it is all there is`).toBe(
        'stale',
      );
      expect(
        await servers.redis.pttl(entryKey(failure)),
        `ms to live, of 5,000 before: ${failure}, so nothing has confirmed the stale value`,
      ).toBeLessThanOrEqual(5_000);
    });
    await Promise.all(scenes);
    expect(unhandled(), 'unhandled rejections: nobody awaits a refresh, so it must not reject').toEqual([]);
  });

  test('after a failed refresh, no process tries again before the lock has expired', async () => {
    await cacheStale(KEY);
    let loads = 0;
    const load = async () => {
      loads++;
      throw new Error('connect ECONNREFUSED');
    };
    const here = open(load);
    const elsewhere = open(load, { redis: servers.connectRedis() });
    unhandledRejections();
    await outcome(here.get(KEY));
    await until(() => loads === 1);
    await drained(servers.redis);
    for (let read = 1; read <= 5; read++) {
      for (const swr of [here, elsewhere]) {
        expect(await outcome(swr.get(KEY)), 'until its hard end, get must return the stale value').toEqual({
          name: 'stale',
        });
      }
      await drained(servers.redis);
    }
    expect(loads, 'loads: the source has just failed, so it needs a pause').toBe(1);
    await servers.redis.del(lockKey(KEY));
    await outcome(here.get(KEY));
    await until(() => loads === 2);
    expect(loads, 'loads: the lock has expired, so a reader must start a refresh').toBe(2);
  });

  test('a deleted row stops being served', async () => {
    await cacheStale(KEY);
    let row: Product | undefined;
    const swr = open(async () => row);
    await swr.get(KEY);
    await drained(servers.redis);
    expect(
      await nameInRedis(KEY),
      'the entry: load has returned undefined, so the row is gone',
    ).toBeUndefined();
    row = { name: 'back again' };
    expect(await swr.get(KEY), 'undefined is not stored: get must load').toEqual(row);
  });

  // A process has to start, on a busy machine too.
  test('there is one refresh across processes, also for one that comes late', {
    timeout: 15_000,
  }, async () => {
    await cacheStale(KEY);
    const mysqlProxy = await openProxy(servers.mysqlUrl);
    const peer = await startPeer(mysqlProxy.url);
    // The process is up: a gate waits for 4 s only.
    const select = mysqlProxy.hold(/SELECT .* FROM products/i);
    await Promise.race([select.arrived, peer.result]);
    const source = numberedLoads(servers);
    const here = open(source.load);
    await outcome(Promise.all(Array.from({ length: 10 }, () => here.get(KEY))));
    await drained(servers.redis);
    expect(source.loads, 'loads of this process: another process is refreshing this value').toBe(0);
    select.release();
    expect(await outcome(peer.result, 4_000), 'loads of the other process, for 10 readers').toBe(1);

    await cacheStale(KEY);
    const { proxy, redis } = await behindProxy();
    const late = open(source.load, { redis });
    const lock = proxy.hold(/swr:lock:/);
    expect(
      await outcome(late.get(KEY)),
      'Redis has not answered to the lock yet: get must return the stale value',
    ).toEqual({ name: 'stale' });
    await Promise.race([lock.arrived, until(() => source.loads > 0)]);
    await here.get(KEY);
    await until(async () => (await nameInRedis(KEY)) !== 'stale');
    await drained(servers.redis);
    lock.release();
    await drained(redis);
    expect(
      source.loads,
      'loads: one process read the stale value, and gets the lock after another process has refreshed it',
    ).toBe(1);
    expect(await servers.redis.exists(lockKey(KEY)), 'locks: nothing was left to do').toBe(0);
  });

  test('the lock of a killed process expires by itself, and not too early', async () => {
    await cacheStale(KEY);
    const { proxy, redis } = await behindProxy();
    let bare: string | undefined;
    let previous = '';
    proxy.schedule(async (request) => {
      if (previous.includes('swr:lock:') && (await servers.redis.pttl(lockKey(KEY))) === -1) bare ??= request;
      previous = request;
    });
    const source = numberedLoads(servers);
    const load = source.hold();
    const deadlines = { loadDeadlineMs: 40_000, cacheDeadlineMs: 5_000 };
    await outcome(open(source.load, { redis, ...deadlines }).get(KEY));
    await until(() => source.loads === 1);
    const ttl = await servers.redis.pttl(lockKey(KEY));
    const wanted = lockTtlMs(deadlines);
    expect(ttl, 'ms to live of the lock during a refresh: it must live for lockTtlMs').toBeGreaterThan(
      wanted - 5_000,
    );
    expect(ttl, 'ms to live of the lock during a refresh: it must live for lockTtlMs').toBeLessThanOrEqual(
      wanted,
    );
    load.release();
    await drained(redis);
    expect(
      bare,
      'the lock had no TTL when this command was sent: if the process dies before it, nobody refreshes any more',
    ).toBeUndefined();
    expect(await servers.redis.exists(lockKey(KEY)), 'locks after a refresh that succeeded').toBe(0);
  });

  test('a refresh that has lost its lock stores nothing and releases nothing, and no miss joins it', async () => {
    const others = numberedLoads(servers);
    const other = open(others.load, { loadDeadlineMs: 60_000 });
    const losses: Readonly<Record<string, (key: string) => Promise<unknown>>> = {
      'another refresh has it now': async (key) => {
        await servers.redis.del(lockKey(key));
        const begun = others.loads;
        others.hold();
        await outcome(other.get(key));
        await until(() => others.loads > begun);
      },
      [HAD]: (key) =>
        servers.redis.multi().set(entryKey(key), entry('newer'), 'PX', HARD_MS).del(lockKey(key)).exec(),
      'a writer has deleted it with the entry': (key) => servers.redis.del(entryKey(key), lockKey(key)),
    };
    const behind = await behindProxy();
    for (const [loss, lose] of Object.entries(losses)) {
      for (const row of loss === HAD ? (['there', 'deleted'] as const) : (['there'] as const)) {
        await losingAtEachStep(
          { behind, key: loss, row, lose: () => lose(loss) },
          (step, { struck, left }) => {
            const when = `the row is ${row}, and the lock is lost ${step === 0 ? 'during the load' : `just before command ${step} after the load`}: ${loss}`;
            expect(left.lock, `token in the lock: ${when}`).toBe(struck.lock);
            expect(left.name, `name in the entry: ${when}`).toBe(struck.name);
          },
        );
      }
    }
    const tokens = [await tokenInNewProcess(), await tokenInNewProcess()];
    expect(
      tokens[0],
      'tokens in two processes with the same process id, as containers have it: they must differ',
    ).not.toBe(tokens[1]);

    await cacheStale(KEY);
    const source = numberedLoads(servers);
    const [refresh, miss] = [source.hold(), source.hold()];
    const swr = open(source.load);
    await outcome(swr.get(KEY));
    await until(() => source.loads === 1);
    // A writer has changed the row, and cancels the refresh, which has read the old one.
    await servers.redis.del(entryKey(KEY), lockKey(KEY));
    const missed = outcome(swr.get(KEY));
    await drained(servers.redis);
    miss.release();
    const early = source.loads === 2 ? await missed : undefined;
    refresh.release();
    await missed;
    await drained(servers.redis);
    expect(early, 'a reader that comes after the write must load what is there now').toEqual({
      name: 'load 2',
    });
    expect(await nameInRedis(KEY), 'name in the entry: load 1 had begun before the write').toBe('load 2');
  });

  test('a load that hangs is given up at its deadline', async () => {
    const source = numberedLoads(servers);
    source.hold();
    const signals: AbortSignal[] = [];
    // The first one heeds its signal, and the third one does not.
    const load: Options<Product>['load'] = (_, signal) => {
      signals.push(signal);
      const loading = source.load();
      return signals.length === 1 ? Promise.race([loading, whenAborted(signal)]) : loading;
    };
    const errors: unknown[] = [];
    const unhandled = unhandledRejections();
    const swr = open(load, { loadDeadlineMs: 80, onError: (error) => errors.push(error) });
    const first = await outcome(swr.get(KEY).catch((error: unknown) => error));
    expect(first, 'load hangs: after loadDeadlineMs, the reader must get an error').toBeInstanceOf(
      LoadTimeoutError,
    );
    expect(signals[0]?.aborted, 'aborted: load must learn that it is too late').toBe(true);
    const next = await Promise.all([1, 2].map(() => outcome(swr.get(KEY))));
    expect(next, 'the next readers must not join the load that hangs').toEqual(
      Array(2).fill({ name: 'load 2' }),
    );
    expect(next[0], 'readers that share a load: each needs an object of its own').not.toBe(next[1]);

    await cacheStale(KEY);
    const late = source.hold();
    await outcome(swr.get(KEY));
    await until(() => errors.length > 0);
    expect(errors[0], 'a refresh that hangs has failed: report it').toBeInstanceOf(LoadTimeoutError);
    expect(signals[2]?.aborted, 'aborted: the load of a refresh must learn of it too').toBe(true);
    late.release();
    await drained(servers.redis);
    expect(await nameInRedis(KEY), 'name in the entry: load 3 came too late').toBe('stale');
    await servers.redis.del(lockKey(KEY));
    await swr.get(KEY);
    await until(async () => (await nameInRedis(KEY)) === 'load 4');
    expect(
      await nameInRedis(KEY),
      'name in the entry: the next refresh must not wait for the one that hung',
    ).toBe('load 4');
    expect(unhandled(), 'unhandled rejections: nobody awaits a refresh').toEqual([]);
  });

  test('a Redis that fails costs a reader one deadline, and nothing is stored after it', async () => {
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      'is a black hole': (proxy) => proxy.blackHole(),
      stalls: (proxy) => proxy.stall(),
      'does not answer to a SET': (proxy) => proxy.hold(STORES),
    };
    const scenes = Object.entries(faults).map(async ([fault, strike]) => {
      const { reads, loads, errors, proxy, redis } = await underFault(fault, strike);
      expect(reads, `Redis ${fault}: within one deadline, two readers must get the loaded value`).toEqual([
        { name: 'load 1' },
        { name: 'load 1' },
      ]);
      expect(loads, `loads for two readers while Redis ${fault}`).toBe(1);
      expect(errors, `errors reported while Redis ${fault}`).toBeGreaterThan(0);
      if (fault === 'does not answer to a SET') return;
      await proxy.heal();
      await until(() => redis.status === 'ready');
      await drained(redis);
      expect(
        await nameInRedis(fault),
        `name in the entry: Redis ${fault} at the GET, so a SET would arrive late, over newer values`,
      ).toBeUndefined();
    });
    await Promise.all(scenes);
  });

  test('an entry that cannot be decoded is reported, and loaded again', async () => {
    const entries = {
      'an HTML page': Buffer.from('<html>502 Bad Gateway</html>'),
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'cut off': entry('stale').subarray(0, 8),
      empty: Buffer.alloc(0),
    };
    for (const [kind, bytes] of Object.entries(entries)) {
      await servers.redis.set(entryKey(kind), bytes);
      const errors: unknown[] = [];
      const swr = open(numberedLoads(servers).load, { onError: (error) => errors.push(error) });
      const answer = await outcome(swr.get(kind));
      expect(answer, `the entry is damaged (${kind}): get must load`).toEqual({ name: 'load 1' });
      expect(errors.length, `errors reported for a damaged entry (${kind})`).toBe(1);
      await until(async () => (await nameInRedis(kind)) === 'load 1');
      expect(
        await nameInRedis(kind),
        `name in the entry: the damaged one (${kind}) must be replaced, or each read loads`,
      ).toBe('load 1');
    }
  });

  test('onIdle waits for all that runs in the background, and never rejects', async () => {
    await Promise.all([cacheStale('first'), cacheStale('second')]);
    const source = numberedLoads(servers);
    const [first, second] = [source.hold(), source.hold()];
    const swr = open(async (key) => {
      const value = await source.load();
      if (key === 'first') throw new Error('connect ECONNREFUSED');
      return value;
    });
    await outcome(swr.get('first'));
    await until(() => source.loads === 1);
    let idle: unknown = 'not yet';
    const waiting = outcome(Promise.resolve().then(() => swr.onIdle())).then((result) => {
      idle = result;
    });
    await drained(servers.redis);
    expect(idle, 'onIdle: the first refresh is still running').toBe('not yet');
    await outcome(swr.get('second'));
    await until(() => source.loads === 2);
    first.release();
    await drained(servers.redis);
    expect(idle, 'onIdle: a second refresh began meanwhile, and is still running').toBe('not yet');
    second.release();
    await waiting;
    expect(idle, 'onIdle: the first refresh has failed, which is not an error of onIdle').toBeUndefined();
    expect(await nameInRedis('second'), 'name in the entry: onIdle must wait for the store too').toBe(
      'load 2',
    );
  });
});

/** Deadlines that no test meets unless it means to. The clock stands still. */
function open<V = Product>(
  load: Options<V>['load'],
  options: Partial<Options<V>> = {},
  create: typeof createSwr<V> = createSwr,
) {
  return create({
    redis: servers.redis,
    softTtlMs: SOFT_MS,
    hardTtlMs: HARD_MS,
    load,
    loadDeadlineMs: 3_000,
    cacheDeadlineMs: 3_000,
    now: () => T0,
    ...options,
  });
}

async function selectProduct(): Promise<Product | undefined> {
  const [[row]] = await servers.db.query<RowDataPacket[]>(
    'SELECT name, updated_at AS updatedAt FROM products WHERE id = 1',
  );
  return row && { name: row.name, updatedAt: row.updatedAt };
}

const entry = (name: string, storedAt = T0) => encode<Product>({ value: { name }, storedAt });

/** Its soft TTL is over, by the clock that stands still. */
const cacheStale = (key: string, ttlMs = HARD_MS) =>
  servers.redis.set(entryKey(key), entry('stale', T0 - SOFT_MS - 1), 'PX', ttlMs);

/** Waits for the entry that a `get` stores, which its caller need not wait for. */
const stored = (key: string) => until(async () => (await servers.redis.exists(entryKey(key))) === 1);

/** The name in the entry; undefined where there is none. */
async function nameInRedis(key: string): Promise<string | undefined> {
  const bytes = await servers.redis.getBuffer(entryKey(key));
  try {
    return bytes ? decode<Product>(bytes).value.name : undefined;
  } catch (error) {
    return String(error);
  }
}

const HAD = 'another refresh has had it';

/** As a driver does that heeds the signal. */
const whenAborted = (signal: AbortSignal) =>
  new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(new Error('the query was killed')));
  });

/** What the lock of a refresh holds in a process that shares nothing with this one. */
async function tokenInNewProcess(): Promise<string | null> {
  await cacheStale('token');
  vi.resetModules();
  const { createSwr: create } = await import('./stale-while-revalidate');
  let token: string | null = null;
  const load = async () => {
    token = await servers.redis.get(lockKey('token'));
    return { name: 'new' };
  };
  await outcome(open(load, {}, create<Product>).get('token'));
  await until(async () => (await nameInRedis('token')) === 'new');
  await servers.redis.del(lockKey('token'));
  return token;
}

/** It waits for its server as long as it takes, as by default. */
const PATIENT: RedisOptions = { maxRetriesPerRequest: null, retryStrategy: () => 10 };

async function behindProxy(options: RedisOptions = {}) {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis(options, proxy.url);
  onTestFinished(() => redis.disconnect());
  await redis.ping();
  return { proxy, redis };
}

const SHORT_MS = 200;

/** What two readers get within one deadline, and not within two. A busy machine gets five tries. */
async function underFault(key: string, strike: (proxy: FaultyProxy) => unknown) {
  for (let attempt = 1; ; attempt++) {
    const { proxy, redis } = await behindProxy(PATIENT);
    const source = numberedLoads(servers);
    let errors = 0;
    const onError = () => errors++;
    // Both readers have given up on Redis by the time that the first load ends.
    const load = () => sleep(30).then(source.load);
    const swr = open(load, { redis, cacheDeadlineMs: SHORT_MS, onError });
    await strike(proxy);
    const reads = await Promise.all([1, 2].map(() => outcome(swr.get(key), 1.8 * SHORT_MS)));
    const inTime = !reads.includes('still waiting');
    if (inTime) await until(() => errors > 0);
    if (inTime || attempt === 5) {
      return { reads, loads: source.loads, errors, proxy, redis };
    }
  }
}

/** A refresh that loses its lock by `lose`, at each of its steps; by each loss under a key of its own. */
async function losingAtEachStep(
  {
    behind,
    key,
    row,
    lose,
  }: {
    readonly behind: Awaited<ReturnType<typeof behindProxy>>;
    readonly key: string;
    readonly row: 'there' | 'deleted';
    readonly lose: () => Promise<unknown>;
  },
  check: Struck<{ name: string | undefined; lock: string | null }>['check'],
) {
  await strikeAtEachStep(behind, {
    async begin() {
      await servers.redis.del(lockKey(key));
      await cacheStale(key);
      const source = numberedLoads(servers);
      const { release } = source.hold();
      const load = () => source.load().then((value) => (row === 'there' ? value : undefined));
      const call = outcome(open(load, { redis: behind.redis }).get(key));
      await until(() => source.loads === 1);
      return { call, endLoad: release };
    },
    strike: lose,
    look: async () => ({ name: await nameInRedis(key), lock: await servers.redis.get(lockKey(key)) }),
    check,
  });
}

/** A process with ten readers of the stale value. Its result is how often it has loaded. */
async function startPeer(mysqlUrl: string) {
  const args = { redis: servers.redisUrl, mysql: mysqlUrl, softTtlMs: SOFT_MS, hardTtlMs: HARD_MS, now: T0 };
  const [peer] = await startProcesses<typeof import('./stale-while-revalidate'), typeof args, number>(
    1,
    subjectFile,
    args,
    async ({ subject, args, Redis, mysql }) => {
      const db = mysql.createPool({ uri: args.mysql });
      let loads = 0;
      const swr = subject.createSwr({
        redis: new Redis(args.redis),
        softTtlMs: args.softTtlMs,
        hardTtlMs: args.hardTtlMs,
        loadDeadlineMs: 10_000,
        cacheDeadlineMs: 10_000,
        now: () => args.now,
        load: async () => {
          loads++;
          await db.query('SELECT name FROM products WHERE id = 1');
          return { name: 'refreshed by the peer' };
        },
      });
      const isRefreshed = async () => (await swr.get('product:1'))?.name === 'refreshed by the peer';
      await Promise.all(Array.from({ length: 10 }, isRefreshed));
      while (!(await isRefreshed())) await new Promise((resolve) => setTimeout(resolve, 5));
      return loads;
    },
  );
  if (!peer) throw new Error('no process was started');
  return peer;
}
