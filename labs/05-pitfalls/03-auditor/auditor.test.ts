import { inspect } from 'node:util';
import type { Redis } from 'ioredis';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { connected, leave } from '#kit/faulty-redis';
import { openProxy } from '#kit/proxy';
import { nameRequests } from '#kit/requests';
import { useServers } from '#kit/servers';
import { outcome, until } from '#kit/waiting';
import { createAuditor, type Finding, type Options, type Report } from './auditor';
import { encode, MAX_FOLLOWED, mostExpected, type ReadUsers, type User, userKey, usersOf } from './given';

const servers = useServers('users');

/** Ada, Ben and Chloé. */
const [ADA, BEN, CHLOE] = [1, 2, 3] as const;
/** So many samples meet each of a few entries, also if each sample is drawn by itself. */
const MANY = 50;
const MINUTE_MS = 60_000;
const GRACE_MS = 10 * MINUTE_MS;
/** No busy machine needs longer. */
const PATIENT_MS = 4000;
/** Nobody is hurried by the pace unless a test asks for it. */
const FAST = 1_000_000;

beforeEach(() => cacheAll());

describe('Core', () => {
  test('an entry that is older than its row is found, and fresh entries are not', async () => {
    const { audit, findings } = open();
    expect((await audit(MANY)).stale, 'stale samples: each entry is as its row').toBe(0);
    expect(findings, 'calls of onStale: each entry is as its row').toEqual([]);

    await write(BEN);
    const report = await audit(MANY);
    expect(
      report.stale,
      'stale samples: the row of user:2 was written, and its entry was not',
    ).toBeGreaterThan(0);
    expect(keysOf(findings), 'keys that onStale was called with').toEqual([userKey(BEN)]);
    expect(findings[0], 'the entry has version 1, and its row version 2').toMatchObject({
      entryVersion: 1,
      rowVersion: 2,
    });
  });

  test('a difference counts only if a second look, after the grace, sees it too', async () => {
    for (const [what, cure] of [
      ['deleted', () => servers.redis.del(userKey(ADA))],
      ['replaced by the new row', () => cache(ADA)],
    ] as const) {
      await cacheAll();
      await write(ADA);
      const { audit, findings, errors, later } = open();
      later(ADA, 0.9 * GRACE_MS, cure);
      const { stale } = await audit(MANY);
      expect(
        { stale, findings, errors },
        `stale samples: the entry was ${what} when 0.9 of the grace had passed since the first look`,
      ).toEqual({ stale: 0, findings: [], errors: [] });
    }
    await write(ADA);
    const { audit, findings, later } = open();
    later(ADA, 1.1 * GRACE_MS, () => servers.redis.del(userKey(ADA)));
    await audit(MANY);
    expect(
      keysOf(findings),
      'keys that onStale was called with: user:1 was stale until 1.1 graces had passed',
    ).toEqual([userKey(ADA)]);
  });

  test('values are compared by meaning, field by field', async () => {
    const ada = await rowOf(ADA);
    const { version, createdAt, ...others } = ada;
    const entries: Readonly<Record<string, string>> = {
      'its fields are in another order': JSON.stringify({ createdAt, ...others, version }),
      'another release has stored one field more': JSON.stringify({ ...ada, avatar: '/img/ada.webp' }),
      'its time is written with an offset': JSON.stringify({ ...ada, createdAt: inBerlin(createdAt) }),
    };
    for (const [what, text] of Object.entries(entries)) {
      await servers.redis.set(userKey(ADA), text);
      const { audit, findings } = open();
      await audit(MANY);
      expect(keysOf(findings), `stale keys: the values are those of the row, and ${what}`).toEqual([]);
    }
    for (const changed of [{ locale: 'de-DE' }, { createdAt: new Date(0) }, { email: 'old@example.org' }]) {
      await servers.redis.set(userKey(ADA), encode({ ...ada, ...changed }));
      const { audit, findings } = open();
      await audit(MANY);
      const [field] = Object.keys(changed);
      expect(
        keysOf(findings),
        `stale keys: the ${field} of the entry is not that of the row (changed by hand, with the same version)`,
      ).toEqual([userKey(ADA)]);
    }
  });

  test('a deleted row that is still cached is stale, and a row that is not cached is not', async () => {
    const nobody = 404;
    await servers.redis.del(userKey(BEN));
    await servers.redis.set(userKey(nobody), encode(null));
    const before = open();
    await before.audit(MANY);
    expect(
      keysOf(before.findings),
      'stale keys: user:2 is not in Redis, and user:404 is absent in Redis and in MySQL',
    ).toEqual([]);

    await servers.db.query('DELETE FROM users WHERE id = ?', [ADA]);
    await servers.redis.set(userKey(CHLOE), encode(null));
    const { audit, findings } = open();
    await audit(MANY);
    expect(
      keysOf(findings),
      'stale keys: the row of user:1 is deleted, and Redis says that there is no user 3, which has a row',
    ).toEqual([userKey(ADA), userKey(CHLOE)]);
    expect(
      findings.find(({ key }) => key === userKey(ADA)),
      'the finding of a deleted row',
    ).toMatchObject({ entryVersion: 1, rowVersion: null });
  });

  test('the primary is the truth, and not a replica', async () => {
    const old = await usersOf(servers.db)([ADA, BEN, CHLOE]);
    const replica: ReadUsers = async (ids) => new Map([...old].filter(([id]) => ids.includes(id)));
    await write(ADA);
    const { audit, findings } = open({ replica });
    await audit(MANY);
    expect(
      keysOf(findings),
      'stale keys: the entry is as old as the replica, and the primary has a newer row',
    ).toEqual([userKey(ADA)]);

    await cache(ADA);
    const fresh = open({ replica });
    await fresh.audit(MANY);
    expect(keysOf(fresh.findings), 'stale keys: the entry is as the primary, and the replica lags').toEqual(
      [],
    );
  });

  test('the report gives the rate, and how high it may be after so few samples', async () => {
    await servers.redis.del(...[ADA, BEN, CHLOE].map(userKey));
    expect(
      await outcome(open().audit(20)),
      'the report of a cache without entries: nobody knows its rate',
    ).toMatchObject({
      samples: 0,
      stale: 0,
      rate: null,
      atMost: 1,
    });
    await addUsers(60);
    await cacheAll();
    const { audit } = open();
    const clean = await audit(50);
    expect(clean, '50 samples of 60 fresh entries').toMatchObject({ samples: 50, stale: 0, rate: 0 });
    near(clean.atMost, 3 / 50, 'atMost after 50 samples, none of them stale: 3 of 50');

    await write();
    const { samples, stale, rate, atMost } = await audit(20);
    expect({ samples, stale, rate }, '20 samples of 60 stale entries').toEqual({
      samples: 20,
      stale: 20,
      rate: 1,
    });
    expect(atMost, 'atMost: a rate is not over 1').toBe(1);

    await cacheAll();
    await write(...idsTo(60).filter((id) => id % 3 === 0));
    const some = await audit(40);
    near(some.rate ?? -1, some.stale / 40, `rate of ${some.stale} stale in 40 samples`);
    near(
      some.atMost,
      mostExpected(some.stale) / 40,
      `atMost of ${some.stale} stale in 40 samples: see mostExpected in given.ts`,
    );
  });
});

