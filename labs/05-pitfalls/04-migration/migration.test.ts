import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { beforeAll, describe, expect, test } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import { lateness } from '#kit/lateness';
import { begun, heldLoad } from '#kit/loads';
import type { FaultyProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { drained } from '#kit/strikes';
import { outcome, rejectionOf, soon, unhandledRejections, until } from '#kit/waiting';
import {
  CacheError,
  DEADLINE_MS,
  entryKey,
  MAX_COMPARISONS,
  type Payment,
  paymentCodec,
  RECHECK_MS,
  type Settings,
  type Side,
} from './given';
import { createRollout, type Options } from './migration';

const servers = useServers();

/** Looks at keys, so the red screen leaves it out. */
let watcher: Redis;
beforeAll(() => {
  watcher = servers.connectRedis();
  nameRequests(watcher, '');
});

const TTL_MS = 123_000;
/** A deadline that no busy machine misses. */
const PATIENT_MS = 20_000;
const CARD = '4000-0012-3456-7899';
const ANN = 'ann';

describe('Core', () => {
  test('off loads each call, and asks Redis nothing', async () => {
    const { rollout } = open({ mode: 'off' });
    const payments = source('10.00');
    const work = await servers.work(async () => {
      expect(await rollout.get('p1', ANN, payments.load), 'the result of get in mode off').toEqual(
        pay('10.00'),
      );
      payments.amount = '20.00';
      expect(await amountOf(rollout.get('p1', ANN, payments.load)), 'amount that the second get gives').toBe(
        '20.00',
      );
    });
    expect(work.redis(), 'commands for Redis in mode off').toBe(0);
    const failed = new Error('the database is away');
    expect(await rejectionOf(() => rollout.get('p1', ANN, failing(failed))), 'load fails: get rejects').toBe(
      failed,
    );
  });

  test('on loads once, and serves the next calls from Redis until a write', async () => {
    const { rollout, outcomes } = open({ mode: 'on' });
    const payments = source('10.00');
    const failed = new Error('the database is away');
    expect(await rejectionOf(() => rollout.get('p1', ANN, failing(failed))), 'load fails: get rejects').toBe(
      failed,
    );
    const miss = await rollout.get('p1', ANN, payments.load);
    expect(miss, 'the result of a miss').toEqual(pay('10.00'));
    // It belongs to the caller, and the entry does not.
    miss.amount = '77.00';
    await stored('live');
    await expectTtl(servers.redis, keyOf('live'), TTL_MS, 'ms to live of the entry, of ttlMs');
    await servers.redis.pexpire(keyOf('live'), TTL_MS / 2);
    expect(
      await rollout.get('p1', 'bob', payments.load),
      'the result of a hit, after the caller of the miss has changed its value',
    ).toEqual(pay('10.00'));
    await drained(servers.redis);
    expect(
      await servers.redis.pttl(keyOf('live')),
      `ms to live of the entry after a hit: ${TTL_MS / 2} were left before it`,
    ).toBeLessThanOrEqual(TTL_MS / 2);
    expect(payments.loads, 'loads of two calls: the second one is a hit').toBe(1);
    expect(outcomes.slice(-2), 'outcomes of a miss and a hit').toEqual(['on miss', 'on hit']);

    payments.amount = '20.00';
    await rollout.invalidate('p1');
    const after = await amountOf(rollout.get('p1', ANN, payments.load));
    expect(after, 'amount after a write from 10.00 to 20.00, and invalidate').toBe('20.00');
  });

  test('shadow loads each call, and counts what Redis would have given', async () => {
    const { rollout, outcomes } = open({ mode: 'shadow', rampPercent: 0 });
    const payments = source('10.00');
    const counted = async (what: string) => {
      outcomes.length = 0;
      const amount = await amountOf(rollout.get('p1', ANN, payments.load));
      expect(amount, `amount that get gives (${what}): in mode shadow, what load gives`).toBe(
        payments.amount,
      );
      await until(() => outcomes.length > 0);
      return outcomes;
    };
    expect(await counted('nothing in Redis'), 'outcomes: nothing in Redis').toEqual(['shadow miss']);
    await stored('shadow');
    await expectTtl(servers.redis, keyOf('shadow'), TTL_MS, 'ms to live of the entry, of ttlMs');
    expect(await counted('the same in Redis'), 'outcomes: the same in Redis').toEqual(['shadow hit']);
    // The source writes it in another way.
    payments.amount = '10.0';
    expect(await counted('the same amount'), 'outcomes: 10.0 loaded, 10.00 in Redis').toEqual(['shadow hit']);
    payments.amount = '20.00';
    for (const nth of ['first', 'second']) {
      expect(
        await counted('a lost invalidation'),
        `outcomes of the ${nth} call after a write that nobody invalidated`,
      ).toEqual(['shadow mismatch']);
    }
    const lossy = { ...paymentCodec, decode: () => pay('0.00') };
    const broken = open({ mode: 'shadow' }, { codec: lossy });
    outcomes.length = 0;
    await broken.rollout.get('p1', ANN, payments.load);
    await until(() => broken.outcomes.length > 0);
    expect(broken.outcomes, 'outcomes with a codec that decodes another amount').toEqual(['shadow mismatch']);
  });

  test('entries that shadow has stored are never served', async () => {
    const { rollout, set, outcomes } = open({ mode: 'shadow' });
    const payments = source('10.00');
    await rollout.get('p1', ANN, payments.load);
    await until(() => outcomes.length > 0);
    payments.amount = '20.00';
    set({ mode: 'on' });
    expect(
      await amountOf(rollout.get('p1', ANN, payments.load)),
      'amount after a write that nobody invalidated: the mode is on now, and only shadow has stored 10.00',
    ).toBe('20.00');
    expect(outcomes.at(-1), 'the last outcome: the mode was shadow at the first call, and is on now').toBe(
      'on miss',
    );
    set({ mode: 'off' });
    payments.amount = '30.00';
    expect(await amountOf(rollout.get('p1', ANN, payments.load)), 'amount in mode off').toBe('30.00');
  });

  test('a user stays on one side of the ramp, and stays inside when it grows', async () => {
    const users = Array.from({ length: 300 }, (_, nth) => `user-${(nth + 1) * 100}`);
    await open({ mode: 'on', rampPercent: 100 }).rollout.get('p1', ANN, source('10.00').load);
    await stored('live');
    const insideAt = async (rampPercent: number) => {
      const { rollout } = open({ mode: 'on', rampPercent });
      const served = await Promise.all(
        users.map(async (user) => (await rollout.get('p1', user, source('20.00').load)).amount === '10.00'),
      );
      return users.filter((_, nth) => served[nth]);
    };
    const [none, few, again, half, all] = [
      await insideAt(0),
      await insideAt(10),
      await insideAt(10),
      await insideAt(50),
      await insideAt(100),
    ];
    expect([none.length, all.length], 'users of 300 inside at 0 % and at 100 %').toEqual([0, 300]);
    expect(few.length, 'users of 300 inside at 10 %').toBeGreaterThan(8);
    expect(few.length, 'users of 300 inside at 10 %').toBeLessThan(55);
    expect(half.length, 'users of 300 inside at 50 %').toBeGreaterThan(110);
    expect(half.length, 'users of 300 inside at 50 %').toBeLessThan(190);
    expect(changed(few, again), 'users that changed sides in another process, at the same 10 %').toBe(0);
    expect(few.filter((user) => !half.includes(user)).length, 'users inside at 10 %, and not at 50 %').toBe(
      0,
    );
  });

  test('two versions of the codec keep entries of their own', async () => {
    const older = open({ mode: 'on' });
    const newer = open({ mode: 'on' }, { codec: cents });
    const payments = source('10.00');
    for (let nth = 0; nth < 2; nth++) {
      for (const { rollout } of [older, newer]) {
        expect(
          await outcome(rollout.get('p1', ANN, payments.load)),
          'the result of get while two versions of the codec run',
        ).toEqual(pay('10.00'));
        await until(async () => (await entries()) >= payments.loads);
      }
    }
    expect(payments.loads, 'loads of four calls, two by each version: a version has a miss once').toBe(2);
  });
});

describe('In production', () => {
  test('a comparison does not slow, fail or change a call, nor the call its comparison', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    const { rollout, outcomes } = open({ mode: 'shadow' }, { redis });
    const payments = source('10.00');
    for (const expected of ['miss', 'hit']) {
      outcomes.length = 0;
      const held = proxy.hold(/:shadow:/);
      const payment = await outcome(rollout.get('p1', ANN, payments.load));
      expect(payment, 'the result of get while the GET of its comparison waits').toEqual(pay('10.00'));
      if (typeof payment === 'object') payment.amount = expected === 'miss' ? '77.00' : '88.00';
      held.release();
      await until(() => outcomes.length > 0);
      expect(outcomes, 'outcomes: the caller has changed its own value meanwhile').toEqual([
        `shadow ${expected}`,
      ]);
    }
    const deleting = proxy.hold(/^del\b.*:shadow:/i);
    expect(await outcome(rollout.invalidate('p1')), 'a write in mode shadow, while its DEL waits').toBe(
      undefined,
    );
    deleting.release();

    const unhandled = unhandledRejections();
    const { redis: away, refuseReads } = await refusingRedis(servers);
    await refuseReads();
    const refused = open({ mode: 'shadow' }, { redis: away });
    const reading = outcome(refused.rollout.get('p1', ANN, payments.load));
    expect(await reading, 'the result of get in mode shadow: Redis refuses all').toEqual(pay('10.00'));
    const writing = outcome(refused.rollout.invalidate('p1'));
    expect(await writing, 'a write in mode shadow: Redis refuses all').toBe(undefined);
    await until(() => refused.errors.length > 1);
    expect(refused.errors.length, 'errors reported: a GET and a DEL were refused').toBeGreaterThan(1);
    expect(unhandled(), 'rejections that nobody has caught').toEqual([]);
  });

  test('comparisons are bounded, and come back after each failure', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    const { rollout, outcomes } = open({ mode: 'shadow' }, { redis });
    const payments = source('10.00');
    const ids = Array.from({ length: 3 * MAX_COMPARISONS }, (_, nth) => `many-${nth}`);
    const work = await servers.work(async () => {
      const held = proxy.hold(/:shadow:/);
      await soon(Promise.all(ids.map((id) => rollout.get(id, ANN, payments.load))));
      held.release();
      await until(() => outcomes.length === ids.length);
      await drained(redis);
    });
    expect(work.redis('get'), 'GETs of 30 calls, while Redis answers none of them').toBeLessThanOrEqual(
      MAX_COMPARISONS,
    );
    const skipped = outcomes.filter((each) => each === 'shadow skipped');
    expect(skipped.length, 'outcomes "skipped" of 30 calls, while Redis answers none').toBe(
      ids.length - MAX_COMPARISONS,
    );

    const hurried = await redisBehindProxy(servers);
    const stuck = open({ mode: 'shadow' }, { redis: hurried.redis, deadlineMs: 20 });
    hurried.proxy.stall();
    for (const id of ids.slice(0, MAX_COMPARISONS)) await soon(stuck.rollout.get(id, ANN, payments.load));
    await until(() => stuck.errors.length >= MAX_COMPARISONS);
    await soon(stuck.rollout.get('p1', ANN, payments.load));
    expect(
      stuck.outcomes,
      `outcomes of a call that came when ${MAX_COMPARISONS} comparisons had missed their deadline: it is compared again`,
    ).toEqual([]);

    const unstored = await redisBehindProxy(servers);
    const storing = open({ mode: 'shadow' }, { redis: unstored.redis, deadlineMs: 50 });
    unstored.proxy.hold(/^(set|psetex|setex)\b/i);
    await soon(
      Promise.all(ids.slice(-MAX_COMPARISONS).map((id) => storing.rollout.get(id, ANN, payments.load))),
    );
    await until(() => storing.errors.length >= MAX_COMPARISONS);
    await soon(storing.rollout.get('p1', ANN, payments.load));
    expect(
      storing.outcomes,
      `outcomes of a call that came when the SETs of ${MAX_COMPARISONS} comparisons had no answer`,
    ).not.toContain('shadow skipped');

    const hanging = open({ mode: 'shadow' }, { deadlineMs: 20 });
    for (const id of ids.slice(0, MAX_COMPARISONS))
      await soon(hanging.rollout.get(id, ANN, loadsOnce('20.00')));
    await until(() => hanging.errors.length >= MAX_COMPARISONS);
    await soon(hanging.rollout.get('p1', ANN, payments.load));
    expect(
      hanging.outcomes,
      `outcomes of a call that came when the second loads of ${MAX_COMPARISONS} comparisons had no answer`,
    ).not.toContain('shadow skipped');
  });

  test('a difference counts if it is still there at a second look', async () => {
    // What the test before it has left to do must not store this one.
    const id = 'seen twice';
    const { proxy, redis } = await redisBehindProxy(servers);
    const payments = source('10.00');
    const { rollout, outcomes, errors } = open({ mode: 'shadow' }, { redis });
    const other = open({ mode: 'shadow' });
    const held = proxy.hold(/:shadow:/);
    await outcome(rollout.get(id, ANN, payments.load));
    await soon(held.arrived);
    payments.amount = '20.00';
    await other.rollout.get(id, ANN, payments.load);
    await until(() => other.outcomes.length > 0);
    held.release();
    await until(() => outcomes.length > 0);
    const between = 'a write came between the load and the GET, and another process has stored the new value';
    expect(outcomes, `outcomes: ${between}`).not.toContain('shadow mismatch');

    // On one connection, the DEL is before a second look that waits.
    const lagging = open({ mode: 'shadow' }, { recheckMs: RECHECK_MS });
    payments.amount = '30.00';
    await lagging.rollout.get(id, ANN, payments.load);
    await sleep(RECHECK_MS / 2);
    await servers.redis.del(keyOf('shadow', id));
    await until(() => lagging.outcomes.length > 0);
    const late = `the DEL of a write arrives ${RECHECK_MS / 2} ms after the load, and recheckMs is ${RECHECK_MS}`;
    expect(lagging.outcomes, `outcomes: ${late}`).not.toContain('shadow mismatch');
    expect([...errors, ...other.errors, ...lagging.errors], 'errors reported').toEqual([]);
  });

  test('counts and error reports hold no value', async () => {
    const secret = { redis: (await refusingRedis(servers)).redis, codec: quoting };
    const reports: unknown[] = [];
    const report = {
      onOutcome: (...args: unknown[]) => reports.push(args),
      onError: (error: unknown) => reports.push(error),
    };
    const isError = (each: unknown) => each instanceof Error;
    const payments = source('10.00');
    for (const mode of ['shadow', 'on'] as const) {
      const side = mode === 'on' ? 'live' : mode;
      reports.length = 0;
      const refused = open({ mode }, { ...secret, ...report });
      await outcome(refused.rollout.get('p1', ANN, payments.load));
      await until(() => reports.some(isError));
      const refusal = reports.filter(isError).length;
      expect(refusal, `errors reported in mode ${mode}: the SET of the entry was refused`).toBeGreaterThan(0);
      const call = async (
        codec: typeof quoting,
        id: string,
        amount: string,
        awaited: (each: unknown) => boolean,
      ) => {
        const before = reports.length;
        await outcome(open({ mode }, { ...report, codec }).rollout.get(id, ANN, source(amount).load));
        await until(() => reports.slice(before).some(awaited));
      };
      for (const [id, bytes] of Object.entries(DAMAGES)) {
        const { rollout } = open({ mode });
        await rollout.get(id, ANN, payments.load);
        await stored(side, id);
        if (await damage(keyOf(side, id), bytes)) await call(quoting, id, '10.00', isError);
      }
      await call(paymentCodec, 'undecodable', '20.00', () => true);
      await call(refusing, 'new', '10.00', isError);
      expect(
        textsIn(reports),
        `all that was reported in mode ${mode}, with the number of the card`,
      ).not.toContain(CARD);
    }
  });

  test('the kill switch also stops the calls in flight', async () => {
    const { proxy, redis } = await redisBehindProxy(servers);
    await open({ mode: 'on' }).rollout.get('p1', ANN, source('10.00').load);
    await stored('live');
    const { rollout, set } = open({ mode: 'on' }, { redis });
    const held = proxy.hold(/:live:/);
    const reading = amountOf(rollout.get('p1', ANN, source('20.00').load));
    await soon(held.arrived);
    set({ mode: 'off' });
    held.release();
    expect(
      await soon(reading),
      'amount that get gives: Redis has 10.00, and the mode became off before Redis answered',
    ).toBe('20.00');

    for (const mode of ['on', 'shadow'] as const) {
      set({ mode });
      const loading = heldLoad(pay('20.00'));
      const call = rollout.get('p2', ANN, loading.load);
      await begun(loading, call);
      set({ mode: 'off' });
      const work = await servers.work(async () => {
        loading.end();
        await soon(call);
        await drained(redis);
      });
      expect(
        work.redis('get', 'set', 'psetex', 'setex', 'eval', 'evalsha'),
        `commands sent after the mode became off, by a call that began in mode ${mode} and loads`,
      ).toBe(0);
    }
  });

  test('settings that cannot be read mean off', async () => {
    await open({ mode: 'on' }).rollout.get('p1', ANN, source('10.00').load);
    await stored('live');
    const right: Settings = { mode: 'on', rampPercent: 100, epoch: 1 };
    const readings: Readonly<Record<string, () => unknown>> = {
      'an error': () => {
        throw new Error('the configuration is away');
      },
      nothing: () => undefined,
      'mode "ON"': () => ({ ...right, mode: 'ON' }),
      'a ramp of NaN': () => ({ ...right, rampPercent: Number.NaN }),
      'no epoch': () => ({ mode: 'on', rampPercent: 100 }),
      'no epoch, mode shadow': () => ({ mode: 'shadow', rampPercent: 100 }),
    };
    for (const [reading, settings] of Object.entries(readings)) {
      const { rollout, errors } = open({}, { settings: settings as () => Settings });
      const work = await servers.work(async () => {
        expect(
          await outcome(amountOf(rollout.get('p1', ANN, source('20.00').load))),
          `amount that get gives (settings: ${reading}): Redis has 10.00, load gives 20.00`,
        ).toBe('20.00');
      });
      expect(work.redis(), `commands for Redis (settings: ${reading})`).toBe(0);
      expect(errors.length, `errors reported (settings: ${reading})`).toBeGreaterThan(0);
    }
  });

  test('a value from before an outage is not served after it', async () => {
    for (const mode of ['on', 'shadow'] as const) {
      const { rollout, set, outcomes } = open({ mode, epoch: 1 });
      const old = source('10.00');
      await rollout.get('p1', ANN, old.load);
      await stored(mode === 'on' ? 'live' : mode);
      const loading = heldLoad(pay('10.00'));
      const call = rollout.get('p2', ANN, loading.load);
      await begun(loading, call);
      set({ mode: 'off' });
      // Here the payments were changed, and the invalidations lost.
      set({ mode, epoch: 2 });
      loading.end();
      await soon(call);
      await drained(servers.redis);
      for (const [id, what] of [
        ['p1', 'was stored before the outage'],
        ['p2', 'was loaded before the outage, and came after it'],
      ] as const) {
        outcomes.length = 0;
        const amount = await amountOf(rollout.get(id, ANN, source('20.00').load));
        expect(amount, `amount in mode ${mode}: 10.00 ${what}, and the epoch is higher now`).toBe('20.00');
        await until(() => outcomes.length > 0);
        expect(outcomes, `outcomes in mode ${mode}: 10.00 ${what}`).toEqual([`${mode} miss`]);
      }
    }
  });

  test('a write deletes the entries of all versions, whatever settings its process has', async () => {
    const versions = { otherVersions: ['1', '2'] };
    const readers = (['on', 'shadow'] as const).flatMap((mode) =>
      [paymentCodec, cents].map((codec) => open({ mode, epoch: 2 }, { ...versions, codec })),
    );
    const old: Settings = { mode: 'on', rampPercent: 0, epoch: 1 };
    const writers: Readonly<Record<string, () => Settings>> = {
      'the same settings': () => ({ ...old, rampPercent: 100, epoch: 2 }),
      'a ramp of 0 %': () => ({ ...old, epoch: 2 }),
      'the epoch before': () => old,
      'mode off': () => ({ ...old, mode: 'off' }),
      'mode shadow': () => ({ ...old, mode: 'shadow' }),
      'no settings': () => {
        throw new Error('the configuration is away');
      },
    };
    for (const [what, settings] of Object.entries(writers)) {
      for (const { rollout } of readers) await rollout.get('p1', ANN, source('10.00').load);
      await until(async () => (await entries()) === 4);
      expect(await entries(), 'entries of two modes and two versions of the codec').toBe(4);
      await open({}, { ...versions, settings }).rollout.invalidate('p1');
      await until(async () => (await entries()) === 0);
      expect(await entries(), `entries left after a write by a process with ${what}`).toBe(0);
    }
    const { redis } = await refusingRedis(servers);
    const refused = rejectionOf(() =>
      open({ mode: 'on', rampPercent: 10 }, { redis }).rollout.invalidate('p1'),
    );
    expect(await refused, 'invalidate in mode on, at a ramp of 10 %: Redis refuses the DEL').toBeInstanceOf(
      CacheError,
    );
    const off = outcome(open({ mode: 'off' }, { redis }).rollout.invalidate('p1'));
    expect(await off, 'invalidate in mode off: Redis refuses the DEL').toBe(undefined);
  });

  test('in mode on, a Redis that fails costs a call one deadline, and fails none', async () => {
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      stalls: (proxy) => proxy.stall(),
      'answers after 5 s': (proxy) => proxy.delay(5000),
    };
    for (const [fault, strike] of Object.entries(faults)) {
      const read = await lateness({
        open: async () => {
          const { proxy, redis } = await redisBehindProxy(servers);
          await strike(proxy);
          return { redis, ...open({ mode: 'on' }, { redis, deadlineMs: DEADLINE_MS }) };
        },
        call: ({ rollout }) => rollout.get('p1', ANN, source('10.00').load),
        reference: () => sleep(DEADLINE_MS),
        toleratedMs: TOLERATED_MS,
      });
      expect(read.result, `the result of get while Redis ${fault}`).toEqual(pay('10.00'));
      expect(read.lateMs, `ms beyond one deadline that get takes while Redis ${fault}`).toBeLessThan(
        TOLERATED_MS,
      );
    }
    const { redis, refuseReads } = await refusingRedis(servers);
    for (const [refused, counted] of [
      ['SET', ['on miss']],
      ['GET', []],
    ] as const) {
      const { rollout, errors, outcomes } = open({ mode: 'on' }, { redis });
      const reading = outcome(rollout.get('p1', ANN, source('10.00').load));
      expect(await reading, `the result of get while Redis refuses the ${refused}`).toEqual(pay('10.00'));
      await until(() => errors.length > 0);
      expect(errors.length, `errors reported: Redis refuses the ${refused}`).toBe(1);
      expect(outcomes, `outcomes: Redis refuses the ${refused}, and only an answer of Redis counts`).toEqual(
        counted,
      );
      await refuseReads();
    }
    for (const [id, bytes] of Object.entries(DAMAGES)) {
      const { rollout, errors } = open({ mode: 'on' });
      const payments = source('10.00');
      await rollout.get(id, ANN, payments.load);
      await stored('live', id);
      if (!(await damage(keyOf('live', id), bytes))) continue;
      const reading = outcome(rollout.get(id, ANN, payments.load));
      expect(await reading, `the result of get: the entry is damaged (${id})`).toEqual(pay('10.00'));
      expect(errors.length, `errors reported: the entry is damaged (${id})`).toBe(1);
      await drained(servers.redis);
      await rollout.get(id, ANN, payments.load);
      expect(payments.loads, `loads of three calls: the entry was damaged once (${id})`).toBe(2);
    }
  });
});

