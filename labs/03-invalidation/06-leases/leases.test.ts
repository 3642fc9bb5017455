import type { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { pausingClock } from '#kit/clock';
import { expectTtl } from '#kit/expect-ttl';
import { connected, redisBehindProxy } from '#kit/faulty-redis';
import { signal } from '#kit/gate';
import { begun, countedLoad, heldLoad } from '#kit/loads';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { jsonAt, type Struck, strikeAtEachStep } from '#kit/strikes';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import { type Clock, LoadTimeoutError, leaseKey, systemClock, valueKey } from './given';
import { createLeaseCache } from './leases';

const servers = useServers();

const KEY = 'product:1';
const TIMES = { ttlMs: 57_300, leaseMs: 9_700, waitMs: 3_900 };
/** Does not wait for another caller. */
const AT_ONCE = { ...TIMES, waitMs: 0 };
const OLD = { name: 'old' };
const NEW = { name: 'new' };
const OTHER = 'the token of another caller';
/** A command that may take the lease of `key`. */
const takesLease = (key: string) =>
  new RegExp(`^(SET|EVAL|EVALSHA|FCALL)\\b.*leased:lease:\\{${key}\\}`, 'is');

describe('Core', () => {
  test('a miss loads the value and stores it for ttlMs, a hit gives the same and loads nothing', async () => {
    const cache = openCache();
    const source = countedLoad({ name: 'mug', since: new Date(0), price: null });
    const miss = await cache.getOrLoad(KEY, source.load, TIMES);
    expect(miss, 'a miss must give what was loaded').toMatchObject({ name: 'mug', price: null });
    await until(async () => (await stored(KEY)) !== undefined);
    await expectTtl(servers.redis, valueKey(KEY), TIMES.ttlMs, 'the value must live for ttlMs');
    expect(
      await cache.getOrLoad(KEY, source.load, TIMES),
      'a hit and a miss must give the same: what JSON makes of the value',
    ).toEqual(miss);
    expect(source.loads, 'loads after a miss and a hit: a hit must not load').toBe(1);
    await cache.getOrLoad('none', async () => null, TIMES);
    await until(async () => (await stored('none')) !== undefined);
    expect(
      await cache.getOrLoad<string | null>('none', async () => 'loaded again', TIMES),
      'null is a value: it must be cached',
    ).toBeNull();
    await servers.redis.pexpire(valueKey(KEY), 20_000);
    await cache.getOrLoad(KEY, source.load, TIMES);
    await expectTtl(servers.redis, valueKey(KEY), 20_000, 'a hit must not change the TTL, which was 20,000');
  });

  test('one caller gets the lease and loads, the others wait for its value', async () => {
    const proxy = await openProxy(servers.redisUrl);
    let requests = 0;
    proxy.schedule(async () => void requests++);
    const source = heldLoad(NEW);
    // A token of the time, or of a counter, is that of another process too.
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => void vi.useRealTimers());
    const here = openCache();
    const first = outcome(here.getOrLoad(KEY, source.load, TIMES));
    await begun(source, first);
    const elsewhere = await inNewProcess(servers.connectRedis({}, proxy.url));
    const others = Array.from({ length: 10 }, () => [
      outcome(here.getOrLoad(KEY, source.load, TIMES)),
      outcome(elsewhere.getOrLoad(KEY, source.load, TIMES)),
    ]).flat();
    await until(() => requests >= 20 || source.loads > 1);
    expect(source.loads, 'loads of 21 calls at once: only the holder of the lease must load').toBe(1);
    source.end();
    expect(
      await Promise.all([first, ...others]),
      'values of 21 calls in two processes: one of them loaded, the others must look again until they find it',
    ).toEqual(Array(21).fill(NEW));
    await until(async () => !(await servers.redis.exists(leaseKey(KEY))));
    expect(await servers.redis.exists(leaseKey(KEY)), 'leases left: a fill must remove its lease').toBe(0);
    expect(
      await outcome(here.getOrLoad('product:2', async () => OLD, TIMES)),
      'another key has a lease of its own',
    ).toEqual(OLD);
  });

  test('a lease ends after leaseMs, even if its holder has died', async () => {
    const proxy = await openProxy(servers.redisUrl);
    let bare: string | undefined;
    proxy.schedule(async (request) => {
      const lives = await Promise.all([leaseKey(KEY), valueKey(KEY)].map((key) => servers.redis.pttl(key)));
      if (lives.includes(-1)) bare ??= request;
    });
    const source = heldLoad(NEW);
    const reading = outcome(
      openCache(servers.connectRedis({}, proxy.url)).getOrLoad(KEY, source.load, TIMES),
    );
    await begun(source, reading);
    await expectTtl(servers.redis, leaseKey(KEY), TIMES.leaseMs, 'the lease must live for leaseMs');
    source.end();
    expect(await reading, 'the holder must get what it has loaded').toEqual(NEW);
    expect(
      bare,
      'when this command was sent, the lease or the value had no TTL: if the process dies before it, they stay forever',
    ).toBeUndefined();

    await servers.redis.del(valueKey(KEY));
    await servers.redis.set(leaseKey(KEY), OTHER, 'PX', 40);
    expect(
      await outcome(openCache().getOrLoad(KEY, async () => OLD, TIMES)),
      'the holder has died and its lease has ended: a caller that waits must get the lease, and load',
    ).toEqual(OLD);
    await until(async () => (await stored(KEY)) !== undefined);
    expect(await stored(KEY), 'value in Redis: the new holder of the lease must store').toEqual(OLD);
  });

  test('a load that an invalidation overtakes is neither stored nor shared', async () => {
    const other = openCache();
    const losses: Readonly<Record<string, () => Promise<unknown>>> = {
      'an invalidation came': () => other.invalidate(KEY),
      async 'an invalidation came, and another caller got the new lease'() {
        await other.invalidate(KEY);
        await servers.redis.set(leaseKey(KEY), OTHER, 'PX', 20_000);
      },
      async 'an invalidation came, and another caller stored the new value'() {
        await other.invalidate(KEY);
        await servers.redis.set(valueKey(KEY), JSON.stringify(NEW), 'PX', 20_000);
      },
    };
    for (const [what, lose] of Object.entries(losses)) {
      await losingAtEachStep(lose, 'load', (step, { result, struck, left }) => {
        const when = `${what} ${step === 0 ? 'during the load' : `before command ${step} after the load`}`;
        expect(result, `${when}: the caller must get what was loaded for it`).toEqual(OLD);
        expect(left, `what Redis holds. ${when}: the fill must be refused, and change nothing`).toEqual(
          struck,
        );
      });
    }
    await servers.redis.del(valueKey(KEY), leaseKey(KEY));
    const [before, after] = [heldLoad(OLD), heldLoad(NEW)];
    const cache = openCache();
    const first = outcome(cache.getOrLoad(KEY, before.load, TIMES));
    await begun(before, first);
    await servers.redis.del(valueKey(KEY), leaseKey(KEY));
    const second = outcome(cache.getOrLoad(KEY, after.load, TIMES));
    await begun(after, second);
    expect(
      after.loads,
      'loads of a call that began after an invalidation by another process: it must not share an older load',
    ).toBe(1);
    before.end();
    await first;
    expect(await stored(KEY), 'value in Redis: by now the lease is that of a later call').toBeUndefined();
    after.end();
    expect(await second, 'the later call must get its own value').toEqual(NEW);
  });

  test('an invalidation deletes value and lease in one step, and rejects unless Redis confirms it', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const writer = openCache(servers.connectRedis({}, proxy.url));
    for (let step = 1, sent = 0; sent >= step - 1; step++) {
      sent = 0;
      await servers.redis.del(valueKey(KEY), leaseKey(KEY));
      const source = heldLoad(OLD);
      const reading = outcome(openCache().getOrLoad(KEY, source.load, AT_ONCE));
      await begun(source, reading);
      proxy.schedule(async () => {
        if (++sent !== step) return;
        source.end();
        await reading;
      });
      expect(await outcome(writer.invalidate(KEY), 3000), 'Redis has confirmed: resolve').toBeUndefined();
      proxy.schedule();
      source.end();
      await reading;
      const when = sent < step ? 'after' : `before command ${step} of`;
      expect(
        await stored(KEY),
        `value in Redis: a fill came ${when} the invalidation, and its load had begun earlier`,
      ).toBeUndefined();
    }
    expect(await outcome(writer.invalidate(KEY)), 'there is nothing to delete: resolve').toBeUndefined();
    const away = await behindProxy();
    away.proxy.stall();
    expect(
      await outcome(away.cache.invalidate(KEY)),
      'Redis does not answer: invalidate must reject, or the writer believes that the old value is gone',
    ).toEqual(expect.stringMatching(/^rejected/));
  });

  test('a caller without the lease loads after waitMs, and stores nothing', async () => {
    const cache = openCache();
    await servers.redis.set(leaseKey(KEY), OTHER, 'PX', 20_000);
    const start = performance.now();
    const waited = await outcome(cache.getOrLoad(KEY, async () => NEW, { ...TIMES, waitMs: 60 }));
    expect(waited, 'the lease is held for longer than waitMs: load for this caller').toEqual(NEW);
    expect(performance.now() - start, 'ms that the caller waited, of waitMs 60').toBeGreaterThan(55);
    const [before, after] = [heldLoad(OLD), heldLoad(NEW)];
    const first = outcome(cache.getOrLoad(KEY, before.load, AT_ONCE));
    await begun(before, first);
    expect(before.loads, 'waitMs is 0: load at once').toBe(1);
    await servers.redis.del(valueKey(KEY), leaseKey(KEY));
    await servers.redis.set(leaseKey(KEY), `${OTHER} now`, 'PX', 20_000);
    const second = outcome(cache.getOrLoad(KEY, after.load, AT_ONCE));
    after.end();
    expect(
      await second,
      'an invalidation came between two calls without the lease: the second must not share the load of the first',
    ).toEqual(NEW);
    before.end();
    expect(await first, 'a caller without the lease must get what was loaded for it').toEqual(OLD);
    expect(
      await servers.redis.mget(valueKey(KEY), leaseKey(KEY)),
      'value and lease in Redis: without the lease a caller must change neither',
    ).toEqual([null, `${OTHER} now`]);
    await expectTtl(
      servers.redis,
      leaseKey(KEY),
      20_000,
      'a look must not prolong the lease of another caller',
    );
  });
});

