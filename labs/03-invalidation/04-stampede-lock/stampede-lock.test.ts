import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { pausingClock } from '#kit/clock';
import { expectTtl } from '#kit/expect-ttl';
import { connected, redisBehindProxy } from '#kit/faulty-redis';
import { begun, countedLoad, heldLoad, hungLoad } from '#kit/loads';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { jsonAt, type Struck, strikeAtEachStep } from '#kit/strikes';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import { type Clock, entryKey, LoadTimeoutError, lockKey, WaitTimeoutError } from './given';
import { createLockedCache } from './stampede-lock';

const servers = useServers();

const KEY = 'product:1';
const TIMES = { freshMs: 57_300, lockMs: 9_700, waitMs: 3_900 };
/** Does not wait for another holder. */
const AT_ONCE = { ...TIMES, waitMs: 0 };
const WITH_STALE = { ...TIMES, staleMs: 31_400 };
const OLD = { name: 'old' };
const NEW = { name: 'new' };
const OTHER = 'the token of another caller';
const WAITED_IN_VAIN = expect.stringMatching(/^rejected: WaitTimeoutError/);
/** A command that may take a lock. */
const TAKES_LOCK = /^(SET|EVAL|EVALSHA|FCALL)\b.*locked:lock/is;

describe('Core', () => {
  test('a miss loads the value and stores it for freshMs, a hit gives the same and loads nothing', async () => {
    const cache = openCache();
    const source = countedLoad({ name: 'mug', since: new Date(0), price: null });
    const miss = await cache.getOrLoad(KEY, source.load, TIMES);
    expect(miss, 'a miss must give what was loaded').toMatchObject({ name: 'mug', price: null });
    await until(async () => (await stored(KEY)) !== undefined);
    await expectTtl(servers.redis, entryKey(KEY), TIMES.freshMs, 'the value must live for freshMs');
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
    await servers.redis.pexpire(entryKey(KEY), 20_000);
    await cache.getOrLoad(KEY, source.load, TIMES);
    await expectTtl(servers.redis, entryKey(KEY), 20_000, 'a hit must not change the TTL, which was 20,000');
  });

  test('one caller takes the lock and loads, the others look again until they find its value', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    let requests = 0;
    proxy.schedule(async () => void requests++);
    const source = heldLoad(NEW);
    const first = outcome(openCache().getOrLoad(KEY, source.load, TIMES));
    await begun(source, first);
    const elsewhere = openCache(redis);
    const others = Array.from({ length: 10 }, () => outcome(elsewhere.getOrLoad(KEY, source.load, TIMES)));
    await until(() => requests >= 5 || source.loads > 1);
    // Their requests so far are answered then, and those that they send after the answers.
    for (let pings = 0; pings < 2; pings++) await redis.ping();
    expect(source.loads, 'loads of 11 calls in two processes: only the holder of the lock must load').toBe(1);
    source.end();
    const values = await Promise.all([first, ...others]);
    expect(
      values,
      'values of 11 calls in two processes: one of them loaded, the others must look again until they find its value',
    ).toEqual(Array(11).fill(NEW));
    expect(
      new Set(values).size,
      'objects that 11 calls got: each needs its own, or a caller that changes its value changes that of others',
    ).toBe(11);
    await until(async () => !(await servers.redis.exists(lockKey(KEY))));
    expect(await servers.redis.exists(lockKey(KEY)), 'locks left: the holder must release its lock').toBe(0);
    await servers.redis.set(lockKey(KEY), OTHER, 'PX', 20_000);
    expect(
      await outcome(openCache().getOrLoad('product:2', async () => OLD, AT_ONCE)),
      'product:1 is locked, and product:2 is not: each key must have a lock of its own',
    ).toEqual(OLD);
  });

  test('a call that has waited for waitMs gets a WaitTimeoutError, and does not load', async () => {
    const source = countedLoad(NEW);
    await servers.redis.set(lockKey(KEY), OTHER, 'PX', 20_000);
    for (const waitMs of [0, 60]) {
      const start = performance.now();
      expect(
        await soon(rejectionOf(() => openCache().getOrLoad(KEY, source.load, { ...TIMES, waitMs }))),
        `the lock stays with another caller, and waitMs is ${waitMs}`,
      ).toBeInstanceOf(WaitTimeoutError);
      expect(performance.now() - start, `ms until the WaitTimeoutError, of waitMs ${waitMs}`).toBeGreaterThan(
        waitMs - 5,
      );
    }
    expect(
      source.loads,
      'loads without the lock: all callers of all processes would load at that moment',
    ).toBe(0);
    expect(await servers.redis.get(lockKey(KEY)), 'the lock of another caller must stay').toBe(OTHER);
    await expectTtl(
      servers.redis,
      lockKey(KEY),
      20_000,
      'a look must not prolong the lock of another caller',
    );
  });

  test('the lock ends after lockMs, even if its holder has died', async () => {
    const proxy = await openProxy(servers.redisUrl);
    let bare: string | undefined;
    proxy.schedule(async (request) => {
      const lives = await Promise.all([lockKey(KEY), entryKey(KEY)].map((key) => servers.redis.pttl(key)));
      if (lives.includes(-1)) bare ??= request;
    });
    const source = heldLoad(NEW);
    const cache = openCache(servers.connectRedis({}, proxy.url));
    const reading = outcome(cache.getOrLoad(KEY, source.load, TIMES));
    await begun(source, reading);
    await expectTtl(servers.redis, lockKey(KEY), TIMES.lockMs, 'the lock must live for lockMs');
    source.end();
    expect(await reading, 'the holder must get what it has loaded').toEqual(NEW);
    expect(
      bare,
      'when this command was sent, the lock or the value had no TTL: if the process dies before it, they stay forever',
    ).toBeUndefined();

    await servers.redis.del(entryKey(KEY));
    await servers.redis.set(lockKey(KEY), OTHER, 'PX', 40);
    expect(
      await outcome(openCache().getOrLoad(KEY, async () => OLD, TIMES)),
      'the holder has died and its lock has expired: a waiting caller must take the lock, and load',
    ).toEqual(OLD);
    await until(async () => (await stored(KEY)) !== undefined);
    expect(await stored(KEY), 'value in Redis: the new holder of the lock must store').toEqual(OLD);
  });

  test('a holder releases its own lock and no other, after a failed load too', async () => {
    const down = new Error('connect ECONNREFUSED');
    const failing: Readonly<Record<string, () => Promise<unknown>>> = {
      rejects: () => Promise.reject(down),
      throws: () => {
        throw down;
      },
      'gives undefined': async () => undefined,
    };
    for (const [how, load] of Object.entries(failing)) {
      const cache = openCache();
      const error = await soon(rejectionOf(() => cache.getOrLoad(how, load, TIMES)));
      if (how === 'gives undefined')
        expect(error, 'the load gave undefined: its caller must get a TypeError').toBeInstanceOf(TypeError);
      else expect(error, `the load ${how}: its caller must get that error`).toBe(down);
      await until(async () => !(await servers.redis.exists(lockKey(how))));
      expect(
        await servers.redis.exists(lockKey(how), entryKey(how)),
        `keys left by a load that ${how}: without its lock the next caller can load at once`,
      ).toBe(0);
      const next = await outcome(cache.getOrLoad(how, async () => NEW, AT_ONCE));
      expect(next, `the call after a load that ${how}: it must load`).toEqual(NEW);
    }
    const lose = () => servers.redis.set(lockKey(KEY), OTHER, 'PX', 20_000);
    for (const end of ['load', 'failure'] as const) {
      await losingAtEachStep(lose, end, (step, { left }) => {
        const when = step === 0 ? `during a ${end}` : `before command ${step} after a ${end}`;
        expect(
          left.lock,
          `the lock expired and another caller took it, ${when}: the lock of that caller must stay`,
        ).toBe(OTHER);
      });
    }
    freezeClocks();
    const tokens = [await tokenInNewProcess(), await tokenInNewProcess()];
    expect(
      tokens[0],
      'tokens in two processes, which have the same process id (as containers have) and the same time: they must differ',
    ).not.toBe(tokens[1]);
  });

  test('a value that was stored before the lock was taken is not loaded again', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    const cache = openCache(redis);
    await outcome(cache.getOrLoad('another key', async () => OLD, TIMES));
    const source = countedLoad(OLD);
    const taking = proxy.hold(TAKES_LOCK);
    const late = outcome(cache.getOrLoad(KEY, source.load, TIMES));
    await Promise.race([taking.arrived, late]);
    // It has looked, if it looks first. Now another caller takes the lock, stores and releases.
    await servers.redis.set(entryKey(KEY), JSON.stringify(NEW), 'PX', TIMES.freshMs);
    taking.release();
    expect(await late, 'another caller has just stored "new": this call must find it').toEqual(NEW);
    expect(
      source.loads,
      'loads of a caller that got the lock after another caller had stored the value and released',
    ).toBe(0);
    await until(async () => !(await servers.redis.exists(lockKey(KEY))));
    expect(
      await servers.redis.exists(lockKey(KEY)),
      'locks left by a call that found the value after all: it must release',
    ).toBe(0);
  });
});

