import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis, RedisOptions } from 'ioredis';
import { describe, expect, test, vi } from 'vitest';
import { fakeClock } from '#kit/clock';
import { expectTtl } from '#kit/expect-ttl';
import { redisBehindProxy } from '#kit/faulty-redis';
import { signal } from '#kit/gate';
import { numberedLoads } from '#kit/loads';
import type { FaultyProxy } from '#kit/proxy';
import { seeded } from '#kit/random';
import { useServers } from '#kit/servers';
import { drained, type Struck, strikeAtEachStep } from '#kit/strikes';
import { outcome, rejectionOf, unhandledRejections, until } from '#kit/waiting';
import { createEarlyCache, shouldRefresh } from './early-expiration';
import {
  decode,
  encode,
  entryKey,
  type Load,
  LoadTimeoutError,
  lockKey,
  lockTtlMs,
  type Options,
} from './given';

const servers = useServers();

const T0 = 1_700_000_000_000;
const KEY = 'product:1';
const TTL_MS = 57_301;
/** With random() always 0.5, a hit fires when the gap is at most Δ · β · ln 2, here 2,775 ms. */
const SLOW_MS = 4_003;
const FAST_MS = 23;
const GAP_MS = 1_907;
/** A command for the lock; not one that reads it together with the entry. */
const LOCKS = /^(?!mget).*early:lock:/is;
const STORES = /^(SET|SETEX|PSETEX|EVAL|EVALSHA|MULTI)\b.*early:entry/is;

interface Product {
  readonly name: string;
}