describe('In production', () => {
  test('a load that fails gives back its lease, and only its own', async () => {
    const down = new Error('connect ECONNREFUSED');
    const failing: Readonly<Record<string, () => Promise<unknown>>> = {
      rejects: () => Promise.reject(down),
      throws: () => {
        throw down;
      },
      'gives undefined': async () => undefined,
    };
    for (const [how, load] of Object.entries(failing)) {
      const expected = how === 'gives undefined' ? TypeError : down;
      const error = await soon(rejectionOf(() => openCache().getOrLoad(KEY, load, TIMES)));
      const message = `the load ${how}: the caller must get that error, here a ${how === 'gives undefined' ? 'TypeError' : 'ECONNREFUSED'}`;
      if (expected === down) expect(error, message).toBe(down);
      else expect(error, message).toBeInstanceOf(TypeError);
      // A command that the call did not wait for has been answered too.
      await servers.redis.ping();
      expect(
        await servers.redis.exists(leaseKey(KEY), valueKey(KEY)),
        `keys left by a load that ${how}: without its lease the next caller can load at once`,
      ).toBe(0);
    }
    const lose = () => servers.redis.set(leaseKey(KEY), OTHER, 'PX', 20_000);
    await losingAtEachStep(lose, 'failure', (step, { struck, left }) => {
      const when = step === 0 ? 'during the load' : `before command ${step} after the load`;
      expect(
        left,
        `what Redis holds: another caller got the lease ${when}, and the load failed: its lease must stay`,
      ).toEqual(struck);
    });
  });

  test('a load may take leaseMs from when it begins, and no longer', async () => {
    const unhandled = unhandledRejections();
    const times = { ...AT_ONCE, leaseMs: 40 };
    await servers.redis.set(leaseKey('held'), OTHER, 'PX', 20_000);
    for (const [key, who] of [
      [KEY, 'the holder'],
      ['held', 'a caller without the lease'],
    ] as const) {
      let fail = () => {};
      let isAborted: boolean | undefined;
      const checked = signal();
      const hung = (abort?: AbortSignal) => {
        // Timers fire in the order of their ends, on a busy machine too.
        setTimeout(() => {
          isAborted = abort?.aborted;
          checked.fire();
        }, 60);
        return new Promise<never>((_, reject) => {
          fail = () => reject(new Error('killed'));
        });
      };
      const failure = rejectionOf(() => openCache().getOrLoad(key, hung, times));
      await soon(Promise.race([checked.promise, failure]));
      expect(
        await soon(failure, 300),
        `the load of ${who} hangs: after leaseMs the caller must get a LoadTimeoutError`,
      ).toBeInstanceOf(LoadTimeoutError);
      await soon(checked.promise);
      expect(
        isAborted,
        `whether the signal of ${who} is aborted 60 ms after its load began: leaseMs is 40`,
      ).toBe(true);
      fail();
    }
    const proxy = await openProxy(servers.redisUrl);
    const asks = proxy.hold(takesLease('late'));
    const brief = async () => {
      await systemClock.sleep(5);
      return NEW;
    };
    const cache = openCache(servers.connectRedis({}, proxy.url));
    const late = outcome(cache.getOrLoad('late', brief, times));
    await Promise.race([asks.arrived, late]);
    await systemClock.sleep(60);
    asks.release();
    expect(
      await late,
      'Redis granted the lease after 60 ms: a load must have its 40 ms from when it begins',
    ).toEqual(NEW);
    expect(unhandled(), 'a load that was given up fails later: that must not end the process').toEqual([]);
  });

  test('a call that Redis does not answer loads, and stores nothing', async () => {
    const unanswered = async (fault: 'refuse' | 'blackHole') => {
      const { proxy, redis, cache, errors } = await behindProxy();
      await proxy[fault]();
      // Redis is back before the load ends.
      const load = async () => {
        await proxy.heal();
        await connected(redis);
        return OLD;
      };
      expect(
        await outcome(cache.getOrLoad(fault, load, TIMES)),
        `Redis does not answer (${fault}): the call must load`,
      ).toEqual(OLD);
      expect(errors.length, 'calls of onCacheError: Redis has failed').toBeGreaterThan(0);
      await redis.ping();
      expect(
        await stored(fault),
        'value in Redis: this call has no lease, so nothing shows whether an invalidation has come',
      ).toBeUndefined();
    };
    const silentWhileItWaits = async () => {
      const { proxy, cache } = await behindProxy();
      await servers.redis.set(leaseKey('waiting'), OTHER, 'PX', 20_000);
      let looks = 0;
      proxy.schedule(async () => void looks++);
      const waiting = outcome(cache.getOrLoad('waiting', async () => NEW, TIMES));
      // The second look at the earliest: it takes one command, or two.
      await until(() => looks > 2);
      proxy.blackHole();
      expect(await waiting, 'Redis fell silent while the call waited: it must load').toEqual(NEW);
    };
    const invalidatedByAnother = async () => {
      const { proxy, cache } = await behindProxy();
      proxy.blackHole();
      const before = heldLoad(OLD);
      const first = outcome(cache.getOrLoad('shared', before.load, TIMES));
      await begun(before, first);
      await openCache().invalidate('shared');
      expect(
        await outcome(cache.getOrLoad('shared', async () => NEW, TIMES)),
        'Redis answers another process, which invalidates: a later call must not share the older load',
      ).toEqual(NEW);
      before.end();
      await first;
    };
    await Promise.all([
      unanswered('refuse'),
      unanswered('blackHole'),
      silentWhileItWaits(),
      invalidatedByAnother(),
    ]);
  });

  test('a lease whose grant was not answered is not used', async () => {
    const { proxy, redis, cache } = await behindProxy();
    // The connection is up, and scripts are loaded.
    await outcome(cache.getOrLoad('another key', async () => NEW, TIMES));
    const asking = proxy.hold(takesLease(KEY));
    const source = heldLoad(OLD);
    const reading = outcome(cache.getOrLoad(KEY, source.load, AT_ONCE));
    await Promise.race([asking.arrived, reading]);
    await begun(source, reading);
    // The writer commits here, and invalidates. After that Redis receives the question.
    await openCache().invalidate(KEY);
    asking.release();
    // Redis has executed the question when it answers what came after it.
    await until(async () => (await redis.ping().catch(() => 'late')) === 'PONG');
    source.end();
    expect(await reading, 'Redis did not answer in time: the call must load').toEqual(OLD);
    await redis.ping();
    expect(
      await stored(KEY),
      'value in Redis: the load began, an invalidation came, and only then was the lease granted',
    ).toBeUndefined();
  });

  test('a fill that fails costs its caller nothing', async () => {
    const { proxy, cache, errors } = await behindProxy({ commandTimeout: 3000 });
    const down = new Error('connect ECONNREFUSED');
    const [well, badly] = [heldLoad(NEW), heldLoad(OLD)];
    const value = outcome(cache.getOrLoad('stores', well.load, TIMES));
    const failure = soon(rejectionOf(() => cache.getOrLoad('fails', badly.load, TIMES)));
    await Promise.all([begun(well, value), begun(badly, failure)]);
    await proxy.refuse();
    errors.length = 0;
    well.end();
    badly.fail(down);
    expect(
      await value,
      'Redis went away during the load: the caller must get the value all the same',
    ).toEqual(NEW);
    expect(
      await failure,
      'Redis went away during the load, and the load failed: the caller must get the error of its load',
    ).toBe(down);
    await until(() => errors.length >= 2);
    expect(
      errors.length,
      'calls of onCacheError: the fill and the giving back have failed',
    ).toBeGreaterThanOrEqual(2);
  });

  test('a question that the client sends twice finds its own lease', async () => {
    const proxy = await openProxy(servers.redisUrl);
    const redis = servers.connectRedis({ retryStrategy: () => 1 }, proxy.url);
    const cache = openCache(redis);
    await outcome(cache.getOrLoad('another key', async () => NEW, TIMES));
    const asking = proxy.hold(takesLease(KEY));
    const reading = outcome(
      cache.getOrLoad(KEY, async () => NEW, { ...TIMES, waitMs: 200 }),
      3000,
    );
    await Promise.race([asking.arrived, reading]);
    proxy.delay(5000);
    asking.release();
    await until(async () => (await servers.redis.exists(leaseKey(KEY))) === 1);
    proxy.cut();
    await proxy.heal();
    expect(await reading, 'the connection broke before the answer: the client asks again').toEqual(NEW);
    await redis.ping();
    expect(
      await stored(KEY),
      'value in Redis: the lease that the second question found has the token of this call, so the call must store',
    ).toEqual(NEW);
  });

  test('a value that cannot be decoded is reported, and replaced under a lease', async () => {
    const errors: unknown[] = [];
    const cache = openCache(servers.redis, { onCacheError: (error) => errors.push(error) });
    const damaged = {
      'JSON that was cut off': Buffer.from('{"name":"Ena'),
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'JSON whose text is not UTF-8': Buffer.from('{"name":"\xff"}', 'latin1'),
      'no bytes at all': Buffer.alloc(0),
    };
    for (const [kind, bytes] of Object.entries(damaged)) {
      await servers.redis.set(valueKey(KEY), bytes, 'PX', TIMES.ttlMs);
      errors.length = 0;
      expect(
        await outcome(cache.getOrLoad(KEY, async () => NEW, TIMES)),
        `the value is damaged (${kind}): the call must load`,
      ).toEqual(NEW);
      expect(errors.length, `calls of onCacheError for a damaged value (${kind})`).toBeGreaterThan(0);
      await until(async () => (await servers.redis.get(valueKey(KEY))) === JSON.stringify(NEW));
      expect(await stored(KEY), `value in Redis: damaged bytes (${kind}) must be replaced`).toEqual(NEW);
    }
    await servers.redis.set(valueKey(KEY), '{"name":"Ena', 'PX', TIMES.ttlMs);
    await servers.redis.set(leaseKey(KEY), OTHER, 'PX', 20_000);
    await outcome(cache.getOrLoad(KEY, async () => NEW, AT_ONCE));
    expect(
      await stored(KEY),
      'value in Redis: it is damaged and another caller holds the lease, so only that caller may store',
    ).not.toEqual(NEW);
    await servers.redis.del(leaseKey(KEY));
    await servers.redis.set(valueKey(KEY), '{"name":"Ena', 'PX', TIMES.ttlMs);
    const overtaken = async () => {
      await openCache().invalidate(KEY);
      return OLD;
    };
    await outcome(cache.getOrLoad(KEY, overtaken, TIMES));
    expect(
      await stored(KEY),
      'value in Redis: it was damaged, and an invalidation came during the load that was to replace it',
    ).toBeUndefined();
  });

  test('the last pause ends with waitMs, and one more look follows', async () => {
    const waitMs = 137;
    await servers.redis.set(leaseKey(KEY), OTHER, 'PX', 20_000);
    let isOver = false;
    const clock = pausingClock(async (waited) => {
      if (waited < waitMs - 0.5) return;
      isOver = true;
      await servers.redis.set(valueKey(KEY), JSON.stringify(NEW), 'PX', TIMES.ttlMs);
    });
    const cache = openCache(servers.redis, { clock });
    const result = await outcome(cache.getOrLoad(KEY, async () => OLD, { ...TIMES, waitMs }));
    const waited = clock.pauses.reduce((sum, ms) => sum + ms, 0);
    expect(waited, 'ms of all pauses by clock.sleep: waitMs is 137').toBeGreaterThan(waitMs - 1);
    expect(waited, 'ms of all pauses by clock.sleep: waitMs is 137').toBeLessThan(waitMs + 2);
    expect(isOver, 'whether waitMs has passed').toBe(true);
    expect(result, 'the holder stored "new" during the last pause: the call must find it').toEqual(NEW);
  });

  test('pauses grow, and differ from call to call', async () => {
    await servers.redis.set(leaseKey(KEY), OTHER, 'PX', 20_000);
    const waitMs = 300;
    const proxy = await openProxy(servers.redisUrl);
    let sent = 0;
    let sentMeanwhile = 0;
    proxy.schedule(async () => void sent++);
    const pause = async () => {
      const before = sent;
      await systemClock.sleep(5);
      sentMeanwhile += sent - before;
    };
    const clocks = [pausingClock(pause), pausingClock(pause)] as const;
    for (const clock of clocks) {
      const cache = openCache(servers.connectRedis({}, proxy.url), { clock });
      await outcome(
        cache.getOrLoad(KEY, async () => NEW, { ...TIMES, waitMs }),
        3000,
      );
      const [firstMs = Number.POSITIVE_INFINITY] = clock.pauses;
      expect(firstMs, 'ms of the first pause by clock.sleep: a load of 10 ms must not cost 100').toBeLessThan(
        60,
      );
      const message = 'pauses in 300 ms: a waiting call must not ask Redis every few milliseconds';
      expect(clock.pauses.length, message).toBeLessThan(18);
    }
    expect(sentMeanwhile, 'requests sent during a pause by clock.sleep: a call must wait for its end').toBe(
      0,
    );
    expect(
      clocks[0].pauses.slice(0, 5),
      'the first pauses of two calls, in ms: they must differ, or all callers ask at the same time',
    ).not.toEqual(clocks[1].pauses.slice(0, 5));
  });
});