describe('In production', () => {
  test('a row that is written between the looks is measured by what the first look saw', async () => {
    for (const [what, writes] of [
      ['that version, and MySQL has a newer one since', 1],
      ['a later one, and MySQL has a newer one since', 2],
    ] as const) {
      await cacheAll();
      await write(ADA);
      const { audit, findings, later } = open();
      later(ADA, 0.5 * GRACE_MS, async () => {
        for (let nth = 1; nth <= writes; nth++) {
          await cache(ADA);
          await write(ADA);
        }
      });
      await audit(MANY);
      expect(
        keysOf(findings),
        `stale keys: the first look saw a newer version in MySQL. The entry has reached ${what}`,
      ).toEqual([]);
    }

    await cacheAll();
    await write(BEN);
    const stuck = open();
    stuck.always(() => write(BEN));
    const report = await outcome(stuck.audit(20), PATIENT_MS);
    expect(
      keysOf(stuck.findings),
      `stale keys: the entry stays at its version while its row is written again and again (report: ${inspect(report)})`,
    ).toEqual([userKey(BEN)]);
  });

  test('when everything is stale, an audit waits for one grace, and follows a bounded number of entries', async () => {
    await addUsers(30);
    await cacheAll();
    await write();
    const { audit, clock, rowsAsked } = open();
    const start = clock.now();
    expect((await audit(30)).stale, 'stale samples of 30, of 30 stale entries').toBe(30);
    expect(
      (clock.now() - start) / GRACE_MS,
      'graces that an audit of 30 stale entries waited for: the first looks come first',
    ).toBeLessThan(2);

    const before = rowsAsked();
    await audit(5);
    expect(
      rowsAsked() - before,
      `rows that the primary was asked for by the next audit, of 5 samples: two looks each, and MAX_FOLLOWED (${MAX_FOLLOWED}) followed`,
    ).toBeLessThanOrEqual(2 * 5 + MAX_FOLLOWED);

    await cacheAll();
    // Many, so that in any order of SCAN some of them are far from each other.
    const stale = [3, 6, 9, 12, 15, 18, 21, 24, 27, 30];
    await write(...stale);
    const graceMs = 4000;
    const slow = open({ graceMs, rowsPerSecond: 8 });
    for (const id of stale) slow.later(id, 0.9 * graceMs, () => cache(id));
    expect(
      await outcome(slow.audit(30), PATIENT_MS),
      'the report, soon (pauses are those of `clock`): each entry was replaced 0.9 graces after its own first look, and the first looks took a grace',
    ).toMatchObject({ samples: 30, stale: 0 });
  });

  test('the primary is asked for no more rows a second than allowed', async () => {
    await addUsers(40);
    await cacheAll();
    const { audit, asked, rowsAsked } = open({ rowsPerSecond: 8 });
    expect(
      await outcome(audit(20), 2000),
      'an audit of 20 rows: the pauses are those of `clock`, and pass at once',
    ).toMatchObject({ samples: 20 });
    expect(rowsAsked(), 'rows that the primary was asked for by 20 samples, all fresh').toBeLessThanOrEqual(
      20,
    );
    await write();
    await audit(15);
    await audit(15);
    await cacheAll();
    for (let nth = 0; nth < 20; nth++) await audit(1);
    expect(asked.length, 'times that the primary was asked').toBeGreaterThan(0);
    const busiest = Math.max(
      ...asked.map(({ at }) =>
        sum(asked.filter((ask) => ask.at >= at && ask.at < at + 1000).map(({ ids }) => ids.length)),
      ),
    );
    expect(
      busiest,
      'rows that the primary was asked for in the busiest second, by first and second looks of long and short audits of one auditor: rowsPerSecond is 8',
    ).toBeLessThanOrEqual(9);
  });

  test('each key has its turn, and none is looked for with KEYS', async () => {
    await addUsers(30);
    await cacheAll();
    const { redis, sent } = await recordedRedis();
    const { audit, asked } = open({ redis });
    for (let nth = 0; nth < 30; nth++) await audit(3);
    const seen = new Set(asked.flatMap(({ ids }) => ids));
    expect(
      seen.size,
      'different users that were looked at by 30 audits of 3 samples, of 30 users: always the same ones say nothing about the others',
    ).toBeGreaterThan(20);
    const blocking = sent().filter((text) => /^keys\b|count \d{5}/i.test(text));
    expect(blocking.slice(0, 3), 'commands that walk over the whole cache at once and block Redis').toEqual(
      [],
    );

    const absences = idsTo(2000).map((id) => [userKey(1000 + id), encode(null)] as const);
    await servers.redis.mset(new Map(absences));
    const before = sent().length;
    await audit(3);
    expect(
      sent()
        .slice(before)
        .filter((text) => /^h?scan/i.test(text)).length,
      'SCANs of an audit of 3 samples, of 2,000 entries: it has no time to walk over all',
    ).toBeLessThan(16);
    const wide = open({ primary: async () => new Map() });
    expect((await wide.audit(500)).samples, 'samples of an audit of 500, of 2,000 entries').toBe(500);
  });

  test('an outage is not an alarm, and not a clean report', async () => {
    await addUsers(40);
    await cacheAll();
    for (const [how, server, fault] of [
      ['Redis is silent', 'redis', 'stall'],
      ['MySQL is silent', 'mysql', 'stall'],
      ['MySQL refuses', 'mysql', 'refuse'],
    ] as const) {
      const { audit, errors, ...servers } = await openBehindProxies(50);
      await servers[server][fault]();
      const report = await outcome(audit(MANY), 1500);
      expect(
        report,
        `the report, soon: ${how}. The first failure ends the audit, and without a sample nobody knows the rate`,
      ).toMatchObject({
        samples: 0,
        stale: 0,
        rate: null,
        atMost: 1,
      });
      expect(errors.length, `calls of onError: ${how}`).toBeGreaterThan(0);
    }

    await servers.redis.del(...idsTo(40).slice(12).map(userKey));
    await write(ADA);
    for (const [how, server, fault] of [
      ['Redis refuses', 'redis', 'refuse'],
      ['MySQL is silent', 'mysql', 'stall'],
    ] as const) {
      const { audit, findings, later, ...servers } = await openBehindProxies(250);
      later(ADA, 0.5 * GRACE_MS, () => servers[server][fault]());
      const report = await outcome(audit(10 * 12), PATIENT_MS);
      const message = `${how} since the first look, which saw a difference`;
      expect(report, `the report: ${message}`).toMatchObject({ stale: 0, undecided: expect.any(Number) });
      expect(findings, `calls of onStale: ${message}`).toEqual([]);
      const { samples, undecided = 0, atMost } = report as Report;
      expect(undecided, `undecided: ${message}`).toBeGreaterThan(0);
      const bound = Math.min(1, mostExpected(undecided) / (samples + undecided));
      near(atMost, bound, `atMost with ${undecided} undecided and ${samples} fresh: ${message}`);
    }
  });

  test('an entry that cannot be decoded is reported, counts for nothing and ends nothing', async () => {
    const { key, name } = { key: userKey(BEN), name: 'Ben' };
    const damaged: Readonly<Record<string, () => Promise<unknown>>> = {
      'an error page': () => servers.redis.set(key, '<html>502 Bad Gateway</html>'),
      'another shape': () => servers.redis.set(key, JSON.stringify({ id: BEN, fullName: name })),
      'no UTF-8': () =>
        servers.redis.set(key, Buffer.from(encode({ ...EXAMPLE, name: 'fff\xff\xfe' }), 'latin1')),
      'a hash': () => servers.redis.hset(key, { name }),
      'the key of a cart': () => servers.redis.set('user:2:cart', '{"items":[]}'),
    };
    for (const [what, store] of Object.entries(damaged)) {
      await servers.redis.del(...[ADA, BEN, CHLOE].map(userKey), 'user:2:cart');
      await store();
      const alone = open();
      expect(
        await outcome(alone.audit(5), PATIENT_MS),
        `the report; the only entry is damaged (${what})`,
      ).toMatchObject({
        samples: 0,
        stale: 0,
        rate: null,
      });
      if (!/hash|cart/.test(what)) {
        expect(
          alone.errors.length,
          `calls of onError for an entry that cannot be decoded (${what})`,
        ).toBeGreaterThan(0);
      }
      await servers.redis.set(userKey(CHLOE), encode({ ...EXAMPLE, id: CHLOE }));
      const { audit, findings } = open();
      await outcome(audit(MANY), PATIENT_MS);
      expect(keysOf(findings), `stale keys: user:3, beside a damaged entry (${what})`).toEqual([
        userKey(CHLOE),
      ]);
    }
  });

  test('a stale entry is followed until it is cured: it is reported once, and its age grows', async () => {
    await servers.redis.del(...[BEN, CHLOE].map(userKey));
    await write(ADA);
    let isAway = false;
    const primary: ReadUsers = (ids) =>
      isAway ? Promise.reject(new Error('the primary is away')) : usersOf(servers.db)(ids);
    const { audit, clock, findings, later: afterAsk } = open({ primary });
    await audit(5);
    isAway = true;
    await outcome(audit(5));
    isAway = false;
    await addUsers(100);
    await cacheAll(ADA);
    clock.advance(30 * MINUTE_MS);
    const later = await audit(1);
    const age = (report: Report) => Math.round((report.oldestMs ?? Number.NaN) / MINUTE_MS);
    expect(
      age(later),
      'oldestMs, in minutes, 30 minutes after the grace of 10: the entry is one of 100, the audit had one sample, and the primary was away before',
    ).toBe(40);
    expect(later.samples, 'samples: an entry that is followed was not drawn').toBe(1);
    await servers.redis.del(...idsTo(100).slice(1).map(userKey));
    await audit(5);
    expect(findings.length, 'calls of onStale by four audits: the entry has been stale all the time').toBe(1);

    await cache(ADA);
    await write(ADA);
    afterAsk(ADA, 0.5 * GRACE_MS, () => cache(ADA));
    await audit(5);
    expect(
      findings.length,
      'calls of onStale: the entry was cured, and then behind its row again, for half of the grace only',
    ).toBe(1);
    await write(ADA);
    const again = await audit(5);
    expect(
      age(again),
      'oldestMs, in minutes: the entry was cured, and its new version was first seen stale a grace (10 minutes) ago',
    ).toBe(10);
    await servers.redis.del(userKey(ADA));
    expect((await audit(1)).oldestMs, 'oldestMs: the entry is gone').toBeNull();
  });

  test('a report has no values of users, and a fingerprint for each key', async () => {
    await servers.redis.set(
      userKey(ADA),
      encode({ ...EXAMPLE, email: 'secret@example.org', name: 'Secret' }),
    );
    await servers.redis.set(userKey(BEN), 'secret@example.org <html>');
    await servers.redis.set(userKey(CHLOE), '{"id":3,"email":"secret@example.org","fullName":"Secret"}');
    const { audit, findings, errors } = open({ fingerprint: (key) => `fp-${key.length}-${key.slice(-1)}` });
    const report = await outcome(audit(MANY), PATIENT_MS);
    expect(keysOf(findings), 'keys of the findings: fingerprint(key)').toEqual(['fp-6-1']);
    expect(errors.length, 'calls of onError: two entries cannot be decoded').toBeGreaterThan(1);
    const out = [...findings, ...errors, report].map((each) => inspect(each, { depth: 9 }));
    const leaks = out.filter((text) =>
      /secret|lindqvist|ada@|user:\d/i.test(text.replace(/\n\s+at .*/g, '')),
    );
    expect(
      leaks.slice(0, 1),
      'findings, errors and reports with an email, a name or a key of a user',
    ).toEqual([]);
  });

  test('an audit that is stopped asks for nothing more, and reports what it has', async () => {
    await write(ADA);
    const waiting = open();
    waiting.clock.hold();
    const stopping = new AbortController();
    const audit = waiting.audit(MANY, stopping.signal);
    await until(() => waiting.clock.isHeld());
    stopping.abort();
    const report = await outcome(audit);
    expect(report, 'the report of an audit that was stopped in its grace').toMatchObject({ stale: 0 });
    expect(waiting.findings, 'calls of onStale: the second look has not been').toEqual([]);
    expect((report as Report).undecided, 'undecided: the second look has not been').toBeGreaterThan(0);
    expect(waiting.errors, 'calls of onError: to be stopped is not a failure').toEqual([]);

    await addUsers(60);
    await cacheAll();
    const early = new AbortController();
    let asksUntilStop = 0;
    const looking = open({
      async primary(ids) {
        if (looking.rowsAsked() >= 3 && !early.signal.aborted) {
          early.abort();
          asksUntilStop = looking.asked.length;
        }
        return usersOf(servers.db)(ids);
      },
    });
    const part = await outcome(looking.audit(50, early.signal));
    expect(
      looking.asked.length - asksUntilStop,
      'times that the primary was asked after the audit was stopped, in the middle of its first looks',
    ).toBe(0);
    const { samples } = part as Report;
    near(
      (part as Report).atMost,
      Math.min(1, mostExpected(0) / samples),
      `atMost with ${samples} fresh samples`,
    );
  });
});