/** Beyond one deadline. */
const TOLERATED_MS = DEADLINE_MS * 0.8;

function open(first: Partial<Settings>, options: Partial<Options<Payment>> = {}) {
  let settings: Settings = { mode: 'off', rampPercent: 100, epoch: 1, ...first };
  const outcomes: string[] = [];
  const errors: unknown[] = [];
  const rollout = createRollout<Payment>({
    redis: servers.redis,
    name: 'payments',
    codec: paymentCodec,
    ttlMs: TTL_MS,
    settings: () => settings,
    deadlineMs: PATIENT_MS,
    recheckMs: 1,
    onOutcome: (mode, what) => outcomes.push(`${mode} ${what}`),
    onError: (error) => errors.push(error),
    ...options,
  });
  const set = (change: Partial<Settings>) => {
    settings = { ...settings, ...change };
  };
  return { rollout, set, outcomes, errors };
}

const pay = (amount: string): Payment => ({
  id: 'p1',
  amount,
  card: CARD,
  paidAt: new Date('2026-03-01T10:00:00.250Z'),
});

/** Gives the amount that it has at the time of the load. */
function source(amount: string) {
  const it = {
    amount,
    loads: 0,
    load: async () => {
      it.loads++;
      return pay(it.amount);
    },
  };
  return it;
}