function openCache(
  redis: Redis = servers.redis,
  options: { clock?: Clock; onCacheError?: (error: unknown) => void } = {},
) {
  return createLeaseCache({ redis, ...options });
}

/** As another process has it: with nothing that this one keeps in its variables. */
async function inNewProcess(redis: Redis) {
  vi.resetModules();
  const { createLeaseCache: create } = await import('./leases');
  return create({ redis });
}

/** A cache whose Redis can be taken away. The connection is up. */
async function behindProxy({ commandTimeout = 80 } = {}) {
  const { proxy, redis } = await redisBehindProxy(servers, {
    commandTimeout,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    retryStrategy: () => 5,
  });
  const errors: unknown[] = [];
  const cache = openCache(redis, { onCacheError: (error) => errors.push(error) });
  return { proxy, redis, cache, errors };
}

/** A load that loses its lease by `lose`, at each of its steps. */
async function losingAtEachStep(
  lose: () => Promise<unknown>,
  end: 'load' | 'failure',
  check: Struck<Awaited<ReturnType<typeof inRedis>>>['check'],
) {
  const behind = await redisBehindProxy(servers);
  const cache = openCache(behind.redis);
  await strikeAtEachStep(behind, {
    async begin() {
      await servers.redis.del(valueKey(KEY), leaseKey(KEY));
      const source = heldLoad(OLD);
      const call = outcome(cache.getOrLoad(KEY, source.load, TIMES));
      await begun(source, call);
      return { call, endLoad: end === 'load' ? source.end : () => source.fail(new Error('deadlock')) };
    },
    strike: lose,
    look: inRedis,
    check,
  });
}

/** Not `pttl`: a lease of another caller may live on. */
async function inRedis() {
  const [value, lease] = await servers.redis.mget(valueKey(KEY), leaseKey(KEY));
  return { value, lease };
}

const stored = (key: string) => jsonAt(servers, valueKey(key));
