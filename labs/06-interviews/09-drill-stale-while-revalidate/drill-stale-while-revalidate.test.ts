import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { usedMb } from '#kit/effort';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import { StaleCache } from './drill-stale-while-revalidate';
import type { Options } from './given';

const FRESH_MS = 10_000;
const STALE_MS = 60_000;
const RETRY_MS = 2_000;
const DEADLINE_MS = 30;

describe('Core', () => {
  test('a fresh value is served without a load, and readers that miss share one load', async () => {
    const { cache, source, clock } = open();
    const readers = Array.from({ length: 10 }, () => outcome(cache.get('a')));
    await source.begun(1);
    expect(source.loads.length, 'loads for 10 readers that miss at the same time').toBe(1);
    source.loads[0]?.end('one');
    expect(await Promise.all(readers), 'each of the 10 readers must get the value').toEqual(
      Array(10).fill('one'),
    );
    clock.advance(FRESH_MS - 1);
    expect(await outcome(cache.get('a')), 'the value, 1 ms before the end of freshMs').toBe('one');
    await flushed();
    expect(source.loads.length, 'loads: a fresh value needs none').toBe(1);
    const { cache: named } = open({ load: async (key) => `the value of ${key}` });
    expect(
      await Promise.all([outcome(named.get('b')), outcome(named.get('constructor'))]),
      'two keys that miss at the same time: each has a load of its own, whatever it is called',
    ).toEqual(['the value of b', 'the value of constructor']);
    const { cache: byTheClock, source: other } = open({}, 'by Date.now');
    other.atOnce.push('one');
    for (const read of ['first', 'second']) {
      expect(await outcome(byTheClock.get('a')), `the ${read} read of a cache without the option now`).toBe(
        'one',
      );
    }
    for (const value of [null, 0, '', false]) {
      let loads = 0;
      const { cache: other } = open({ load: async () => [loads++, value][1] });
      for (let read = 0; read < 2; read++) expect(await outcome(other.get('a'))).toBe(value);
      expect(loads, `loads of two reads, the value is ${JSON.stringify(value)}`).toBe(1);
    }
  });

  test('a stale value is served at once, while one refresh runs in the background', async () => {
    const { cache, source, clock } = await openWith('one');
    clock.advance(FRESH_MS + 1);
    const readers: unknown[] = [];
    for (let read = 0; read < 5; read++) {
      readers.push(...(await Promise.all([1, 2, 3].map(() => outcome(cache.get('a'), 300)))));
    }
    expect(readers, 'while the refresh runs, 15 readers must get the stale value').toEqual(
      Array(15).fill('one'),
    );
    await source.begun(2);
    await flushed();
    expect(source.loads.length - 1, 'refreshes for 15 readers of a stale value').toBe(1);
    source.loads[1]?.end('two');
    await flushed();
    clock.advance(FRESH_MS - 1);
    expect(await outcome(cache.get('a')), 'the refresh has ended').toBe('two');
    await flushed();
    expect(source.loads.length - 1, 'refreshes: what a refresh has loaded is fresh for freshMs').toBe(1);
  });

  test('beyond the window a reader waits for a load, and gets its error', async () => {
    const { cache, source, clock } = await openWith('one');
    clock.advance(FRESH_MS + STALE_MS - 10);
    expect(await outcome(cache.get('a')), 'the value, 10 ms before the end of the window').toBe('one');
    await source.begun(2);
    source.loads[1]?.fail(DOWN);
    await flushed();
    clock.advance(11);
    const inPause = outcome(cache.get('a'));
    await flushed();
    source.loads[2]?.fail(DOWN);
    expect(
      await inPause,
      'freshMs + staleMs are over, and a refresh has failed 11 ms ago: its pause must not lengthen the window',
    ).toBe(`rejected: ${DOWN}`);
    clock.advance(RETRY_MS + 1);
    for (const [key, scene] of [
      ['a', 'freshMs + staleMs are over, also if a refresh has failed meanwhile'],
      ['never loaded', 'the key was never loaded'],
    ] as const) {
      const before = source.loads.length;
      const failing = soon(rejectionOf(() => cache.get(key)));
      await source.begun(before + 1);
      source.loads[before]?.fail(DOWN);
      expect(await failing, `the load fails: its reader must get the error. ${scene}`).toBe(DOWN);
      clock.advance(RETRY_MS + 1);
      const waiting = outcome(cache.get(key));
      await source.begun(before + 2);
      source.loads[before + 1]?.end('two');
      expect(await waiting, `the next reader must get what the next load gives. ${scene}`).toBe('two');
      expect(source.loads.length - before, `loads of two readers, of which the first failed. ${scene}`).toBe(
        2,
      );
    }
  });

  test('a failed refresh keeps the stale value, and pauses before the next try', async () => {
    const unhandled = unhandledRejections();
    const { cache, source, clock } = await openWith('one');
    clock.advance(FRESH_MS + 1);
    for (let failed = 1; failed <= 2; failed++) {
      await outcome(cache.get('a'));
      await source.begun(1 + failed);
      // A slow failure: the pause counts from its end.
      clock.advance(RETRY_MS);
      source.loads[failed]?.fail(DOWN);
      await flushed();
      clock.advance(RETRY_MS - 1);
      for (let read = 0; read < 5; read++) {
        expect(await outcome(cache.get('a')), `after ${failed} failed refreshes, the stale value`).toBe(
          'one',
        );
        await flushed();
      }
      expect(
        source.loads.length - 1,
        `refreshes, of which the last failed ${RETRY_MS - 1} ms ago: retryMs is ${RETRY_MS}`,
      ).toBe(failed);
      clock.advance(2);
    }
    source.throwNext(DOWN);
    expect(
      await outcome(cache.get('a')),
      'the stale value, while load itself throws, which is a failed refresh too',
    ).toBe('one');
    await source.begun(4);
    expect(source.loads.length - 1, 'refreshes: retryMs after the second failure there must be a third').toBe(
      3,
    );
    await flushed();
    clock.advance(RETRY_MS + 1);
    source.atOnce.push('two');
    await outcome(cache.get('a'));
    await flushed();
    expect(await outcome(cache.get('a')), 'the fourth refresh has given a value').toBe('two');
    expect(unhandled(), 'unhandled rejections: nobody waits for a refresh').toEqual([]);
  });

  test('a key whose refresh fails does not stop the refreshes of other keys', async () => {
    const { cache, source, clock } = await openWith('one');
    source.atOnce.push('another');
    await outcome(cache.get('b'));
    clock.advance(FRESH_MS + 1);
    await outcome(cache.get('a'));
    await source.begun(3);
    source.loads[2]?.fail(DOWN);
    await flushed();
    expect(await outcome(cache.get('b')), 'the stale value of the other key').toBe('another');
    await flushed();
    expect(source.loads.length - 3, 'refreshes of the other key: only the first key has to pause').toBe(1);
    source.loads[3]?.end('new');
    await flushed();
  });

  test('a load that does not end has failed after its deadline', async () => {
    const unhandled = unhandledRejections();
    const { cache: patient } = open({ load: () => sleep(2 * DEADLINE_MS, 'slow') });
    const inTime = outcome(patient.get('a'));
    const { cache, source, clock } = await openWith('one', { loadDeadlineMs: DEADLINE_MS });
    expect(
      await soon(rejectionOf(() => cache.get('b'))),
      'there is no value, and the load does not end: the reader must get an error after loadDeadlineMs',
    ).toBeInstanceOf(Error);
    clock.advance(FRESH_MS + 1);
    await outcome(cache.get('a'));
    await source.begun(3);
    expect(await inTime, 'a load that is slow, and ends before its loadDeadlineMs').toBe('slow');
    await sleep(DEADLINE_MS + 20);
    await outcome(cache.get('a'));
    await flushed();
    expect(
      source.loads.length - 2,
      'refreshes, the first was given up just now: it has failed, and pauses',
    ).toBe(1);
    clock.advance(DEADLINE_MS + RETRY_MS + 1);
    source.atOnce.push('two');
    expect(await outcome(cache.get('a')), 'a refresh hangs: the stale value').toBe('one');
    await source.begun(4);
    expect(source.loads.length - 2, 'refreshes: the first one hung beyond its deadline, so a second').toBe(2);
    await flushed();
    source.loads[2]?.end('from the hung load');
    source.loads[1]?.fail(DOWN);
    await flushed();
    expect(
      await outcome(cache.get('a')),
      'a load that was given up ends after a later one: its older value must not replace the newer',
    ).toBe('two');
    expect(unhandled(), 'unhandled rejections: a load that was given up fails later').toEqual([]);
  });

  test('an invalidation during a refresh is not undone, also when the refresh fails', async () => {
    for (const end of ['ends', 'fails'] as const) {
      const { cache, source, clock } = await openWith('old');
      clock.advance(FRESH_MS + 1);
      await outcome(cache.get('a'));
      await source.begun(2);
      cache.invalidate('a');
      if (end === 'ends') source.loads[1]?.end('old');
      else source.loads[1]?.fail(DOWN);
      await flushed();
      source.atOnce.push('new');
      expect(
        await outcome(cache.get('a')),
        `the value of the next reader: invalidate came during a refresh, and then the refresh ${end}`,
      ).toBe('new');
    }
  });

  test('an invalidation during a load is not undone', async () => {
    const { cache, source } = open();
    for (const which of ['ends first', 'fails first', 'ends last'] as const) {
      const before = source.loads.length;
      const early = outcome(cache.get('a'));
      await source.begun(before + 1);
      expect(source.loads.length, 'loads: after an invalidation there is no value to serve').toBe(before + 1);
      cache.invalidate('a');
      const late = outcome(cache.get('a'));
      await source.begun(before + 2);
      expect(
        source.loads.length,
        'loads: a reader that comes after an invalidation must not join a load from before it',
      ).toBe(before + 2);
      const [older, newer] = source.loads.slice(-2);
      if (which === 'ends first') older?.end('old');
      if (which === 'fails first') older?.fail(DOWN);
      await flushed();
      const joining = outcome(cache.get('a'));
      await flushed();
      expect(source.loads.length, 'loads: the later load still runs, and a reader must join it').toBe(
        before + 2,
      );
      cache.invalidate('another key');
      newer?.end('new');
      await flushed();
      older?.end('old');
      expect(await late, 'the value of a reader after the invalidation').toBe('new');
      expect(await joining, 'the value of a reader that joins it').toBe('new');
      await early;
      expect(
        await outcome(cache.get('a')),
        `the value that stays: the load from before the invalidation ${which}, and then another key was invalidated`,
      ).toBe('new');
      cache.invalidate('a');
    }
  });

  test('at most maxEntries values are kept', async () => {
    let loads = 0;
    const { cache } = open({ maxEntries: 10, load: async (key) => `${key}, load ${++loads}` });
    const keys = Array.from({ length: 100 }, (_, i) => `key ${i}`);
    for (const key of keys) await outcome(cache.get(key));
    await outcome(cache.get('key 99'));
    expect(loads, 'loads of 100 keys, when the last of them is read twice: it must be kept').toBe(100);
    for (const key of keys.slice(90).reverse()) await outcome(cache.get(key));
    expect(loads - 100, 'loads for the last 10 keys: one key more must not empty the cache').toBeLessThan(9);
    loads = 0;
    for (const key of keys.slice(0, 90)) await outcome(cache.get(key));
    expect(
      loads,
      'loads for 90 keys that were read before the last 10, with maxEntries 10: a cache without a bound fills the memory',
    ).toBe(90);

    const { cache: small, clock } = open({
      maxEntries: 10,
      load: async (key) => {
        if (key.startsWith('failing') || loads < 0) throw DOWN;
        return 'loaded';
      },
    });
    const read = (key: string) => outcome(small.get(key));
    const uses: Readonly<Record<string, (key: string) => unknown>> = {
      'that were loaded': read,
      'whose load failed': (key) => read(`failing ${key}`),
      'that were invalidated': (key) => small.invalidate(key),
      'whose refresh failed': async (key) => {
        loads = 0;
        await read(key);
        loads = -1;
        clock.advance(FRESH_MS + 1);
        await read(key);
        await flushed();
      },
    };
    for (const [kind, use] of Object.entries(uses)) {
      await use(longKey(0));
      const before = usedMb();
      for (let n = 1; n <= 500; n++) await use(longKey(n));
      expect(
        usedMb() - before,
        `MB that are kept after 500 keys ${kind}, of 20,000 characters each; maxEntries is 10`,
      ).toBeLessThan(5);
    }
  });

  test('a refresh in a full cache evicts no other value', async () => {
    let loads = 0;
    const { cache, clock } = open({ maxEntries: 3, load: async () => ++loads });
    for (const key of ['a', 'b', 'c']) await outcome(cache.get(key));
    clock.advance(FRESH_MS + 1);
    await outcome(cache.get('c'));
    await flushed();
    expect(
      [await outcome(cache.get('a')), await outcome(cache.get('b')), await outcome(cache.get('c'))],
      'values of a, b and c, after c was refreshed by load 4: a and b are stale, and must be served',
    ).toEqual([1, 2, 4]);
  });
});