type Action = () => unknown;

/** A user that no row is like. */
const EXAMPLE: User = {
  id: ADA,
  email: 'old@example.org',
  name: 'Old',
  locale: 'en-GB',
  createdAt: new Date(0),
  version: 0,
};

/** An auditor with a clock that no time passes for, and what it asked and reported. */
function open(options: Partial<Options> = {}) {
  const clock = auditClock();
  const asked: { readonly at: number; readonly ids: readonly number[] }[] = [];
  const findings: Finding[] = [];
  const errors: unknown[] = [];
  const planned: { readonly id: number; readonly ms: number; readonly action: Action }[] = [];
  const primary: ReadUsers = async (ids) => {
    asked.push({ at: clock.now(), ids: [...ids] });
    for (const each of planned.filter(({ id }) => ids.includes(id))) {
      clock.plan(clock.now() + each.ms, each.action);
      planned.splice(planned.indexOf(each), 1);
    }
    return (options.primary ?? usersOf(servers.db))(ids);
  };
  const auditor = createAuditor({
    redis: servers.redis,
    replica: usersOf(servers.db),
    graceMs: GRACE_MS,
    rowsPerSecond: FAST,
    onStale: (finding) => findings.push(finding),
    onError: (error) => errors.push(error),
    ...options,
    clock,
    primary,
  });
  return {
    audit: (samples: number, signal?: AbortSignal) => auditor.audit(samples, signal),
    asked,
    rowsAsked: () => sum(asked.map(({ ids }) => ids.length)),
    findings,
    errors,
    clock,
    /** Happens when so many ms have passed since the primary was first asked for the row. */
    later: (id: number, ms: number, action: Action) => planned.push({ id, ms, action }),
    /** Happens in each pause. */
    always: clock.always,
  };
}