describe('Core', () => {
  test('a hit fires with probability e^(-gap / (Δ · β))', () => {
    const cases = [
      { gapInDeltas: 1, beta: 1, deltaMs: 40 },
      { gapInDeltas: 1, beta: 1, deltaMs: 2_000.5 },
      { gapInDeltas: 0.5, beta: 1, deltaMs: 301 },
      { gapInDeltas: 2, beta: 1, deltaMs: 40 },
      { gapInDeltas: 1, beta: 0.5, deltaMs: 301 },
      { gapInDeltas: 2, beta: 2, deltaMs: 2_000.5 },
    ];
    const hits = 20_000;
    for (const { gapInDeltas, beta, deltaMs } of cases) {
      const random = seeded(7);
      const expiresAt = T0 + gapInDeltas * deltaMs;
      let fired = 0;
      for (let hit = 0; hit < hits; hit++) {
        if (shouldRefresh({ now: T0, expiresAt, deltaMs, beta, random })) fired++;
      }
      const p = Math.exp(-gapInDeltas / beta);
      const message = `share of hits that fire: gap ${gapInDeltas} Δ, Δ ${deltaMs} ms, β ${beta}`;
      const bound = 5 * Math.sqrt((p * (1 - p)) / hits);
      expect(fired / hits, message).toBeGreaterThan(p - bound);
      expect(fired / hits, message).toBeLessThan(p + bound);
    }
    const far = { now: T0, expiresAt: T0 + 100_000, deltaMs: 100, beta: 1, random: () => 0 };
    expect(shouldRefresh(far), 'whether a hit fires at a gap of 1,000 Δ, when random() is 0').toBe(false);
  });

  test('a miss loads the value and stores it for ttlMs, a hit gives the same and loads nothing', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    let bare: string | undefined;
    proxy.schedule(async (request) => {
      if ((await servers.redis.pttl(entryKey(KEY))) === -1) bare ??= request;
    });
    const cache = open({ redis });
    const value = { name: 'mug', since: new Date(0), price: null };
    const miss = await cache.get(KEY, async () => value);
    expect(miss, 'a miss must give what was loaded').toMatchObject({ name: 'mug', price: null });
    await stored(KEY);
    await expectTtl(servers.redis, entryKey(KEY), TTL_MS, 'ms to live of the entry: ttlMs is 57,301');
    const source = numberedLoads(servers);
    expect(
      await cache.get<unknown>(KEY, source.load),
      'a hit and a miss must give the same: what JSON makes of the value',
    ).toEqual(miss);
    await drained(servers.redis);
    expect(source.loads, 'loads of a hit with nearly all of its TTL to go').toBe(0);
    await cache.get('none', async () => null);
    await stored('none');
    expect(await cache.get<unknown>('none', source.load), 'null is a value: it must be cached').toBeNull();
    expect(
      bare,
      'the entry had no TTL when this command was sent: if the process dies before it, the entry stays forever',
    ).toBeUndefined();
  });

  test('callers that miss at the same time share one load, also one that fails', async () => {
    const source = numberedLoads(servers);
    const cache = open();
    const callers = await Promise.all(Array.from({ length: 20 }, () => cache.get(KEY, source.load)));
    expect(source.loads, 'loads for 20 callers that missed at the same time').toBe(1);
    expect(callers, 'each of the 20 callers must get the value').toEqual(Array(20).fill({ name: 'load 1' }));
    expect(new Set(callers).size, 'objects for 20 callers: each must get its own copy').toBe(20);
    const two = await Promise.all(['product:2', 'product:3'].map((key) => cache.get(key, source.load)));
    expect(two, 'two keys that miss at the same time: each has a load of its own').toEqual([
      { name: 'load 2' },
      { name: 'load 3' },
    ]);
    const down = new Error('connect ECONNREFUSED');
    const fail = () => Promise.reject(down);
    const failed = await Promise.all([1, 2].map(() => rejectionOf(() => cache.get('product:4', fail))));
    expect(failed, 'the load has failed: both callers must get its error').toEqual([down, down]);
    expect(
      await outcome(cache.get('product:4', source.load)),
      'a load that failed is forgotten: the next caller must load',
    ).toEqual({ name: 'load 4' });
  });

  test('an entry holds the time that its load took, and every process fires by it', async () => {
    const clock = fakeClock(T0);
    const slow = timedSource(clock, SLOW_MS);
    await open({ now: clock.now }).get(KEY, slow.load);
    await stored(KEY);
    const entry = await entryIn(KEY);
    expect(entry.deltaMs, 'deltaMs in the entry: the load took 4,003 ms by `now`').toBeCloseTo(SLOW_MS, 3);
    // From the fill; from the beginning of the load is right too.
    const message = 'ms from the fill to expiresAt: ttlMs is 57,301';
    expect(entry.expiresAt - clock.now(), message).toBeLessThanOrEqual(TTL_MS);
    expect(entry.expiresAt - clock.now(), message).toBeGreaterThanOrEqual(TTL_MS - SLOW_MS);

    const elsewhere = { now: clock.now, redis: servers.connectRedis() };
    const fast = timedSource(clock, FAST_MS);
    const there = open(elsewhere);
    clock.advance(entry.expiresAt - GAP_MS - FAST_MS - clock.now());
    await there.get('fast', fast.load);
    await stored('fast');
    await open({ ...elsewhere, beta: 0.4 }).get(KEY, slow.load);
    await drained(servers.redis);
    expect(slow.loads, 'loads: Δ is 4 s, β 0.4, the gap 1.9 s, random() 0.5: this hit must not fire').toBe(1);
    await there.get(KEY, slow.load);
    await until(() => slow.loads === 2);
    expect(
      slow.loads,
      'loads: Δ of the entry is 4 s, the gap 1.9 s, random() 0.5. This hit must fire, whatever its own process loaded last',
    ).toBe(2);
    await drained(servers.redis);
    await cacheEntry('fast', { deltaMs: FAST_MS, expiresAt: clock.now() + 0.05 * TTL_MS });
    await there.get('fast', fast.load);
    await drained(servers.redis);
    expect(fast.loads, 'loads: Δ is 23 ms and 5 % of the TTL are left: this hit must not fire').toBe(1);
  });

  test('a hit that fires gets the cached value at once, and one load begins', async () => {
    await cacheFiring(KEY);
    const source = numberedLoads(servers);
    const load = source.hold();
    const cache = open();
    const first = await outcome(cache.get(KEY, source.load));
    expect(first, 'the hit fires, and its load does not end: get must return the cached value').toEqual({
      name: 'cached',
    });
    await until(() => source.loads > 0);
    expect(source.loads, 'loads: Δ is 4 s, the gap 1.9 s, random() 0.5: this hit must fire').toBe(1);
    const others = Array.from({ length: 20 }, () => outcome(cache.get(KEY, source.load)));
    expect(await Promise.all(others), 'while the load runs, all hits must get the cached value').toEqual(
      Array(20).fill({ name: 'cached' }),
    );
    await drained(servers.redis);
    expect(source.loads, 'loads for 21 hits that fired').toBe(1);
    load.release();
    await until(async () => (await nameInRedis(KEY)) === 'load 1');
  });

  test('a refresh stores its value with its own Δ, for a whole TTL', async () => {
    const clock = fakeClock(T0);
    await cacheFiring(KEY, 9_000);
    const cache = open({ now: clock.now });
    const source = timedSource(clock, 2 * SLOW_MS);
    await outcome(cache.get(KEY, source.load));
    await until(async () => (await nameInRedis(KEY)) === 'load 1');
    expect(await nameInRedis(KEY), 'name in the entry after the refresh').toBe('load 1');
    const { deltaMs, expiresAt } = await entryIn(KEY);
    expect(deltaMs, 'deltaMs after the refresh, whose load took 8,006 ms; the one before took 4,003').toBe(
      2 * SLOW_MS,
    );
    const message = 'ms from the refresh to expiresAt: ttlMs is 57,301';
    expect(expiresAt - clock.now(), message).toBeLessThanOrEqual(TTL_MS);
    expect(expiresAt - clock.now(), message).toBeGreaterThanOrEqual(TTL_MS - 2 * SLOW_MS);
    await expectTtl(servers.redis, entryKey(KEY), TTL_MS, 'ms to live of the entry after the refresh');
    expect(await cache.get(KEY, source.load), 'after the refresh, get must return its value').toEqual({
      name: 'load 1',
    });
    await drained(servers.redis);
    expect(source.loads, 'loads: the refreshed value has nearly all of its TTL to go').toBe(1);
    clock.advance(expiresAt - GAP_MS - clock.now());
    await cache.get(KEY, source.load);
    await until(() => source.loads === 2);
    expect(source.loads, 'loads: the refreshed value is near its end in turn, so this hit must fire').toBe(2);
  });
});