const DOWN = new Error('connect ECONNREFUSED');

function open(options: Partial<Options<unknown>> = {}, time: 'by a clock' | 'by Date.now' = 'by a clock') {
  const clock = fakeClock(1_700_000_000_000);
  const source = heldLoads();
  const cache = new StaleCache<unknown>({
    load: source.load,
    freshMs: FRESH_MS,
    staleMs: STALE_MS,
    loadDeadlineMs: 5_000,
    retryMs: RETRY_MS,
    maxEntries: 1_000,
    ...(time === 'by a clock' && { now: clock.now }),
    ...options,
  });
  return { cache, source, clock };
}

/** Key `a` has been loaded just now. */
async function openWith(value: unknown, options: Partial<Options<unknown>> = {}) {
  const opened = open(options);
  opened.source.atOnce.push(value);
  expect(await outcome(opened.cache.get('a')), 'nothing is cached: get must give what is loaded').toBe(value);
  return opened;
}

/** Each load ends when the test says so, or at once: with the next value of `atOnce`, or by what `throwNext` was given. */
function heldLoads() {
  const loads: { end(value: unknown): void; fail(error: Error): void }[] = [];
  const atOnce: unknown[] = [];
  let toThrow: Error | undefined;
  return {
    loads,
    atOnce,
    throwNext(error: Error) {
      toThrow = error;
    },
    load() {
      const loading = new Promise<unknown>((resolve, reject) => {
        loads.push({ end: resolve, fail: reject });
        if (atOnce.length > 0) resolve(atOnce.shift());
      });
      if (!toThrow) return loading;
      const error = toThrow;
      toThrow = undefined;
      throw error;
    },
    begun: (count: number) => until(() => loads.length >= count),
  };
}

/** By way of bytes: a text that was joined of two shares its parts with others. */
const longKey = (n: number) => Buffer.alloc(20_000, `${n} `).toString();

/** What was begun behind the readers, and needs no timer, has been done. */
async function flushed(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}