/** Its pauses pass at once, and what was planned for them happens meanwhile. */
function auditClock() {
  let time = 1_000_000;
  let pauses = 0;
  let held: 'no' | 'soon' | 'now' = 'no';
  let each = async () => {};
  const planned: { readonly at: number; readonly action: Action }[] = [];
  return {
    now: () => time,
    advance(ms: number): void {
      time += ms;
    },
    plan: (at: number, action: Action) => planned.push({ at, action }),
    always(action: () => Promise<void>): void {
      each = action;
    },
    /** From now on, a pause ends by its signal only. */
    hold(): void {
      held = 'soon';
    },
    isHeld: () => held === 'now',
    async sleep(ms: number, signal?: AbortSignal): Promise<void> {
      // An endless loop of pauses would block the thread: nothing here takes time.
      if (++pauses > 5000) await new Promise(() => {});
      if (held !== 'no' && ms >= 1000) {
        held = 'now';
        await new Promise<void>((resolve) => {
          if (signal?.aborted) resolve();
          signal?.addEventListener('abort', () => resolve());
        });
        return;
      }
      const end = time + ms;
      for (const plan of planned.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)) {
        planned.splice(planned.indexOf(plan), 1);
        time = Math.max(time, plan.at);
        await plan.action();
      }
      time = Math.max(time, end);
      await each();
    },
  };
}