describe('In production', () => {
  test('a failing refresh is reported, and leaves its readers and its entry alone', async () => {
    const unhandled = unhandledRejections();
    const down = new Error('connect ECONNREFUSED');
    const failures: Readonly<Record<string, (proxy: FaultyProxy, redis: Redis) => Load<Product>>> = {
      'load rejects': () => () => Promise.reject(down),
      'load throws': () => () => {
        throw down;
      },
      'Redis does not answer to the lock': (proxy, redis) => {
        proxy.hold(LOCKS);
        // The commands that follow the first one, which reads the entry.
        proxy.schedule(async () => giveUpSoon(redis));
        return async () => ({ name: 'new' });
      },
      'Redis falls silent during the load': (proxy, redis) => async () => {
        proxy.stall();
        giveUpSoon(redis);
        return { name: 'new' };
      },
    };
    const scenes = Object.entries(failures).map(async ([failure, strike]) => {
      await cacheFiring(failure, 5_000);
      const { proxy, redis } = await redisBehindProxy(servers);
      const errors: unknown[] = [];
      const cache = open({ redis, onError: (error) => errors.push(error) });
      expect(
        await outcome(cache.get(failure, strike(proxy, redis))),
        `${failure}: the reader must get the cached value`,
      ).toEqual({ name: 'cached' });
      await until(() => errors.length > 0);
      expect(errors.length, `calls of onError when ${failure}`).toBeGreaterThan(0);
      if (failure.startsWith('load')) expect(errors, 'the error of load must be reported').toEqual([down]);
      expect(await nameInRedis(failure), `name in the entry: ${failure}, so the cached value must stay`).toBe(
        'cached',
      );
      expect(
        await servers.redis.pttl(entryKey(failure)),
        `ms to live, of 5,000 before: ${failure}, so nothing has confirmed the cached value`,
      ).toBeLessThanOrEqual(5_000);
    });
    await Promise.all(scenes);
    expect(unhandled(), 'unhandled rejections: nobody awaits a refresh, so it must not reject').toEqual([]);
  });

  test('after a failed refresh, no process tries again before the lock has expired', async () => {
    await cacheFiring(KEY);
    let loads = 0;
    const errors: unknown[] = [];
    const load = async () => {
      loads++;
      throw new Error('connect ECONNREFUSED');
    };
    const here = open({ onError: (error) => errors.push(error) });
    const elsewhere = open({ redis: servers.connectRedis() });
    const unhandled = unhandledRejections();
    await outcome(here.get(KEY, load));
    await until(() => errors.length > 0 || unhandled().length > 0);
    for (let read = 1; read <= 5; read++) {
      for (const cache of [here, elsewhere]) {
        expect(await outcome(cache.get(KEY, load)), 'until it expires, get must return the value').toEqual({
          name: 'cached',
        });
      }
      await drained(servers.redis);
    }
    expect(loads, 'loads: all hits fire, and the source has just failed, so it needs a pause').toBe(1);
    await servers.redis.del(lockKey(KEY));
    await outcome(here.get(KEY, load));
    await until(() => loads === 2);
    expect(loads, 'loads: the lock has expired, so a hit that fires must start a refresh').toBe(2);
  });

  test('there is one refresh across processes, also for one that comes late', async () => {
    const source = numberedLoads(servers);
    const elsewhere = open({ redis: servers.connectRedis() });
    const here = open();
    const load = source.hold();
    await cacheFiring(KEY);
    await outcome(elsewhere.get(KEY, source.load));
    await until(() => source.loads === 1);
    await outcome(Promise.all(Array.from({ length: 10 }, () => here.get(KEY, source.load))));
    await drained(servers.redis);
    expect(source.loads, 'loads: the hits of two processes fire, and one of these is loading').toBe(1);
    load.release();
    await until(async () => (await nameInRedis(KEY)) === 'load 1');

    await cacheFiring(KEY);
    const { proxy, redis } = await redisBehindProxy(servers);
    const lock = proxy.hold(LOCKS);
    await outcome(open({ redis }).get(KEY, source.load));
    await Promise.race([lock.arrived, until(() => source.loads > 1)]);
    await here.get(KEY, source.load);
    await until(async () => (await nameInRedis(KEY)) !== 'cached');
    await drained(servers.redis);
    lock.release();
    await drained(redis);
    expect(
      source.loads,
      'loads: a hit of one process fired, and that process gets the lock after another one has refreshed',
    ).toBe(2);
    expect(await servers.redis.exists(lockKey(KEY)), 'locks: nothing was left to do').toBe(0);
  });

  test('a lock whose grant was not answered is not used', async () => {
    await cacheFiring(KEY);
    const { proxy, redis } = await redisBehindProxy(servers);
    unhandledRejections();
    const source = numberedLoads(servers);
    const load = source.hold();
    const locking = proxy.hold(LOCKS);
    // The commands that follow the first one, which reads the entry.
    proxy.schedule(async () => giveUpSoon(redis));
    await outcome(open({ redis }).get(KEY, source.load));
    await Promise.race([locking.arrived, until(() => source.loads > 0)]);
    // Behind the question for the lock: when this times out, that has timed out too.
    await rejectionOf(() => redis.ping());
    await drained(servers.redis);
    proxy.schedule();
    waitAsLongAsItTakes(redis);
    // A writer commits here, and deletes entry and lock. After that Redis receives the question.
    await servers.redis.del(entryKey(KEY), lockKey(KEY));
    locking.release();
    await drained(redis);
    load.release();
    await drained(redis);
    expect(source.loads, 'loads: this process does not know that it has the lock').toBe(0);
    expect(
      await nameInRedis(KEY),
      'name in the entry: a load that began before the write may not be stored after it',
    ).toBeUndefined();
  });

  test('the lock of a killed process expires by itself, and not too early', async () => {
    await cacheFiring(KEY);
    const { proxy, redis } = await redisBehindProxy(servers);
    let bare: string | undefined;
    let previous = '';
    proxy.schedule(async (request) => {
      if (LOCKS.test(previous) && (await servers.redis.pttl(lockKey(KEY))) === -1) bare ??= request;
      previous = request;
    });
    const source = numberedLoads(servers);
    const load = source.hold();
    const loadDeadlineMs = 21_001;
    await outcome(open({ redis, loadDeadlineMs }).get(KEY, source.load));
    await until(() => source.loads === 1);
    const message = 'ms to live of the lock during a refresh: it must live for lockTtlMs';
    await expectTtl(servers.redis, lockKey(KEY), lockTtlMs(loadDeadlineMs), message);
    load.release();
    await drained(redis);
    expect(
      bare,
      'the lock had no TTL when this command was sent: if the process dies before it, no process refreshes any more',
    ).toBeUndefined();
    expect(await servers.redis.exists(lockKey(KEY)), 'locks after a refresh that succeeded').toBe(0);
  });

  test('a refresh that has lost its lock stores nothing and releases nothing', async () => {
    const others = numberedLoads(servers);
    const other = open();
    const losses: Readonly<Record<string, (key: string) => Promise<unknown>>> = {
      'another refresh has it now': async (key) => {
        await servers.redis.del(lockKey(key));
        const begun = others.loads;
        others.hold();
        await outcome(other.get(key, others.load));
        await until(() => others.loads > begun);
      },
      'another refresh has had it': (key) =>
        servers.redis.multi().set(entryKey(key), entry('newer'), 'PX', TTL_MS).del(lockKey(key)).exec(),
      'a writer has deleted it with the entry': (key) => servers.redis.del(entryKey(key), lockKey(key)),
    };
    const behind = await redisBehindProxy(servers);
    for (const [loss, lose] of Object.entries(losses)) {
      await losingAtEachStep(
        behind,
        loss,
        () => lose(loss),
        (step, { struck, left }) => {
          const when = `the lock is lost ${step === 0 ? 'during the load' : `just before command ${step} after the load`}: ${loss}`;
          expect(left.lock, `token in the lock: ${when}`).toBe(struck.lock);
          expect(left.name, `name in the entry: ${when}`).toBe(struck.name);
        },
      );
    }

    const tokens = [await tokenInNewProcess(), await tokenInNewProcess()];
    const same = 'tokens in two processes with the same process id, as containers have it: they must differ';
    expect(tokens[0], same).not.toBe(tokens[1]);

    await cacheFiring(KEY);
    const source = numberedLoads(servers);
    const [first, second] = [source.hold(), source.hold()];
    const cache = open();
    await outcome(cache.get(KEY, source.load));
    await until(() => source.loads === 1);
    await servers.redis.del(lockKey(KEY));
    await cacheFiring(KEY);
    await outcome(cache.get(KEY, source.load));
    await drained(servers.redis);
    first.release();
    await drained(servers.redis);
    expect(
      await nameInRedis(KEY),
      'name in the entry: the first refresh has lost its lock, perhaps to a second one of the same process',
    ).toBe('cached');
    second.release();
  });

  test('a miss does not join a refresh that a writer has cancelled', async () => {
    await cacheFiring(KEY);
    const source = numberedLoads(servers);
    const [refresh, miss] = [source.hold(), source.hold()];
    const cache = open();
    await outcome(cache.get(KEY, source.load));
    await until(() => source.loads === 1);
    // A writer has changed the row, and cancels the refresh, which has read the old one.
    await servers.redis.del(entryKey(KEY), lockKey(KEY));
    const missed = outcome(cache.get(KEY, source.load));
    await until(() => source.loads === 2);
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
    await cacheFiring('refreshed');
    const unhandled = unhandledRejections();
    const errors: unknown[] = [];
    const cache = open({ loadDeadlineMs: 90, onError: (error) => errors.push(error) });
    const [missed, refreshed] = [hungLoad(170, { heedsSignal: true }), hungLoad(170)];
    const hit = await outcome(cache.get('refreshed', refreshed.load));
    const waited = cache.get('missed', missed.load).catch((error: unknown) => error);
    const miss = await outcome(Promise.race([waited, missed.waitedFor]));
    expect(
      miss,
      'load hangs, loadDeadlineMs is 90: what the caller got within 170 ms must be an error',
    ).toBeInstanceOf(LoadTimeoutError);
    expect(missed.signal?.aborted, 'aborted: load must learn that it is too late').toBe(true);
    // These loads end at once: no deadline is too short for them.
    expect(
      await outcome(cache.get('missed', async () => ({ name: 'in time' }))),
      'the next caller must not join the load that hangs',
    ).toEqual({ name: 'in time' });
    await until(() => errors.length > 0);
    expect(hit, 'the load of a refresh hangs: its reader must get the cached value').toEqual({
      name: 'cached',
    });
    expect(
      errors,
      'what onError got: a refresh that hangs has failed, and the error of the miss went to its caller',
    ).toEqual([expect.any(LoadTimeoutError)]);
    expect(refreshed.signal?.aborted, 'aborted: the load of a refresh must learn of it too').toBe(true);
    missed.fail(new Error('too late'));
    refreshed.fail(new Error('too late'));
    await drained(servers.redis);
    await servers.redis.del(lockKey('refreshed'));
    await cache.get('refreshed', async () => ({ name: 'in time' }));
    await until(async () => (await nameInRedis('refreshed')) === 'in time');
    expect(
      await nameInRedis('refreshed'),
      'name in the entry: the next refresh must not wait for the one that hung',
    ).toBe('in time');
    expect(unhandled(), 'unhandled rejections: a load that was given up may fail later').toEqual([]);
  });

  test('when Redis fails, callers share a load, and nothing is stored after it', async () => {
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      stalls: (proxy) => proxy.stall(),
      'does not answer to a SET': (proxy) => proxy.hold(STORES),
    };
    const scenes = Object.entries(faults).map(async ([fault, strike]) => {
      const isRead = fault !== 'does not answer to a SET';
      const { proxy, redis } = await redisBehindProxy(servers, PATIENT);
      const source = numberedLoads(servers);
      let errors = 0;
      const cache = open({ redis, onError: () => errors++ });
      if (isRead) {
        await strike(proxy);
        giveUpSoon(redis);
      }
      // Both callers have given up on Redis by the time that the first load ends.
      const load = async () => {
        giveUpSoon(redis);
        if (!isRead) strike(proxy);
        await sleep(60);
        return source.load();
      };
      const reads = await Promise.all([1, 2].map(() => outcome(cache.get(fault, load))));
      expect(reads, `Redis ${fault}: two callers must get the loaded value`).toEqual(
        Array(2).fill({ name: 'load 1' }),
      );
      expect(source.loads, `loads for two callers while Redis ${fault}`).toBe(1);
      await until(() => errors > 0);
      expect(errors, `errors reported while Redis ${fault}`).toBeGreaterThan(0);
      if (!isRead) return;
      waitAsLongAsItTakes(redis);
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

  test('an entry that is damaged or past its own end is replaced', async () => {
    const entries = {
      'an HTML page': Buffer.from('<html>502 Bad Gateway</html>'),
      'another shape': Buffer.from('{"name":"of the release of last week"}'),
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'a name that is not UTF-8': Buffer.from(entry('\xff'), 'latin1'),
      'no bytes at all': Buffer.alloc(0),
      // A SET that waited in a queue for longer than the TTL.
      expired: Buffer.from(entry('old', { expiresAt: T0 - 1 })),
    };
    for (const [kind, bytes] of Object.entries(entries)) {
      await servers.redis.set(entryKey(kind), bytes, 'PX', TTL_MS);
      const errors: unknown[] = [];
      const cache = open({ onError: (error) => errors.push(error) });
      const answer = await outcome(cache.get(kind, numberedLoads(servers).load));
      expect(answer, `the entry is unusable (${kind}): get must load`).toEqual({ name: 'load 1' });
      const reports = kind === 'expired' ? 0 : 1;
      expect(errors.length, `errors reported for an entry that is unusable (${kind})`).toBe(reports);
      await until(async () => (await nameInRedis(kind)) === 'load 1');
      expect(
        await nameInRedis(kind),
        `name in the entry: the unusable one (${kind}) must be replaced, or each read loads`,
      ).toBe('load 1');
    }
  });
});

/** A deadline that no test meets unless it means to. The clock stands still, and each roll is 0.5. */
const open = (options: Partial<Options> = {}, create = createEarlyCache) =>
  create({
    redis: servers.redis,
    ttlMs: TTL_MS,
    loadDeadlineMs: 3_000,
    random: () => 0.5,
    now: () => T0,
    ...options,
  });

const entry = (name: string, { deltaMs = SLOW_MS, expiresAt = T0 + GAP_MS } = {}) =>
  encode({ value: { name }, deltaMs, expiresAt });

const cacheEntry = (key: string, times: { deltaMs: number; expiresAt: number }) =>
  servers.redis.set(entryKey(key), entry('cached', times), 'PX', TTL_MS);

/** Each hit of it fires, by the clock that stands still. */
const cacheFiring = (key: string, px = TTL_MS) => servers.redis.set(entryKey(key), entry('cached'), 'PX', px);

/** A numbered source whose loads take this long by the clock. */
function timedSource(clock: ReturnType<typeof fakeClock>, tookMs: number) {
  const source = {
    loads: 0,
    async load(): Promise<Product> {
      const number = ++source.loads;
      await servers.redis.ping();
      clock.advance(tookMs);
      return { name: `load ${number}` };
    },
  };
  return source;
}

/** A load that gives no answer until it fails. `waitedFor` resolves that many ms after it has begun. */
function hungLoad(ms: number, { heedsSignal = false } = {}) {
  const begun = signal();
  const hung = {
    signal: undefined as AbortSignal | undefined,
    fail: (_: Error) => {},
    // On a busy machine both timers are late, and still fire in their order.
    waitedFor: begun.promise.then(() => sleep(ms, `no answer in ${ms} ms`)),
    load: (signal?: AbortSignal) =>
      new Promise<Product>((_, reject) => {
        begun.fire();
        hung.signal = signal;
        hung.fail = reject;
        if (heedsSignal) signal?.addEventListener('abort', () => reject(new Error('the query was killed')));
      }),
  };
  return hung;
}

/** What the lock of a refresh holds in a process that shares nothing with this one. */
async function tokenInNewProcess(): Promise<string | null> {
  await cacheFiring('token');
  vi.resetModules();
  const { createEarlyCache: create } = await import('./early-expiration');
  let token: string | null = null;
  const load = async () => {
    token = await servers.redis.get(lockKey('token'));
    return { name: 'new' };
  };
  await outcome(open({}, create).get('token', load));
  await until(async () => (await nameInRedis('token')) === 'new');
  await servers.redis.del(lockKey('token'));
  return token;
}

/** Waits for the entry that a `get` stores, which its caller need not wait for. */
const stored = (key: string) => until(async () => (await servers.redis.exists(entryKey(key))) === 1);

async function entryIn(key: string) {
  const bytes = await servers.redis.getBuffer(entryKey(key));
  expect(bytes, `the entry of ${key} in Redis`).not.toBeNull();
  return decode<Product>(bytes ?? Buffer.alloc(0));
}

/** The name in the entry; undefined where there is none. */
async function nameInRedis(key: string): Promise<string | undefined> {
  const bytes = await servers.redis.getBuffer(entryKey(key));
  try {
    return bytes ? decode<Product>(bytes).value.name : undefined;
  } catch (error) {
    return String(error);
  }
}

/** It waits for its server as long as it takes, as by default. */
const PATIENT: RedisOptions = { maxRetriesPerRequest: null, retryStrategy: () => 10 };

/** From now on: a deadline from the start would meet a busy machine before it meets a fault. */
function giveUpSoon(redis: Redis): void {
  redis.options.commandTimeout = 100;
}

function waitAsLongAsItTakes(redis: Redis): void {
  redis.options.commandTimeout = undefined;
}

/** A refresh that loses its lock by `lose`, at each of its steps; by each loss under a key of its own. */
async function losingAtEachStep(
  behind: Awaited<ReturnType<typeof redisBehindProxy>>,
  key: string,
  lose: () => Promise<unknown>,
  check: Struck<{ name: string | undefined; lock: string | null }>['check'],
) {
  await strikeAtEachStep(behind, {
    async begin() {
      await servers.redis.del(lockKey(key));
      await cacheFiring(key);
      const source = numberedLoads(servers);
      const { release } = source.hold();
      const call = outcome(open({ redis: behind.redis }).get(key, source.load));
      await until(() => source.loads === 1);
      return { call, endLoad: release };
    },
    strike: lose,
    look: async () => ({ name: await nameInRedis(key), lock: await servers.redis.get(lockKey(key)) }),
    check,
  });
}