describe('In production', () => {
  test('a holder that has lost its lock stores nothing', async () => {
    const losses: Readonly<Record<string, () => Promise<unknown>>> = {
      'it expired': () => servers.redis.del(lockKey(KEY)),
      'it expired, and another caller took it': () => servers.redis.set(lockKey(KEY), OTHER, 'PX', 20_000),
      'it expired, and another caller took it, stored and released': () =>
        servers.redis.multi().del(lockKey(KEY)).set(entryKey(KEY), JSON.stringify(NEW)).exec(),
    };
    for (const [what, lose] of Object.entries(losses)) {
      await losingAtEachStep(lose, 'load', (step, { result, struck, left }) => {
        const when = `${what} ${step === 0 ? 'during the load' : `before command ${step} after the load`}`;
        expect(result, `the lock: ${when}. The caller must get what was loaded for it`).toEqual(OLD);
        expect(left, `what Redis holds. The lock: ${when}. The holder must change nothing`).toEqual(struck);
      });
    }
    const cache = openCache();
    const [refresh, later] = [heldLoad(OLD), heldLoad(NEW)];
    await storeStale(KEY);
    await begun(refresh, outcome(cache.getOrLoad(KEY, refresh.load, WITH_STALE)));
    await servers.redis.del(entryKey(KEY), lockKey(KEY));
    const calling = outcome(cache.getOrLoad(KEY, later.load, WITH_STALE));
    await begun(later, calling);
    expect(later.loads, 'loads of a call that finds no value: it must not wait for a refresh').toBe(1);
    refresh.end();
    await servers.redis.ping();
    later.end();
    expect(await calling, 'the call must get what was loaded for it').toEqual(NEW);
    await until(async () => (await stored(KEY)) !== undefined);
    expect(
      await stored(KEY),
      'value in Redis: a refresh lost its lock to a later call of the same process, so it must not store',
    ).toEqual(NEW);
  });

  test('a load that takes longer than lockMs is ended before its lock', async () => {
    const unhandled = unhandledRejections();
    const away = await cacheBehindProxy();
    await away.proxy.refuse();
    for (const [who, cache, heeds] of [
      ['under the lock', openCache(), true],
      ['while Redis is away', away.cache, false],
    ] as const) {
      const hung = hungLoad(50, { heedsSignal: heeds });
      expect(
        await soon(rejectionOf(() => cache.getOrLoad(who, hung.load, { ...TIMES, lockMs: 40 }))),
        `a load ${who} hangs, and ${heeds ? 'rejects when its signal is aborted' : 'ignores its signal'}: after lockMs the caller must get a LoadTimeoutError`,
      ).toBeInstanceOf(LoadTimeoutError);
      expect(hung.signal?.aborted, `a load hangs ${who}: its signal must be aborted`).toBe(true);
      expect(hung.stillRan, `a load ${who} still ran after 50 ms, lockMs is 40`).toBe(false);
      hung.fail(new Error('killed'));
    }
    const slow = await redisBehindProxy(servers);
    const taking = slow.proxy.hold(TAKES_LOCK);
    const hung = hungLoad(60);
    const failing = soon(
      rejectionOf(() => openCache(slow.redis).getOrLoad(KEY, hung.load, { ...TIMES, lockMs: 90 })),
    );
    await Promise.race([taking.arrived, failing]);
    slow.proxy.delay(50);
    taking.release();
    expect(await failing, 'Redis answers 50 ms late, and the load hangs').toBeInstanceOf(LoadTimeoutError);
    expect(
      hung.stillRan,
      'the load still ran 60 ms after it had begun. Its lock of 90 ms was taken 50 ms before: Redis answered late',
    ).toBe(false);
    hung.fail(new Error('killed'));
    expect(unhandled(), 'a load that was given up fails later: that must not end the process').toEqual([]);

    const { advance } = freezeClocks();
    await servers.redis.set(lockKey('waited'), OTHER, 'PX', 60_000);
    const clock = pausingClock(async () => {
      advance(2 * TIMES.lockMs);
      await servers.redis.del(lockKey('waited'));
    });
    const load = () => sleep(20, NEW);
    expect(
      await outcome(openCache(servers.redis, { clock }).getOrLoad('waited', load, TIMES)),
      'a call waited for longer than lockMs, then took the lock: its load may take lockMs from there',
    ).toEqual(NEW);
  });

  test('the lock of a late load stays until it expires', async () => {
    const source = heldLoad(OLD);
    const load = async () => {
      // The lock would expire at the same moment. It is made to live longer, so that one can see who deletes it.
      const token = await servers.redis.get(lockKey(KEY));
      await servers.redis.set(lockKey(KEY), token ?? OTHER, 'PX', 20_000);
      return source.load();
    };
    const late = soon(rejectionOf(() => openCache().getOrLoad(KEY, load, { ...TIMES, lockMs: 90 })));
    await begun(source, late);
    expect(await late, 'the load hangs: after lockMs its caller must get a LoadTimeoutError').toBeInstanceOf(
      LoadTimeoutError,
    );
    await servers.redis.ping();
    expect(
      await outcome(openCache().getOrLoad(KEY, async () => NEW, AT_ONCE)),
      'the late load ignores its signal and still asks the source: its lock must keep others from loading beside it',
    ).toEqual(WAITED_IN_VAIN);
    source.end();
  });

  test('a stale value is returned at once, while one caller refreshes it', async () => {
    const caches = [openCache(), openCache(servers.connectRedis())];
    const first = await outcome(openCache().getOrLoad(KEY, async () => OLD, WITH_STALE));
    expect(first, 'a miss must give what was loaded').toEqual(OLD);
    await until(async () => (await stored(KEY)) !== undefined);
    const keptMs = WITH_STALE.freshMs + WITH_STALE.staleMs;
    await expectTtl(servers.redis, entryKey(KEY), keptMs, 'the value must be kept for freshMs + staleMs');
    const source = heldLoad(NEW);
    const readAll = () =>
      Promise.all(
        caches.flatMap((cache) =>
          [1, 2, 3].map(() => outcome(cache.getOrLoad(KEY, source.load, WITH_STALE))),
        ),
      );
    await servers.redis.pexpire(entryKey(KEY), WITH_STALE.staleMs + 5000);
    await readAll();
    await servers.redis.ping();
    expect(source.loads, 'loads while more than staleMs is left of the value: it is still fresh').toBe(0);

    await storeStale(KEY);
    expect(
      await readAll(),
      'less than staleMs is left and the refresh is held: each of 6 calls must get the stale value, and not wait',
    ).toEqual(Array(6).fill(OLD));
    await until(() => source.loads > 0);
    expect(await readAll(), 'the refresh still runs: later calls must get the stale value').toEqual(
      Array(6).fill(OLD),
    );
    expect(source.loads, 'loads of 12 calls in two processes that got a stale value').toBe(1);
    source.end();
    await until(async () => (await servers.redis.get(entryKey(KEY))) === JSON.stringify(NEW));
    expect(await stored(KEY), 'value in Redis after the refresh').toEqual(NEW);
    await expectTtl(servers.redis, entryKey(KEY), keptMs, 'after a refresh the value must be fresh again');
    await until(async () => !(await servers.redis.exists(lockKey(KEY))));
    expect(await servers.redis.exists(lockKey(KEY)), 'locks left after a refresh that stored').toBe(0);

    const { proxy, redis } = await redisBehindProxy(servers);
    await storeStale(KEY);
    const taking = proxy.hold(TAKES_LOCK);
    const again = countedLoad(OLD);
    const late = outcome(openCache(redis).getOrLoad(KEY, again.load, WITH_STALE));
    await Promise.race([taking.arrived, late]);
    await servers.redis.set(entryKey(KEY), JSON.stringify(NEW), 'PX', keptMs);
    taking.release();
    await late;
    await redis.ping();
    expect(
      again.loads,
      'loads of a caller that saw a stale value, and got the lock after another caller had refreshed it',
    ).toBe(0);
  });

  test('a failed refresh is reported, and not repeated before its lock expires', async () => {
    const unhandled = unhandledRejections();
    const errors: unknown[] = [];
    const cache = openCache(servers.redis, { onCacheError: (error) => void errors.push(error) });
    const down = new Error('connect ECONNREFUSED');
    const failing: Readonly<Record<string, () => Promise<typeof OLD>>> = {
      rejects: () => Promise.reject(down),
      throws: () => {
        throw down;
      },
      hangs: () => new Promise(() => {}),
    };
    for (const [how, fail] of Object.entries(failing)) {
      errors.length = 0;
      const signals: (AbortSignal | undefined)[] = [];
      const load = (signal?: AbortSignal) => {
        signals.push(signal);
        return fail();
      };
      const read = (lockMs: number) => outcome(cache.getOrLoad(how, load, { ...WITH_STALE, lockMs }));
      await storeStale(how);
      expect(
        await read(how === 'hangs' ? 40 : TIMES.lockMs),
        `the refresh ${how}: its caller must get the stale value`,
      ).toEqual(OLD);
      await until(() => errors.length > 0);
      const expected = how === 'hangs' ? [expect.any(LoadTimeoutError)] : [down];
      expect(errors, `calls of onCacheError for a refresh that ${how}`).toEqual(expected);
      if (how === 'hangs') {
        expect(signals[0]?.aborted, 'the refresh hangs: its signal must be aborted').toBe(true);
      } else {
        await servers.redis.ping();
        await read(TIMES.lockMs);
        await servers.redis.ping();
        expect(signals.length, `loads of two calls, one after the other, when the refresh ${how}`).toBe(1);
      }
      await servers.redis.del(lockKey(how));
      await read(40);
      await until(() => errors.length > 1);
      expect(signals.length, `loads when the lock of a refresh that ${how} has ended: again one call`).toBe(
        2,
      );
    }
    expect(unhandled(), 'nobody waits for a refresh: its error must not end the process').toEqual([]);
  });

  test('a call that Redis does not answer loads, and stores nothing', async () => {
    const unanswered = async (fault: 'refuse' | 'blackHole') => {
      const { proxy, redis, cache, errors } = await cacheBehindProxy();
      await proxy[fault]();
      // Redis is back before the load ends.
      const load = async () => {
        await proxy.heal();
        await connected(redis);
        return OLD;
      };
      const value = await outcome(cache.getOrLoad(fault, load, TIMES), 3000);
      expect(value, `Redis does not answer (${fault}): the call must load`).toEqual(OLD);
      expect(errors.length, 'calls of onCacheError: Redis has failed').toBeGreaterThan(0);
      await answered(redis);
      expect(
        await stored(fault),
        'value in Redis: the call had no lock, so it must not store',
      ).toBeUndefined();
    };
    const answeredTooLate = async () => {
      const { proxy, redis, cache } = await cacheBehindProxy();
      await outcome(cache.getOrLoad('another key', async () => NEW, TIMES));
      const taking = proxy.hold(TAKES_LOCK);
      const source = heldLoad(OLD);
      const reading = outcome(cache.getOrLoad('late', source.load, AT_ONCE), 3000);
      await begun(source, reading);
      taking.release();
      await until(async () => (await servers.redis.exists(lockKey('late'))) === 1);
      source.end();
      expect(await reading, 'Redis did not answer in time: the call must load').toEqual(OLD);
      await answered(redis);
      expect(
        await stored('late'),
        'value in Redis: the lock was granted after the load had begun, so it must not be used',
      ).toBeUndefined();
    };
    const silentWhileItWaits = async () => {
      const { proxy, cache, errors } = await cacheBehindProxy();
      await servers.redis.set(lockKey('waiting'), OTHER, 'PX', 20_000);
      let looks = 0;
      proxy.schedule(async () => void looks++);
      const waiting = outcome(cache.getOrLoad('waiting', async () => NEW, TIMES));
      await until(() => looks > 1);
      proxy.blackHole();
      expect(await waiting, 'Redis fell silent while the call waited: it must load').toEqual(NEW);
      expect(errors.length, 'calls of onCacheError: Redis fell silent').toBeGreaterThan(0);
    };
    await allOf(unanswered('refuse'), unanswered('blackHole'), answeredTooLate(), silentWhileItWaits());
  });

  test('a store or a release that fails costs its caller nothing', async () => {
    const { proxy, cache, errors } = await cacheBehindProxy({ commandTimeout: 3000 });
    const down = new Error('connect ECONNREFUSED');
    const [well, badly] = [heldLoad(NEW), heldLoad(OLD)];
    const value = outcome(cache.getOrLoad('stores', well.load, TIMES));
    const failure = soon(rejectionOf(() => cache.getOrLoad('fails', badly.load, TIMES)));
    await Promise.all([begun(well, value), begun(badly, failure)]);
    await proxy.refuse();
    errors.length = 0;
    well.end();
    badly.fail(down);
    expect(await value, 'Redis went away during the load: the caller must get the value').toEqual(NEW);
    expect(
      await failure,
      'Redis went away during the load, and the load failed: the caller must get the error of its load',
    ).toBe(down);
    await until(() => errors.length >= 2);
    expect(
      errors.length,
      'calls of onCacheError: the store of one call and the release of another have failed',
    ).toBeGreaterThanOrEqual(2);
    expect(errors, 'errors that onCacheError got: that of the load went to its caller').not.toContain(down);
  });

  test('a value that cannot be decoded is reported, and replaced under the lock', async () => {
    const damaged = {
      'JSON that was cut off': Buffer.from('{"name":"Ena'),
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'JSON whose text is not UTF-8': Buffer.from('{"name":"\xff"}', 'latin1'),
    };
    for (const [kind, bytes] of Object.entries(damaged)) {
      for (const leftMs of [WITH_STALE.staleMs - 3000, WITH_STALE.staleMs + 3000]) {
        const errors: unknown[] = [];
        const cache = openCache(servers.redis, { onCacheError: (error) => void errors.push(error) });
        const read = () => outcome(cache.getOrLoad(KEY, async () => NEW, { ...WITH_STALE, waitMs: 0 }));
        const which = `the value is damaged (${kind}), ${leftMs > WITH_STALE.staleMs ? 'fresh' : 'stale'} by its TTL`;
        await servers.redis.set(entryKey(KEY), bytes, 'PX', leftMs);
        await servers.redis.set(lockKey(KEY), OTHER, 'PX', 20_000);
        expect(await read(), `${which}, and another caller has the lock: this call must wait`).toEqual(
          WAITED_IN_VAIN,
        );
        expect(errors.length, `calls of onCacheError: ${which}`).toBeGreaterThan(0);
        await servers.redis.del(lockKey(KEY));
        expect(await read(), `${which}, and the lock is free: the call must load`).toEqual(NEW);
        await until(async () => (await servers.redis.get(entryKey(KEY))) === JSON.stringify(NEW));
        expect(await stored(KEY), `value in Redis: ${which}: it must be replaced`).toEqual(NEW);
      }
    }
    const source = countedLoad(OLD);
    const { proxy, redis } = await redisBehindProxy(servers);
    const cache = openCache(redis);
    await outcome(cache.getOrLoad('another key', async () => OLD, TIMES));
    await servers.redis.set(entryKey(KEY), 'damaged', 'PX', TIMES.freshMs);
    let sent = 0;
    let isRepaired = false;
    proxy.schedule(async () => {
      if (++sent !== 2 || source.loads > 0) return;
      await servers.redis.set(entryKey(KEY), JSON.stringify(NEW), 'PX', TIMES.freshMs);
      isRepaired = true;
    });
    const repaired = await outcome(cache.getOrLoad(KEY, source.load, TIMES));
    if (isRepaired) expect(repaired, 'another caller replaced the damaged value first').toEqual(NEW);
  });

  test('the last pause ends with waitMs, and one more look follows', async () => {
    const waitMs = 137;
    await servers.redis.set(lockKey(KEY), OTHER, 'PX', 20_000);
    const clock = pausingClock(async (waited) => {
      if (waited < waitMs - 0.5) return;
      await servers.redis.set(entryKey(KEY), JSON.stringify(NEW), 'PX', TIMES.freshMs);
    });
    const cache = openCache(servers.redis, { clock });
    const result = await outcome(cache.getOrLoad(KEY, async () => OLD, { ...TIMES, waitMs }));
    const waited = clock.pauses.reduce((sum, ms) => sum + ms, 0);
    expect(waited, 'ms of all pauses by clock.sleep: waitMs is 137').toBeGreaterThan(waitMs - 1);
    expect(waited, 'ms of all pauses by clock.sleep: waitMs is 137').toBeLessThan(waitMs + 2);
    expect(result, 'the holder stored "new" during the last pause: the call must find it').toEqual(NEW);
  });

  test('pauses grow, and differ from call to call', async () => {
    await servers.redis.set(lockKey(KEY), OTHER, 'PX', 20_000);
    let pausing = 0;
    let pausedAtOnce = 0;
    const pause = async () => {
      pausedAtOnce = Math.max(pausedAtOnce, ++pausing);
      for (let pings = 0; pings < 3; pings++) await servers.redis.ping();
      pausing--;
    };
    const clocks = [pausingClock(pause), pausingClock(pause)] as const;
    for (const clock of clocks) {
      const cache = openCache(servers.redis, { clock });
      await outcome(
        cache.getOrLoad(KEY, async () => NEW, { ...TIMES, waitMs: 900 }),
        3000,
      );
      const [firstMs = Number.POSITIVE_INFINITY] = clock.pauses;
      expect(firstMs, 'ms of the first pause by clock.sleep: a load of 10 ms must not cost 100').toBeLessThan(
        60,
      );
      const message = 'pauses in 900 ms: a waiting call must not ask Redis every few milliseconds';
      expect(clock.pauses.length, message).toBeLessThan(45);
      expect(Math.max(...clock.pauses), 'ms of the longest pause').toBeLessThan(600);
      expect(
        pausedAtOnce,
        'pauses of one call at the same time: a look must wait for the end of a pause',
      ).toBe(1);
    }
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
  return createLockedCache({ redis, ...options });
}

/** A cache whose Redis can be taken away. The connection is up. */
async function cacheBehindProxy({ commandTimeout = 80 } = {}) {
  const { proxy, redis } = await redisBehindProxy(servers, {
    commandTimeout,
    maxRetriesPerRequest: 0,
    enableOfflineQueue: false,
    retryStrategy: () => 5,
  });
  const errors: unknown[] = [];
  const cache = openCache(redis, { onCacheError: (error) => void errors.push(error) });
  return { proxy, redis, cache, errors };
}

/** What was sent before is answered. The ping itself may be late on a slow machine. */
const answered = (redis: Redis) =>
  until(() =>
    redis.ping().then(
      () => true,
      () => false,
    ),
  );

/** A value that is old enough to be refreshed. */
const storeStale = (key: string) =>
  servers.redis.set(entryKey(key), JSON.stringify(OLD), 'PX', WITH_STALE.staleMs - 3000);

/** Stops the clocks that code may read. Timers go on. */
function freezeClocks(): { advance(ms: number): void } {
  vi.useFakeTimers({ toFake: ['Date', 'performance', 'hrtime'] });
  onTestFinished(() => void vi.useRealTimers());
  return { advance: (ms) => void vi.advanceTimersByTime(ms) };
}

/** What the lock of a call holds in a process that shares nothing with this one. */
async function tokenInNewProcess(): Promise<string | null> {
  vi.resetModules();
  const { createLockedCache: create } = await import('./stampede-lock');
  let token: string | null = null;
  const load = async () => {
    token = await servers.redis.get(lockKey('token'));
    throw new Error('deadlock');
  };
  await outcome(create({ redis: servers.redis }).getOrLoad('token', load, TIMES));
  await servers.redis.del(lockKey('token'));
  return token;
}

/** All scenes to their end, then the first failure. */
async function allOf(...scenes: readonly Promise<void>[]) {
  await Promise.allSettled(scenes);
  await Promise.all(scenes);
}

/** A load that loses its lock by `lose`, at each of its steps. Beside it another call ends, on the same connection. */
async function losingAtEachStep(
  lose: () => Promise<unknown>,
  end: 'load' | 'failure',
  check: Struck<Awaited<ReturnType<typeof inRedis>>>['check'],
) {
  const behind = await redisBehindProxy(servers);
  const cache = openCache(behind.redis);
  await strikeAtEachStep(behind, {
    async begin() {
      await servers.redis.del(entryKey(KEY), lockKey(KEY), entryKey('beside'), lockKey('beside'));
      const [beside, source] = [heldLoad(OLD), heldLoad(OLD)];
      const callBeside = outcome(cache.getOrLoad('beside', beside.load, TIMES));
      const call = outcome(cache.getOrLoad(KEY, source.load, TIMES));
      await Promise.all([begun(beside, callBeside), begun(source, call)]);
      return {
        call,
        endLoad() {
          beside.end();
          if (end === 'load') source.end();
          else source.fail(new Error('deadlock'));
        },
      };
    },
    strike: lose,
    look: inRedis,
    check,
  });
}

async function inRedis() {
  const [value, lock] = await servers.redis.mget(entryKey(KEY), lockKey(KEY));
  return { value, lock };
}

const stored = (key: string) => jsonAt(servers, entryKey(key));