/** With a proxy before each server, and a deadline that a silent one uses up. */
async function openBehindProxies(deadlineMs: number) {
  const [redis, mysql] = [await openProxy(servers.redisUrl), await openProxy(servers.mysqlUrl)];
  const client = servers.connectRedis({}, redis.url);
  onTestFinished(() => leave(client));
  const db = servers.connectDb({ connectionLimit: 1 }, mysql.url);
  await Promise.all([connected(client), db.query('SELECT 1')]);
  return { ...open({ redis: client, primary: usersOf(db), deadlineMs }), redis, mysql };
}

/** A client whose commands are kept, as text. */
async function recordedRedis() {
  const redis: Redis = servers.connectRedis();
  onTestFinished(() => leave(redis));
  await connected(redis);
  // The wrapper below is in this file, and would pass for the sender.
  nameRequests(redis, 'your code');
  const texts: string[] = [];
  const { sendCommand } = redis;
  redis.sendCommand = (...args) => {
    texts.push([args[0].name, ...args[0].args].join(' '));
    return Reflect.apply(sendCommand, redis, args);
  };
  return { redis, sent: () => texts };
}

const idsTo = (last: number) => Array.from({ length: last }, (_, at) => at + 1);
const sum = (numbers: readonly number[]) => numbers.reduce((total, each) => total + each, 0);
const keysOf = (findings: readonly Finding[]) => [...new Set(findings.map(({ key }) => key))].sort();

