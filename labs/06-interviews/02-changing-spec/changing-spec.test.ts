import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis, RedisOptions } from 'ioredis';
import { describe, expect, test, vi } from 'vitest';
import { fakeClock } from '#kit/clock';
import { usedMb } from '#kit/effort';
import { connected, redisBehindProxy } from '#kit/faulty-redis';
import { begun, countedLoad, type HeldLoad, heldLoad } from '#kit/loads';
import type { FaultyProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import { type Cache, createCache, type Options } from './changing-spec';
import { LoadTimeoutError } from './given';

const servers = useServers();

const KEY = 'product:1';
const [TTL_MS, STALE_MS, RETRY_MS, SYNC_MS] = [1_000, 5_000, 700, 300];
const OLD = { name: 'old' };
const NEW = { name: 'new' };
const DOWN = new Error('connect ECONNREFUSED');
const fails = () => Promise.reject(DOWN);
const REJECTION = expect.stringMatching(/^rejected/);
/** A client whose commands fail soon. */
const HASTY: RedisOptions = {
  commandTimeout: 80,
  maxRetriesPerRequest: 0,
  enableOfflineQueue: false,
  retryStrategy: () => 5,
};
/** More than a busy machine needs; a right version takes none of it. */
const PATIENT_MS = 3_000;

describe('Core', () => {
  test('step 1: a value is loaded once, and again when ttlMs have passed by the given clock', async () => {
    for (const value of [NEW, null, 0, '', false]) {
      const { cache, clock } = openCache();
      const source = countedLoad<unknown>(value);
      const shown = JSON.stringify(value);
      const read = () => soon(cache.get(KEY, source.load));
      expect(await read(), `a miss must give what was loaded, here ${shown}`).toEqual(value);
      clock.advance(600);
      expect(await read(), 'a hit must give what the miss gave').toEqual(value);
      clock.advance(399);
      await read();
      expect(source.loads, `loads of ${shown} in 999 ms, with ttlMs 1,000`).toBe(1);
      clock.advance(2);
      expect(await read(), 'the value has expired: it must be loaded again').toEqual(value);
      expect(source.loads, `loads of ${shown} in 1,001 ms, with ttlMs 1,000 and a hit at 999`).toBe(2);
    }
  });

  test('step 1: at most maxEntries values are kept, and the least recently used leaves first', async () => {
    const { cache } = openCache({ maxEntries: 3 });
    const loaded: string[] = [];
    const read = (key: string) => cache.get(key, async () => loaded.push(key));
    for (const key of ['a', 'b', 'c', 'a', 'd']) await read(key);
    loaded.length = 0;
    for (const key of ['a', 'c', 'd']) await read(key);
    expect(loaded, 'reloaded: these are the three last used keys, and maxEntries is 3').toEqual([]);
    await read('b');
    expect(loaded, 'reloaded: b was used before three other keys, and maxEntries is 3').toEqual(['b']);
    for (const key of ['b', 'd', 'c']) await read(key);
    expect(loaded, 'reloaded: b has replaced a, and no other key').toEqual(['b']);

    const full = openCache({ maxEntries: 2 });
    const readFull = (key: string) => full.cache.get(key, async () => loaded.push(key));
    await readFull('first');
    full.clock.advance(TTL_MS - 1);
    await readFull('second');
    full.clock.advance(2);
    loaded.length = 0;
    for (const key of ['first', 'second']) await readFull(key);
    expect(loaded, 'reloaded: first has expired, and its new value takes the place of the old one').toEqual([
      'first',
    ]);
  });

  test('step 1: after invalidate, and after a load that failed, the next read loads', async () => {
    const { cache } = openCache();
    await cache.get(KEY, async () => OLD);
    await cache.get('other', async () => OLD);
    expect(await outcome(cache.invalidate(KEY)), 'invalidate must resolve').toBeUndefined();
    expect(await outcome(cache.invalidate('unknown')), 'nothing to forget: resolve').toBeUndefined();
    const source = countedLoad(NEW);
    expect(await cache.get(KEY, source.load), 'value after invalidate').toEqual(NEW);
    expect(await cache.get('other', source.load), 'value of a key that was not invalidated').toEqual(OLD);

    const throwing = () => {
      throw DOWN;
    };
    for (const [how, load] of Object.entries({ rejects: fails, throws: throwing })) {
      const failure = soon(rejectionOf(() => cache.get(how, load)));
      expect(await failure, `the load ${how}: get must reject with that error`).toBe(DOWN);
      expect(
        await outcome(cache.get(how, source.load)),
        `the load before ${how}: a failure must not be kept`,
      ).toEqual(NEW);
    }
  });

  test('step 2: concurrent reads of one key load it once, and share its value or its error', async () => {
    const unhandled = unhandledRejections();
    const { cache, clock } = openCache();
    for (const time of ['missing', 'expired']) {
      const source = heldLoad(NEW);
      const readers = Array.from({ length: 100 }, () => outcome(cache.get(KEY, source.load)));
      await begun(source, Promise.all(readers));
      expect(
        await atOnce(
          cache.get(`${time} other`, async () => OLD),
          source,
        ),
        'another key must not wait for this load',
      ).toEqual(OLD);
      expect(
        await atOnce(
          openCache().cache.get(KEY, async () => OLD),
          source,
        ),
        'another cache has loads of its own',
      ).toEqual(OLD);
      clock.advance(20_000);
      readers.push(outcome(cache.get(KEY, source.load)));
      source.end();
      expect(
        distinct(await Promise.all(readers)),
        `values of 101 readers of a ${time} key, the last one 20 s later by the clock`,
      ).toEqual([NEW]);
      expect(
        source.loads,
        `loads for 101 concurrent readers of a ${time} key, the last one 20 s later by the clock`,
      ).toBe(1);
      clock.advance(TTL_MS + 1);
    }
    const failing = heldLoad(NEW);
    const readers = Array.from({ length: 100 }, () => rejectionOf(() => cache.get(KEY, failing.load)));
    await begun(failing, Promise.all(readers));
    failing.fail(DOWN);
    const errors = await soon(Promise.all(readers));
    expect(new Set(errors), 'errors of 100 readers of one load that failed').toEqual(new Set([DOWN]));
    expect(failing.loads, 'loads for 100 concurrent readers, where the load fails').toBe(1);
    expect(
      await outcome(cache.get(KEY, async () => NEW)),
      'the load has failed: the next read must load',
    ).toEqual(NEW);
    await sleep(0);
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);
  });

  test('step 2: a load that an invalidation overtakes is neither kept nor joined', async () => {
    const { cache } = openCache();
    const [before, after, never] = [heldLoad(OLD), heldLoad(NEW), countedLoad(NEW)];
    const first = outcome(cache.get(KEY, before.load));
    await begun(before, first);
    expect(
      await outcome(cache.invalidate(KEY)),
      'invalidate must resolve while a load is running',
    ).toBeUndefined();
    const second = outcome(cache.get(KEY, after.load));
    await begun(after, second);
    expect(after.loads, 'loads of a read after invalidate: it must not join an older load').toBe(1);
    before.end();
    // Until the older load has ended; a reader that reads again waits for the newer one.
    await Promise.race([first, sleep(50)]);
    const third = outcome(cache.get(KEY, never.load));
    await sleep(0);
    after.end();
    expect(await second, 'value of the second reader').toEqual(NEW);
    expect(await third, 'value of a third reader: the older load must not be kept').toEqual(NEW);
    expect(
      [OLD, NEW],
      'value of a reader that began before invalidate: the old one, or after it has read again the new one',
    ).toContainEqual(await first);
    expect(never.loads, 'loads of the third reader: the second load was still running').toBe(0);

    const late = heldLoad(OLD);
    const reading = outcome(cache.get('late', onlyOnce(late)));
    await begun(late, reading);
    await cache.invalidate('late');
    late.end();
    await reading;
    expect(
      await cache.get('late', async () => NEW),
      'value after a load that invalidate has overtaken: it must not be kept',
    ).toEqual(NEW);
  });

  test('step 2: keys that are used once leave no memory behind', async () => {
    const { cache } = openCache({ maxEntries: 10 });
    const uses: Readonly<Record<string, (key: string) => Promise<unknown>>> = {
      'that were loaded': (key) => cache.get(key, async () => NEW),
      'whose load failed': (key) => cache.get(key, fails).catch(() => {}),
      'that were invalidated': (key) => cache.invalidate(key),
    };
    for (const [kind, use] of Object.entries(uses)) {
      await use(longKey(0));
      const before = usedMb();
      for (let n = 1; n <= 1_000; n++) await use(longKey(n));
      expect(
        usedMb() - before,
        `MB that are kept after 1,000 keys ${kind}, of 10,000 characters each; maxEntries is 10`,
      ).toBeLessThan(5);
    }
  });
});