/** All texts that a log of `value` could show: of errors and their hidden fields, of bytes too. */
function textsIn(value: unknown, seen = new Set<unknown>()): string {
  if (typeof value !== 'object' || value === null) return `${String(value)}\n`;
  if (seen.has(value)) return '';
  seen.add(value);
  if (Buffer.isBuffer(value)) return `${value}\n`;
  return Reflect.ownKeys(value)
    .map((key) => textsIn(Reflect.get(value, key), seen))
    .join('');
}

/** Its second call, the one of a second look, never ends. */
function loadsOnce(amount: string) {
  let loads = 0;
  return () => (loads++ === 0 ? Promise.resolve(pay(amount)) : new Promise<Payment>(() => {}));
}

const failing = (error: Error) => () => Promise.reject(error);
const amountOf = async (call: Promise<Payment>) => (await call).amount;
const keyOf = (side: Side, id = 'p1') => entryKey('payments', side, '1', id);
const changed = (before: readonly string[], after: readonly string[]) =>
  before.filter((user) => !after.includes(user)).length +
  after.filter((user) => !before.includes(user)).length;
const entries = async () => (await watcher.keys('rollout:*')).length;

const stored = async (side: Side, id?: string) => {
  await until(async () => (await watcher.exists(keyOf(side, id))) === 1);
  expect(
    await watcher.exists(keyOf(side, id)),
    `entries at ${keyOf(side, id)}, by entryKey of given.ts`,
  ).toBe(1);
};