/** A tenth more or less: there are other good approximations. */
function near(value: number, wanted: number, message: string): void {
  expect(Math.abs(value - wanted), `${message} (${value}, and about ${wanted} is right)`).toBeLessThanOrEqual(
    0.1 * wanted,
  );
}

async function rowOf(id: number): Promise<User> {
  const row = (await usersOf(servers.db)([id])).get(id);
  if (!row) throw new Error(`user ${id} has no row`);
  return row;
}

/** The same moment, with an offset of two hours. */
const inBerlin = (time: Date) =>
  new Date(time.getTime() + 120 * MINUTE_MS).toISOString().replace('Z', '+02:00');

/** Puts the row into Redis as it is. */
const cache = async (id: number) => servers.redis.set(userKey(id), encode(await rowOf(id)));

/** All rows, but for those named. */
async function cacheAll(...except: readonly number[]): Promise<void> {
  const rows = [...(await usersOf(servers.db)(idsTo(200))).values()].filter(({ id }) => !except.includes(id));
  await servers.redis.mset(new Map(rows.map((row) => [userKey(row.id), encode(row)])));
}

/** Writes these rows, all without arguments; Redis keeps what it has. */
async function write(...ids: readonly number[]): Promise<void> {
  const where = ids.length > 0 ? ids : idsTo(200);
  await servers.db.query('UPDATE users SET name = CONCAT(name, "!"), version = version + 1 WHERE id IN (?)', [
    where,
  ]);
}

/** There are three users; from now on there are `last`. */
const addUsers = (last: number) =>
  servers.db.query('INSERT INTO users (id, email, name, locale, created_at) VALUES ?', [
    idsTo(last)
      .slice(3)
      .map((id) => [id, `user${id}@example.org`, `user ${id}`, 'en-GB', new Date(0)]),
  ]);