describe('In production', () => {
  test('step 3: an expired value is served at once, while one load refreshes it', async () => {
    const { cache, clock, errors } = openStale();
    await cache.get(KEY, async () => OLD);
    clock.advance(TTL_MS + 1);
    const source = heldLoad(NEW);
    const reads = Array.from({ length: 100 }, () => atOnce(cache.get(KEY, source.load), source));
    expect(
      distinct(await Promise.all(reads)),
      'what 100 readers got 1 ms after the end of the TTL, while the refresh was running: nobody must wait',
    ).toEqual([OLD]);
    await soon(source.begun);
    expect(source.loads, 'refreshes for 100 readers').toBe(1);
    source.end();
    const fresh = async () => cache.get(KEY, source.load);
    await until(async () => (await fresh()).name === 'new');
    expect(await fresh(), 'value after the refresh').toEqual(NEW);
    clock.advance(TTL_MS - 2);
    await fresh();
    expect(source.loads, 'loads until the end of the new TTL').toBe(1);
    clock.advance(3);
    const failing = heldLoad(NEW);
    for (let n = 0; n < 10; n++) await atOnce(cache.get(KEY, failing.load), failing);
    await soon(failing.begun);
    failing.fail(DOWN);
    await sleep(0);
    expect(errors, 'errors reported: one refresh has failed, while ten readers came').toEqual([DOWN]);
  });

  test('step 3: no value is served for longer than staleMs after it has expired', async () => {
    const { cache, clock } = openStale();
    for (const key of [KEY, 'quiet', 'failing']) await cache.get(key, async () => OLD);
    clock.advance(TTL_MS + STALE_MS - 10);
    const source = heldLoad(NEW);
    expect(
      await atOnce(cache.get(KEY, source.load), source),
      'value 10 ms before the end of staleMs, while the refresh was running',
    ).toEqual(OLD);
    await soon(source.begun);
    expect(await outcome(cache.get('failing', fails)), 'value whose refresh fails').toEqual(OLD);
    await sleep(0);
    clock.advance(20);
    expect(
      await soon(rejectionOf(() => cache.get('failing', fails))),
      'error of a read 10 ms after the end of staleMs, where each load fails',
    ).toBe(DOWN);
    const reading = outcome(cache.get(KEY, source.load), PATIENT_MS);
    const quiet = cache.get('quiet', async () => NEW);
    expect(await outcome(quiet), 'value 10 ms after the end of staleMs: it must be loaded').toEqual(NEW);
    source.end();
    expect(
      await reading,
      'value 10 ms after the end of staleMs: the read must wait for the refresh that is running',
    ).toEqual(NEW);
    expect(source.loads, 'loads: the read must join the refresh').toBe(1);
  });

  test('step 3: a refresh that fails costs no reader, is reported, and is repeated after retryMs', async () => {
    const unhandled = unhandledRejections();
    const { cache, clock, errors } = openStale();
    await cache.get(KEY, async () => OLD);
    let loads = 0;
    const failing = () => {
      loads++;
      if (loads % 2 === 1) throw DOWN;
      return fails();
    };
    const readTenTimes = async () => {
      for (let n = 0; n < 10; n++) {
        expect(await outcome(cache.get(KEY, failing)), 'value while each refresh fails').toEqual(OLD);
        await sleep(0);
      }
    };
    clock.advance(TTL_MS + 1);
    await readTenTimes();
    expect(errors, 'errors reported: the first refresh has failed').toEqual([DOWN]);
    clock.advance(RETRY_MS - 10);
    await readTenTimes();
    expect(loads, `refreshes in ${RETRY_MS - 10} ms by the clock: retryMs is ${RETRY_MS}`).toBe(1);
    clock.advance(20);
    await readTenTimes();
    expect(loads, `refreshes in ${RETRY_MS + 10} ms by the clock: retryMs is ${RETRY_MS}`).toBe(2);
    expect(errors, 'errors reported: the second refresh has failed').toEqual([DOWN, DOWN]);
    clock.advance(RETRY_MS);
    const slow = heldLoad(NEW);
    await atOnce(cache.get(KEY, slow.load), slow);
    await soon(slow.begun);
    clock.advance(RETRY_MS);
    slow.fail(DOWN);
    await sleep(0);
    await readTenTimes();
    expect(
      loads - 2,
      'refreshes after one that took retryMs and failed just now: the pause begins then',
    ).toBe(0);
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);
  });

  test('step 3: a load that hangs is given up after timeoutMs, and the next read loads', async () => {
    const unhandled = unhandledRejections();
    const timers = activeTimers();
    await openCache({ timeoutMs: 60_000 }).cache.get(KEY, async () => NEW);
    expect(activeTimers() - timers, 'timers left by a load that has ended').toBeLessThanOrEqual(0);

    const { cache, clock, errors } = openStale({ timeoutMs: 40 });
    const hung = hungLoad();
    expect(
      await soon(rejectionOf(() => cache.get(KEY, hung.load))),
      'the load hangs and timeoutMs is 40: get must reject with a LoadTimeoutError',
    ).toBeInstanceOf(LoadTimeoutError);
    expect(hung.isAborted(), 'whether the signal of the load that was given up is aborted').toBe(true);
    expect(
      await outcome(cache.get(KEY, async () => NEW)),
      'a load was given up: the next read must load',
    ).toEqual(NEW);
    hung.end();
    await sleep(0);
    expect(await cache.get(KEY, async () => NEW), 'a load that was given up must not be kept').toEqual(NEW);

    clock.advance(TTL_MS + 1);
    const again = hungLoad();
    expect(await atOnce(cache.get(KEY, again.load), again), 'value while its refresh hangs').toEqual(NEW);
    await until(() => errors.length > 0);
    expect(errors, 'errors reported: the refresh was given up').toEqual([expect.any(LoadTimeoutError)]);
    again.fail(DOWN);
    clock.advance(RETRY_MS + 1);
    const source = countedLoad(OLD);
    await cache.get(KEY, source.load);
    await until(() => source.loads > 0);
    expect(source.loads, 'refreshes after the one that hung').toBe(1);
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);
  });

  test('step 3: an invalidation removes an expired value too, and cancels its refresh', async () => {
    for (const end of ['succeeds', 'fails']) {
      const { cache, clock } = openStale();
      await cache.get(KEY, async () => OLD);
      clock.advance(TTL_MS + 1);
      const refresh = heldLoad(OLD);
      expect(await atOnce(cache.get(KEY, onlyOnce(refresh)), refresh), 'value of an expired key').toEqual(
        OLD,
      );
      await soon(refresh.begun);
      await cache.invalidate(KEY);
      if (end === 'succeeds') refresh.end();
      else refresh.fail(DOWN);
      await sleep(0);
      const source = countedLoad(NEW);
      const message = `value after invalidate, where the refresh that was running ${end}`;
      expect(await outcome(cache.get(KEY, source.load)), message).toEqual(NEW);
      expect(await outcome(cache.get(KEY, source.load)), message).toEqual(NEW);
      expect(
        source.loads,
        `loads after invalidate, where the refresh that was running ${end}`,
      ).toBeLessThanOrEqual(1);
    }
  });

  test('step 4: two processes load a value once, and share it', async () => {
    const [one, two] = [openProcess(), openProcess({}, 7_000_000)];
    const source = heldLoad(NEW);
    const first = outcome(one.cache.get(KEY, source.load), PATIENT_MS);
    await begun(source, first);
    const longest = longestBurst(two.redis);
    const others = Array.from({ length: 10 }, () => outcome(two.cache.get(KEY, source.load), PATIENT_MS));
    // Redis answers the other process as often, unless that pauses.
    for (let n = 0; n < 40; n++) await servers.redis.ping();
    source.end();
    expect(distinct(await Promise.all([first, ...others])), 'values of 11 readers in two processes').toEqual([
      NEW,
    ]);
    expect(source.loads, 'loads for 11 readers in two processes').toBe(1);
    expect(
      longest(),
      'commands in a row, each sent as soon as Redis had answered: a process that waits must pause',
    ).toBeLessThan(10);
    const third = openProcess({ maxEntries: 1 }, 3_000);
    expect(
      await third.cache.get(KEY, async () => OLD),
      'value for a process that starts later: it must come from Redis',
    ).toEqual(NEW);
    const keys = await servers.redis.keys(`*${KEY}*`);
    const ttls = await Promise.all(keys.map((key) => servers.redis.pttl(key)));
    expect(
      keys.filter((_, at) => ttls[at] === -1),
      'keys in Redis without a TTL: they would stay forever',
    ).toEqual([]);

    await third.cache.get('other', async () => NEW);
    await servers.redis.flushdb();
    expect(
      await third.cache.get(KEY, async () => OLD),
      'value of a key that Redis has lost, after another key was read: maxEntries is 1',
    ).toEqual(OLD);
    for (const key of keys) await servers.redis.pexpire(key, 5_000);
    const late = openProcess({ syncMs: 60_000 });
    await late.cache.get(KEY, async () => OLD);
    await servers.redis.flushdb();
    late.clock.advance(5_001);
    expect(
      await late.cache.get(KEY, async () => NEW),
      'value 5,001 ms after Redis said that it lives for 5,000 ms, where syncMs is 60,000',
    ).toEqual(NEW);
  });

  test('step 4: both processes serve an expired value, while one of them refreshes it', async () => {
    const times = { ttlMs: 60, staleMs: 60_000, syncMs: 5 };
    const [one, two] = [openProcess(times), openProcess(times)];
    const pass = async (ms: number) => {
      await sleep(ms);
      for (const { clock } of [one, two]) clock.advance(ms);
    };
    for (const { cache } of [one, two]) await cache.get(KEY, async () => OLD);
    await pass(80);
    const [refresh, second] = [heldLoad(NEW), countedLoad(NEW)];
    expect(
      await atOnce(one.cache.get(KEY, refresh.load), refresh),
      'the value has expired and may be stale: nobody must wait for its refresh',
    ).toEqual(OLD);
    await soon(refresh.begun);
    expect(await outcome(two.cache.get(KEY, second.load)), 'value in the other process').toEqual(OLD);
    await sleep(10);
    expect(second.loads, 'loads of the other process, while the refresh is running').toBe(0);
    refresh.end();
    const fresh = async () => {
      await pass(6);
      return two.cache.get(KEY, second.load);
    };
    await until(async () => (await fresh()).name === 'new');
    expect(await fresh(), 'value in the other process after the refresh').toEqual(NEW);

    const failing = openProcess({ ttlMs: 30, staleMs: 60_000, syncMs: 5, retryMs: 60_000 });
    let loads = 0;
    const fails = () => {
      loads++;
      return Promise.reject(DOWN);
    };
    await failing.cache.get('failing', async () => OLD);
    for (const ms of [50, 6, 6]) {
      await sleep(ms);
      failing.clock.advance(ms);
      const reading = outcome(failing.cache.get('failing', fails));
      expect(await reading, 'value whose refresh fails').toEqual(OLD);
      await until(() => failing.errors.length > 0);
    }
    expect(loads, 'refreshes in a few ms, where each fails: retryMs is 60,000').toBe(1);
    expect(failing.errors, 'errors reported: the refresh has failed').toEqual([DOWN]);
  });

  test('step 4: an invalidation holds at once in its process, and within syncMs in the other one', async () => {
    const [one, two] = [openProcess(), openProcess()];
    const fresh = async () => NEW;
    const directions = [
      ['copied', one, two],
      ['loaded', two, one],
    ] as const;
    for (const [how, writer, reader] of directions) {
      for (const { cache } of [one, two]) await cache.get(how, async () => OLD);
      expect(await outcome(writer.cache.invalidate(how)), 'Redis has confirmed it: resolve').toBeUndefined();
      expect(await writer.cache.get(how, fresh), 'value in the process that has invalidated').toEqual(NEW);
      reader.clock.advance(SYNC_MS + 1);
      expect(
        await reader.cache.get(how, fresh),
        `what the other process had ${how}, ${SYNC_MS + 1} ms later by its clock: syncMs is ${SYNC_MS}`,
      ).toEqual(NEW);
    }

    const [joined, alone] = [heldLoad(OLD), heldLoad(OLD)];
    const readers = [
      outcome(two.cache.get('joined', joined.load), PATIENT_MS),
      outcome(two.cache.get('alone', alone.load), PATIENT_MS),
    ];
    await begun(joined, Promise.all(readers));
    await begun(alone, Promise.all(readers));
    for (const key of ['joined', 'alone']) await one.cache.invalidate(key);
    two.clock.advance(SYNC_MS + 1);
    const later = heldLoad(NEW);
    const second = outcome(two.cache.get('joined', later.load), PATIENT_MS);
    // Until it loads; a read that has joined the older load never does.
    await Promise.race([later.begun, sleep(200)]);
    for (const load of [joined, alone]) load.end();
    await Promise.all(readers);
    later.end();
    expect(
      await second,
      'a load was running when the other process invalidated: later than syncMs, nobody must join it',
    ).toEqual(NEW);
    for (const [at, { cache }] of [two, one].entries())
      for (const key of ['joined', 'alone']) {
        expect(
          await cache.get(key, fresh),
          `value in process ${2 - at}, later than syncMs: a load that was running must not be kept`,
        ).toEqual(NEW);
      }
  });

  test('step 4: a process that dies or fails delays the other one by its lease at most', async () => {
    const { proxy, redis } = await redisBehindProxy(servers, { commandTimeout: 5_000 });
    const dying = openProcess({ redis, timeoutMs: 100 });
    const lost = heldLoad(OLD);
    const first = outcome(dying.cache.get(KEY, lost.load), PATIENT_MS);
    await begun(lost, first);
    proxy.blackHole();
    const two = openProcess();
    expect(
      await outcome(
        two.cache.get(KEY, async () => NEW),
        PATIENT_MS,
      ),
      'a process with timeoutMs 100 has died during its load: the other one must load',
    ).toEqual(NEW);

    const failing = openProcess({ retryMs: 60_000 });
    await outcome(failing.cache.get('failing', fails));
    // Redis has done what was sent before.
    for (let n = 0; n < 2; n++) await failing.redis.ping();
    expect(
      await servers.redis.keys('*failing*'),
      'keys left by a load that failed: the other process must be able to load at once',
    ).toEqual([]);

    const slow = heldLoad(OLD);
    const third = outcome(two.cache.get('slow', slow.load), PATIENT_MS);
    await begun(slow, third);
    const start = performance.now();
    const impatient = openProcess({ timeoutMs: 60 });
    const readSlow = (value: unknown, { cache } = impatient) =>
      outcome(
        cache.get('slow', async () => value),
        PATIENT_MS,
      );
    expect(
      await readSlow(NEW),
      'the other process loads for longer than timeoutMs, here 60: this one must load',
    ).toEqual(NEW);
    expect(performance.now() - start, 'ms that it has waited, of timeoutMs 60').toBeGreaterThan(55);
    expect(
      await readSlow('its own', openProcess({ timeoutMs: 60 })),
      'value in a third process: what was loaded without the lease must not be in Redis',
    ).toBe('its own');
    slow.end();
    await third;
    impatient.clock.advance(SYNC_MS + 1);
    expect(
      await readSlow(NEW),
      'value later than syncMs, after the holder of the lease has stored it: it must come from Redis',
    ).toEqual(OLD);
  });

  test('step 4: without Redis a read still loads once, and an invalidation rejects', async () => {
    const { proxy, redis } = await redisBehindProxy(servers, HASTY);
    const { cache, clock, errors } = openProcess({ redis }, 5_000);
    const { value, error } = await awayDuringLoads(cache, proxy);
    expect(value, 'Redis went away during the load: the caller must get the value').toEqual(NEW);
    expect(
      error,
      'Redis went away, and then the load failed: the caller must get the error of the load',
    ).toBe(DOWN);
    expect(errors.length, 'errors reported: Redis has not stored the value').toBeGreaterThan(0);
    errors.length = 0;

    const source = countedLoad(NEW);
    const readers = Array.from({ length: 10 }, () => outcome(cache.get(KEY, source.load), PATIENT_MS));
    expect(distinct(await Promise.all(readers)), 'values of 10 readers while Redis does not answer').toEqual([
      NEW,
    ]);
    await cache.get(KEY, source.load);
    expect(source.loads, 'loads for 11 reads while Redis does not answer, within syncMs').toBe(1);
    expect(errors.length, 'errors reported: Redis has not said whether it has the value').toBeGreaterThan(0);
    clock.advance(SYNC_MS + 1);
    const other = countedLoad(NEW);
    await Promise.all([cache.get(KEY, source.load), cache.get('during', other.load)]);
    expect(
      [source.loads, other.loads],
      'loads of two keys later than syncMs: another process may have invalidated them',
    ).toEqual([2, 1]);
    expect(
      await outcome(cache.invalidate(KEY), PATIENT_MS),
      'Redis does not answer: invalidate must reject, or the writer believes that the old value is gone',
    ).toEqual(REJECTION);
    expect(
      await outcome(
        cache.get(KEY, async () => OLD),
        PATIENT_MS,
      ),
      'value after an invalidation that rejected: this process must have forgotten the key',
    ).toEqual(OLD);
    await proxy.heal();
    await connected(redis);
    expect(await outcome(cache.invalidate(KEY)), 'Redis is back: resolve').toBeUndefined();
    // Where a busy machine answers too late, a lease has no owner: wait for it no longer than this.
    const two = openProcess({ timeoutMs: 100 });
    let n = 0;
    let shared: unknown;
    // With other keys, where a busy machine has not answered in time.
    await until(async () => {
      const key = `back ${n++}`;
      await cache.get(key, async () => NEW);
      shared = await two.cache.get(key, async () => OLD);
      return JSON.stringify(shared) === JSON.stringify(NEW);
    });
    expect(shared, 'Redis is back: processes must share values again').toEqual(NEW);
  });
});