/** A newer version: the amount is in cents, and each part has another name. */
const cents: Options<Payment>['codec'] = {
  ...paymentCodec,
  version: '2',
  encode: ({ id, amount, card, paidAt }) =>
    Buffer.from(JSON.stringify([id, Math.round(Number(amount) * 100), card, paidAt])),
  decode(bytes) {
    const [id, amount, card, paidAt] = JSON.parse(bytes.toString());
    return { id, amount: (amount / 100).toFixed(2), card, paidAt: new Date(paidAt) };
  },
};

/** As JSON.parse does, its error quotes what it cannot read. */
const quoting: Options<Payment>['codec'] = {
  ...paymentCodec,
  decode(bytes) {
    if (bytes.includes('"id"')) return paymentCodec.decode(bytes);
    throw new SyntaxError(`Unexpected token in ${bytes} (${CARD})`);
  },
};

/** It does not know this payment, and its error says which one. */
const refusing: Options<Payment>['codec'] = {
  ...paymentCodec,
  encode: ({ card }) => {
    throw new RangeError(`no payment by card: ${card}`);
  },
};

/** @returns false where the format of the entry has no such damage */
async function damage(key: string, change: (bytes: Buffer) => Buffer): Promise<boolean> {
  const bytes = (await servers.redis.getBuffer(key)) ?? Buffer.alloc(0);
  const damaged = change(bytes);
  await servers.redis.set(key, damaged);
  return !damaged.equals(bytes);
}

const DAMAGES: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  undecodable: (bytes) => bytes.subarray(0, -4),
  'not UTF-8': (bytes) => Buffer.from(bytes.toString('latin1').replace(CARD, '\xff\xfe'), 'latin1'),
  'without a payment': () => Buffer.from('fffe00', 'hex'),
};