function openCache(options: Partial<Options> = {}, startMs = 0) {
  const clock = fakeClock(startMs);
  const errors: unknown[] = [];
  const cache = createCache({
    ttlMs: TTL_MS,
    maxEntries: 1_000,
    now: clock.now,
    onError: (error) => errors.push(error),
    ...options,
  });
  return { cache, clock, errors };
}

const openStale = (options: Partial<Options> = {}) =>
  openCache({ staleMs: STALE_MS, retryMs: RETRY_MS, ...options });

/** Redis goes away while two keys are loaded. Then one load ends, and the other one fails. */
async function awayDuringLoads(cache: Cache, proxy: Pick<FaultyProxy, 'blackHole'>) {
  const [during, failing] = [heldLoad(NEW), heldLoad(NEW)];
  const reading = outcome(cache.get('during', during.load), PATIENT_MS);
  const failed = soon(
    rejectionOf(() => cache.get('failing', failing.load)),
    PATIENT_MS,
  );
  await begun(during, reading);
  await begun(failing, failed);
  proxy.blackHole();
  during.end();
  failing.fail(DOWN);
  return { value: await reading, error: await failed };
}

/** What a process has of its own: a cache, a connection, and a clock with a zero of its own. */
function openProcess(options: Partial<Options> = {}, startMs = 0) {
  const redis: Redis = options.redis ?? servers.connectRedis();
  const cache = openCache({ ttlMs: 30_000, syncMs: SYNC_MS, timeoutMs: 20_000, ...options, redis }, startMs);
  return { ...cache, redis };
}

/** What a read gives that must not wait for the load; a text where it does. */
const atOnce = (reading: Promise<unknown>, { begun }: { readonly begun: Promise<void> }) =>
  Promise.race([outcome(reading), begun.then(() => sleep(20, 'waits for the load'))]);

/** After an invalidation the source has the new value: code may load again by itself. */
const onlyOnce = (held: HeldLoad<unknown>) => () => (held.loads === 0 ? held.load() : Promise.resolve(NEW));

const distinct = (values: readonly unknown[]) => [
  ...new Map(values.map((value) => [JSON.stringify(value), value])).values(),
];

/** How many times in a row commands were sent as soon as others were answered, without a pause. */
function longestBurst(redis: Redis): () => number {
  let [length, longest] = [0, 0];
  let turn: 'other' | 'answered' | 'sent' = 'other';
  const answered = () => {
    turn = turn === 'sent' ? 'sent' : 'answered';
    setImmediate(() => {
      turn = 'other';
    });
  };
  const send = redis.sendCommand.bind(redis);
  vi.spyOn(redis, 'sendCommand').mockImplementation((command, stream) => {
    if (turn === 'other') length = 0;
    if (turn === 'answered') {
      turn = 'sent';
      longest = Math.max(longest, ++length);
    }
    command.promise.then(answered, answered);
    return send(command, stream);
  });
  return () => longest;
}

function hungLoad() {
  const held = heldLoad(OLD);
  let signal: AbortSignal | undefined;
  return {
    ...held,
    load(given?: AbortSignal) {
      signal = given;
      return held.load();
    },
    isAborted: () => signal?.aborted,
  };
}

const activeTimers = () => process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length;

/** By way of bytes: a text that was joined of two shares its parts with others. */
const longKey = (n: number) => Buffer.alloc(10_000, `${n} `).toString();
