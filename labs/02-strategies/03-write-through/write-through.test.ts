import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import type { Redis, RedisOptions } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { expectTtl } from '#kit/expect-ttl';
import { redisBehindProxy, refusingRedis } from '#kit/faulty-redis';
import { lateness } from '#kit/lateness';
import { ownRedis } from '#kit/own-redis';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, soon, until } from '#kit/waiting';
import {
  CACHE_DEADLINE_MS,
  InvalidChangeError,
  InvalidIdError,
  selectUser,
  USER_TTL_MS,
  type User,
  type UserData,
  userKey,
} from './given';
import { createUsers, type Users } from './write-through';

const servers = useServers('users');

const ADA = 'Ada Lindqvist';
const EVE: UserData = { email: 'eve@example.org', name: 'Eve', locale: 'en-GB' };
const NOBODY = 999;
const KEY = userKey(1);
const DEADLINE_MS = 80;
/** Where a gate holds a command, no deadline may end the wait. */
const PATIENT_MS = 5000;
const REJECTION = expect.stringMatching(/^rejected/);

describe('Core', () => {
  test('a user is read from MySQL once, and from Redis after that', async () => {
    const users = openUsers();
    const miss = await users.find(1);
    expect(miss, 'a miss must return the row of MySQL').toMatchObject({
      id: 1,
      name: ADA,
      version: '1',
      createdAt: expect.any(Date),
    });
    await stored(1);
    const work = await servers.work(async () => {
      expect(await users.find(1), 'a hit must return what the miss returned').toEqual(miss);
    });
    expect(work.sql('select'), 'SELECTs of the second find: a hit must not ask MySQL').toBe(0);
    expect(await users.find(NOBODY), 'there is no such user: find must return null').toBeNull();
    expect(
      await outcome(openUsers(servers.redis, await goneMySql()).find(2)),
      'MySQL cannot be asked: find must reject, not answer that there is no such user',
    ).toEqual(REJECTION);
  });

  test('create returns the row that MySQL has stored, and caches it', async () => {
    const users = openUsers();
    await servers.redis.script('FLUSH');
    const created = await users.create({ ...EVE, name: 'Eve \uFFFD' });
    const { id } = Object(created);
    const row = await selectUser(servers.db, Number(id));
    expect(created, 'what create returned: the row of MySQL, with id, createdAt and version').toEqual(row);
    expect(
      await cached(id),
      'what Redis holds after create: the row of MySQL; a restarted Redis knows no scripts',
    ).toEqual(row);
  });

  test('update returns the row in its next version, and caches it', async () => {
    const users = openUsers();
    const old = await users.find(1);
    await stored(1);
    const expected = { ...old, locale: 'fr-FR', version: '2' };
    const updated = await users.update(1, { locale: 'fr-FR' });
    expect(updated, 'what update returned: the whole row, its version one higher').toEqual(expected);
    expect(await cached(), 'what Redis holds when update has resolved: the whole new row').toEqual(expected);
    expect(
      await outcome(users.update(1, { locale: 'fr-FR' })),
      'the user saves the form again, with the same values: update must return the row, in version 3',
    ).toEqual({ ...expected, version: '3' });
    expect(
      await outcome(users.update(NOBODY, { name: 'new' })),
      'there is no such user: update must return null',
    ).toBeNull();

    await users.find(1);
    const row = await updateAmidAnother();
    const { name, locale, version } = Object(row);
    expect(
      { name, locale, version },
      'another process has updated the locale right before the UPDATE of the name: MySQL must have both changes',
    ).toEqual({ name: 'mine', locale: 'de-DE', version: '5' });
    expect(await cached(), 'what Redis holds after these two updates: the row of MySQL').toEqual(row);
    expect(
      await outcome(users.find(1)),
      'another process has updated the user: find must return the new row from now on',
    ).toEqual(row);
    expect(
      await findAfterSlowFind(),
      'name that find returns after an update, while an earlier find still waits for MySQL',
    ).toBe('new');
  });

  test('an entry gets its TTL once, from the command that stores it', async () => {
    const { proxy, users } = await behindProxy();
    const sentBare: string[] = [];
    const notice = async (request: string) => {
      for (const key of await servers.redis.keys('user:*')) {
        if ((await servers.redis.pttl(key)) === -1) sentBare.push(request);
      }
    };
    proxy.schedule(notice);
    await users.find(1);
    await stored(1);
    const { id } = await users.create(EVE);
    await users.update(3, { name: 'new' });
    await notice('the end of the test');
    expect(
      sentBare,
      'an entry had no TTL when these were sent: if the process dies before, the entry stays forever',
    ).toEqual([]);
    await expectTtl(servers.redis, KEY, USER_TTL_MS, 'ms to live after a miss: it must be USER_TTL_MS');
    await expectTtl(
      servers.redis,
      userKey(id),
      USER_TTL_MS,
      'ms to live after create: it must be USER_TTL_MS',
    );
    await expectTtl(
      servers.redis,
      userKey(3),
      USER_TTL_MS,
      'ms to live after update: it must be USER_TTL_MS',
    );
    await servers.redis.pexpire(KEY, 30_000);
    await users.find(1);
    await expectTtl(
      servers.redis,
      KEY,
      30_000,
      'ms to live after a hit, of 30,000 before it: a hit must not change the TTL',
    );
  });

  test('a write caches nothing before MySQL has committed it', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const users = openUsers(servers.redis, servers.connectDb({ connectionLimit: 1 }, proxy.url));
    await openUsers().find(1);
    await stored(1);
    const commit = proxy.hold(/^COMMIT/i);
    const writing = outcome(users.update(1, { name: 'new' }));
    // A single statement commits by itself.
    const isHeld = await Promise.race([commit.arrived.then(() => true), writing.then(() => false)]);
    if (isHeld) {
      expect(
        await cachedName(),
        'name in Redis: the COMMIT of "new" has not reached MySQL, and can still fail',
      ).not.toBe('new');
    }
    commit.release();
    expect(await writing, 'MySQL has committed: update must return the row').toMatchObject({ name: 'new' });

    const refused = outcome(users.update(1, { name: 'refused', email: 'ben@example.org' }));
    expect(await refused, 'the email belongs to another user: update must reject').toEqual(REJECTION);
    expect(await cachedName(), 'name in Redis: MySQL has refused the update').not.toBe('refused');
    // A transaction that is left open would end with its connection only, in another test.
    expect(
      await outcome(openUsers().update(1, { name: 'after' })),
      'an update of this user after the refused one: the refused transaction must not keep the row locked',
    ).toMatchObject({ name: 'after' });
    expect(
      await outcome(users.find(2)),
      'a read on the pool of the refused update: its one connection must be back',
    ).toMatchObject({ id: 2 });
  });

  test('a slow writer or reader cannot replace a newer version', async () => {
    const slow = {
      'a slow update': (users: Users) => users.update(1, { name: 'slow' }),
      'a slow find': (users: Users) => users.find(1),
    };
    for (const [who, call] of Object.entries(slow)) {
      // Redis gets the first, the second, … command of the slow one late.
      for (let nth = 1; nth <= 4; nth++) {
        await servers.redis.del(KEY);
        const { calling, command } = await holdNthCommand(nth, call);
        await atHour('08:00', () => openUsers().update(1, { name: 'newer' }));
        const { version } = await inMySql();
        command?.release();
        await outcome(calling);
        await sleep(command ? 10 : 0);
        const entry = await cached();
        const { name: left, version: leftVersion } = Object(entry);
        expect(
          entry === 'no entry' ? { left: 'newer', version } : { left, version: leftVersion },
          `Redis gets command ${nth} of ${who} after a newer version was stored: Redis must keep the newer one`,
        ).toEqual({ left: 'newer', version });
        if (!command) break;
      }
    }

    // Two updates on one client: what one of them sends must not undo the comparison of the other.
    for (let nth = 1; nth <= 8; nth++) {
      const { updating, command } = await holdNthOfTwo(nth);
      for (const id of [1, 2]) await openUsers().update(id, { name: 'newer' });
      command?.release();
      await updating;
      for (const id of [1, 2]) {
        expect(
          ['newer', 'no entry'],
          `names allowed in Redis for user ${id}: it gets command ${nth} of two slow updates after newer versions`,
        ).toContain(await cachedName(id));
      }
      if (!command) break;
    }
  });
});

describe('In production', () => {
  test('an unreachable Redis costs a call its deadlines, and fails none', async () => {
    const faults: Readonly<Record<string, (proxy: FaultyProxy) => unknown>> = {
      'refuses connections': (proxy) => proxy.refuse(),
      'answers after 5 s': (proxy) => proxy.delay(5000),
      stalls: (proxy) => proxy.stall(),
      'is a black hole': (proxy) => proxy.blackHole(),
    };
    const { id: created } = await openUsers().create(EVE);
    await Promise.all(
      Object.entries(faults).map(async ([fault, strike], at) => {
        const unreachable = async () => {
          const { proxy, ...opened } = await behindProxy(DEADLINE_MS);
          await strike(proxy);
          return opened;
        };
        const id = [1, 2, 3, created][at] ?? 1;
        const read = await fastest(1, unreachable, (users) => users.find(id));
        expect(read.result, `Redis ${fault}: find must return the row of MySQL`).toMatchObject({ id });
        expect(read.lateMs, `ms beyond one deadline that a find takes while Redis ${fault}`).toBeLessThan(
          TOLERATED_MS,
        );
        const write = await fastest(2, unreachable, (users) => users.update(id, { locale: 'en-US' }));
        expect(
          write.result,
          `Redis ${fault} and MySQL has committed: update must return the row`,
        ).toMatchObject({ id, locale: 'en-US' });
        expect(
          write.lateMs,
          `ms beyond two deadlines that an update takes while Redis ${fault}`,
        ).toBeLessThan(TOLERATED_MS);
      }),
    );

    for (const [call, result] of Object.entries(await callsOfSilentRedis())) {
      expect(await result, `${call}: it must end, although Redis falls silent`).not.toBe('still waiting');
    }

    await openUsers().find(1);
    await stored(1);
    const slow = await behindProxy();
    slow.proxy.delay(CACHE_DEADLINE_MS + 20);
    const work = await servers.work(() => outcome(slow.users.find(1)));
    expect(
      work.sql('select'),
      'SELECTs of a find whose Redis answers within cacheDeadlineMs, which is longer here',
    ).toBe(0);
  });

  test('a command that Redis refuses fails no call, and is reported', async () => {
    const { users, permit, refuseReads, errors } = await openRefused();
    await permit(userKey(2));
    await users.find(2);
    await users.update(2, { name: 'new' });
    expect(errors, 'errors reported: Redis has refused nothing so far').toEqual([]);

    const reading = outcome(users.find(1));
    expect(await reading, 'the store is refused: find must return the row').toMatchObject({ id: 1 });
    await expectReport(errors, 'to store what find has read');
    expect(
      await outcome(users.update(1, { name: 'new' })),
      'the store is refused and MySQL has committed: update must return the row',
    ).toMatchObject({ name: 'new' });
    await expectReport(errors, 'to store what update has written');
    expect(
      await outcome(users.create(EVE)),
      'the store is refused and MySQL has committed: after an error the caller would create the user again',
    ).toMatchObject(EVE);
    await expectReport(errors, 'to store what create has written');
    await refuseReads();
    expect(
      await outcome(users.find(1)),
      'the read is refused: find must return the row of MySQL',
    ).toMatchObject({ id: 1 });
    await expectReport(errors, 'a read');
    expect(
      await outcome(users.update(1, { email: 'ben@example.org' })),
      'MySQL refuses the update, and Redis all commands: update must reject with the error of MySQL',
    ).toMatch(/^rejected: .*Duplicate entry/);
    await expectReport(errors, 'the DEL that follows an update which MySQL refuses');
  });

  test('a new row that Redis did not take leaves no old entry behind', async () => {
    const { url } = await ownRedis();
    const full = servers.connectRedis({}, url);
    const errors: unknown[] = [];
    const users = openUsers(full, servers.db, PATIENT_MS, (error) => errors.push(error));
    await users.find(1);
    await stored(1, full);
    // Redis is full: reads and DEL work, a command that needs memory is refused.
    await full.config('SET', 'maxmemory', '1');
    await outcome(users.update(1, { name: 'new' }));
    expect(await nameOf(users.find(1)), 'name that find returns: Redis is full and refused the new row').toBe(
      'new',
    );
    // A script that begins with a DEL may store its row all the same.
    if ((await full.exists(KEY)) === 0) await expectReport(errors, 'to store what update has written');

    await openUsers().find(2);
    await stored(2);
    const lossy = await behindProxy(PATIENT_MS, { maxRetriesPerRequest: 0, retryStrategy: () => 1 });
    const storing = lossy.proxy.hold(/user:2\b/);
    const writing = outcome(lossy.users.update(2, { name: 'new' }));
    await Promise.race([storing.arrived, writing]);
    lossy.proxy.cut();
    await writing;
    // Answered after what the lab has sent before.
    await outcome(lossy.redis.ping());
    expect(
      ['new', 'no entry'],
      'names allowed in Redis: the connection broke, and the new row was lost with it',
    ).toContain(await cachedName(2));
  });

  test('an update whose answer was lost deletes the entry', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const users = openUsers(servers.redis, servers.connectDb({}, proxy.url));
    // MySQL commits at COMMIT, or after a single statement at once.
    for (const committing of [/^COMMIT/i, /UPDATE users/i]) {
      const name = `new by ${committing.source}`;
      await users.update(1, { name: 'old' });
      const statement = proxy.hold(committing);
      const writing = outcome(users.update(1, { name }));
      const isHeld = await Promise.race([statement.arrived.then(() => true), writing.then(() => false)]);
      if (!isHeld) {
        statement.release();
        continue;
      }
      proxy.delay(5000);
      statement.release();
      await until(async () => (await inMySql()).name === name);
      proxy.cut();
      expect(
        await writing,
        'the connection broke, so nobody knows whether MySQL has committed: update must reject',
      ).toEqual(REJECTION);
      expect(
        await cachedName(),
        `name in Redis: MySQL had committed "${name}", and only its answer was lost`,
      ).not.toBe('old');
      return;
    }
  });

  test('an update returns the row as it has committed it', async () => {
    const proxy = await openProxy(servers.mysqlUrl);
    const db = servers.connectDb({}, proxy.url);
    await db.query('SELECT 1');
    let other: Promise<unknown> | undefined;
    proxy.schedule(async () => {
      if (!other && (await inMySql()).name === 'mine') {
        other = openUsers().update(1, { name: 'of another process' });
      }
      await other;
    });
    expect(
      await outcome(openUsers(servers.redis, db).update(1, { name: 'mine' })),
      'another process has updated the user right after the commit: update must return its own row',
    ).toMatchObject({ name: 'mine', version: '2' });
  });

  test('an update without changes finds its user too', async () => {
    const users = openUsers();
    expect(
      await outcome(users.update(1, {})),
      'the user saves the form without a change: update must return the row, its version one higher',
    ).toMatchObject({ name: ADA, version: '2' });
    expect(
      await outcome(users.update(NOBODY, {})),
      'there is no such user: update must return null',
    ).toBeNull();
  });

  test('only texts for the columns of WRITABLE become SQL', async () => {
    const users = openUsers();
    const fromOutside: unknown[] = [
      { "name = 'pwned', email": 'eve@example.org' },
      { 'name`': 'pwned' },
      { version: '7' },
      { id: '7' },
      { name: 'pwned', created_at: '1970-01-01' },
      { constructor: 'x' },
      JSON.parse('{ "__proto__": "x" }'),
      { name: { name: 'pwned' } },
      { name: ['pwned', 'twice'] },
      { name: null },
    ];
    const work = await servers.work(async () => {
      for (const changes of fromOutside) {
        expect(
          await rejectionOf(() => users.update(1, Object(changes))),
          `update must refuse ${inspect(changes)} with InvalidChangeError`,
        ).toBeInstanceOf(InvalidChangeError);
      }
    });
    expect(work.sql(), 'SQL statements sent for changes that are refused').toBe(0);
    const quoted = "Robert'); DROP TABLE users";
    expect(
      await outcome(users.update(1, { name: quoted })),
      'a value is bound, and may be any text: update must return the row',
    ).toMatchObject({ name: quoted });
  });

  test('an id that is not a positive safe integer is refused before any request', async () => {
    const users = openUsers();
    const fromOutside: unknown[] = ['1', '1 or so', [1], true, null, undefined, 0, -1, 1.5, 2 ** 53, 1n];
    const work = await servers.work(async () => {
      for (const id of [...fromOutside, Number.NaN, Number.POSITIVE_INFINITY] as number[]) {
        for (const call of [() => users.find(id), () => users.update(id, { name: 'pwned' })]) {
          expect(
            await rejectionOf(call),
            `the id ${inspect(id)} must be refused with InvalidIdError: to MySQL, '1 or so' is user 1`,
          ).toBeInstanceOf(InvalidIdError);
        }
      }
    });
    expect(work.sql() + work.redis(), 'requests sent for these ids').toBe(0);
  });

  test('a newer version replaces an older one, however many digits they have', async () => {
    const users = openUsers();
    for (const version of ['8', '9007199254740991', '9999999999999999998', '18446744073709551612']) {
      await servers.redis.del(KEY);
      await servers.db.query('UPDATE users SET version = ? WHERE id = 1', [version]);
      for (const [name, later] of [
        ['first', 1n],
        ['second', 2n],
        ['third', 3n],
      ] as const) {
        await users.update(1, { name });
        const { name: left, version: leftVersion } = Object(await cached());
        expect(
          { name: left, version: leftVersion },
          `name and version in Redis, after updates from version ${version} on`,
        ).toEqual({ name, version: String(BigInt(version) + later) });
      }
    }
  });

  test('an entry that cannot be decoded is reported, and replaced from MySQL', async () => {
    const errors: unknown[] = [];
    const users = openUsers(servers.redis, servers.db, PATIENT_MS, (error) => errors.push(error));
    const damages: Readonly<Record<string, (value: Buffer) => Buffer>> = {
      'cut in half': (value) => value.subarray(0, value.length / 2),
      'another shape': (value) => Buffer.from(String(value).replace('"email"', '"mail"')),
      'not UTF-8': (value) => Buffer.concat([value.subarray(0, 20), Buffer.from('fffe00', 'hex')]),
      'a name that is not UTF-8': (value) => Buffer.from(String(value).replace(ADA, '\xff'), 'latin1'),
    };
    for (const [kind, damage] of Object.entries(damages)) {
      await servers.redis.del(KEY);
      const row = await users.find(1);
      await stored(1);
      await damageEntry(damage);
      errors.length = 0;
      expect(
        await outcome(users.find(1)),
        `the entry is damaged (${kind}): find must return the row of MySQL`,
      ).toEqual(row);
      expect(errors.length, `calls of onCacheError for a damaged entry (${kind})`).toBe(1);
      await until(async () => (await cachedName()) === ADA);
      expect(
        await cached(),
        `the row in Redis: it must replace the damaged entry (${kind}), or each read asks MySQL`,
      ).toEqual(row);
    }
  });
});

type Opened = { readonly users: Users; readonly redis: Redis };

function openUsers(
  redis: Redis = servers.redis,
  db: Pool = servers.db,
  cacheDeadlineMs = PATIENT_MS,
  onCacheError = (_: unknown) => {},
) {
  return createUsers({ redis, db, cacheDeadlineMs, onCacheError });
}

/** Users whose Redis can be held or taken away. The connection is up. */
async function behindProxy(cacheDeadlineMs = PATIENT_MS, options: RedisOptions = {}) {
  const { proxy, redis } = await redisBehindProxy(servers, options);
  return { proxy, redis, users: openUsers(redis, servers.db, cacheDeadlineMs) };
}

/** What calls come to whose Redis answers so many commands, and none after them. */
async function callsOfSilentRedis() {
  const storing = await behindProxy();
  storing.proxy.stall();
  const db = servers.connectDb({ connectionLimit: 1 });
  void outcome(openUsers(storing.redis, db).update(3, { name: 'new' }));
  await until(async () => (await inMySql(3)).name === 'new');
  await openUsers().find(1);
  await stored(1);
  await damageEntry((value) => value.subarray(0, value.length / 2));
  const silentAfter = async (commands: number, call: (users: Users) => Promise<unknown>) => {
    const { proxy, users } = await behindProxy(DEADLINE_MS);
    let seen = 0;
    proxy.schedule(async (request) => {
      if (/user:\d/.test(request) && seen++ >= commands) proxy.stall();
    });
    return outcome(call(users));
  };
  return {
    'a query on a pool of one connection, while an update waits for Redis': await outcome(
      db.query('SELECT 1'),
    ),
    'create, at its store': silentAfter(0, (users) => users.create({ ...EVE, email: 'silent@example.org' })),
    'an update that MySQL refuses, at its DEL': silentAfter(0, (users) =>
      users.update(1, { email: EVE.email }),
    ),
    'find, at its store': silentAfter(1, async (users) => {
      await servers.redis.del(userKey(2));
      return users.find(2);
    }),
    'find of a damaged entry, after its lookup': silentAfter(1, (users) => users.find(1)),
  };
}

/** Users whose Redis refuses every write with an error, until keys are permitted. */
async function openRefused() {
  const refusing = await refusingRedis(servers);
  const errors: unknown[] = [];
  const users = openUsers(refusing.redis, servers.db, PATIENT_MS, (error) => errors.push(error));
  return { ...refusing, errors, users };
}

/**
 * Runs `call` on users of their own, by a clock that is fast, until it is done or Redis is about to get its command
 * number `nth`.
 */
async function holdNthCommand(nth: number, call: (users: Users) => Promise<unknown>) {
  const { proxy, users } = await behindProxy();
  const passing = Array.from({ length: nth - 1 }, () => proxy.hold(/user:1\b/));
  const last = proxy.hold(/user:1\b/);
  const calling = atHour('09:00', () => call(users));
  const isHeld = (gate: typeof last) =>
    Promise.race([gate.arrived.then(() => true), calling.then(() => sleep(20, false))]);
  for (const gate of passing) {
    await isHeld(gate);
    gate.release();
  }
  return { calling, command: (await isHeld(last)) ? last : undefined };
}

/**
 * Updates two users on one client, whose commands take turns: Redis gets the first one when both are committed. Holds
 * command number `nth` of the rest, if there are so many.
 */
async function holdNthOfTwo(nth: number) {
  const { proxy, users } = await behindProxy();
  const gates = Array.from({ length: nth + 1 }, () => proxy.hold(/user:[12]\b/));
  const updating = Promise.all([1, 2].map((id) => outcome(users.update(id, { name: 'slow' }))));
  for (const [at, gate] of gates.entries()) {
    const isHeld = await Promise.race([gate.arrived.then(() => true), updating.then(() => false)]);
    if (!isHeld) return { updating };
    if (at === nth) return { updating, command: gate };
    if (at === 0) {
      await until(async () => (await inMySql(1)).name === 'slow' && (await inMySql(2)).name === 'slow');
      await sleep(10);
    }
    gate.release();
  }
  return { updating };
}

/** Updates the name of user 1; another process updates its locale before the UPDATE, unless the row is locked. */
async function updateAmidAnother() {
  const proxy = await openProxy(servers.mysqlUrl);
  let other: Promise<unknown> | undefined;
  proxy.schedule(async (statement) => {
    if (!/^\s*UPDATE/i.test(statement)) return;
    other ??= openUsers().update(1, { locale: 'de-DE' });
    await soon(other, 100);
  });
  await outcome(openUsers(servers.redis, servers.connectDb({}, proxy.url)).update(1, { name: 'mine' }));
  await other;
  return selectUser(servers.db, 1);
}

/** The name that `find` returns when its user has been updated, and an earlier `find` has not ended. */
async function findAfterSlowFind() {
  const proxy = await openProxy(servers.mysqlUrl);
  const users = openUsers(servers.redis, servers.connectDb({}, proxy.url));
  const select = proxy.hold(/FROM users/i);
  const slow = outcome(users.find(2));
  await select.arrived;
  await openUsers().update(2, { name: 'new' });
  const name = await nameOf(users.find(2));
  select.release();
  await slow;
  return name;
}

/** Runs `call` by a clock that shows this hour when it begins. */
async function atHour<T>(hour: string, call: () => Promise<T>): Promise<T> {
  vi.useFakeTimers({ toFake: ['Date'], now: new Date(`2030-01-01T${hour}:00Z`) });
  onTestFinished(() => void vi.useRealTimers());
  return call();
}

/** Changes what is stored at KEY: a string, a member of a sorted set, or a field of a hash. */
async function damageEntry(damage: (value: Buffer) => Buffer): Promise<void> {
  const { redis } = servers;
  const type = await redis.type(KEY);
  if (type === 'zset') {
    const members = await redis.zrangeBuffer(KEY, 0, '-1');
    await redis.zremrangebyrank(KEY, 0, -1);
    for (const member of members) await redis.zadd(KEY, '0', damage(member));
    return;
  }
  if (type === 'string') {
    await redis.set(KEY, damage((await redis.getBuffer(KEY)) ?? Buffer.alloc(0)), 'KEEPTTL');
    return;
  }
  for (const [field, value] of Object.entries(await redis.hgetallBuffer(KEY))) {
    if (value.includes('{')) await redis.hset(KEY, field, damage(value));
  }
}

/** An error that is reported for a command that Redis has refused. Forgets it. */
async function expectReport(errors: unknown[], refused: string) {
  await until(() => errors.length > 0);
  expect(errors.length, `calls of onCacheError: Redis has refused ${refused}`).toBeGreaterThan(0);
  errors.length = 0;
}

/** How long a call takes beyond so many deadlines and the same call with a Redis that answers. */
const fastest = (deadlines: number, open: () => Promise<Opened>, call: (users: Users) => Promise<unknown>) =>
  lateness({
    open,
    call: ({ users }) => call(users),
    reference: () => sleep(deadlines * DEADLINE_MS).then(() => call(openUsers())),
    toleratedMs: TOLERATED_MS,
  });

/** One more deadline is longer. */
const TOLERATED_MS = 0.6 * DEADLINE_MS;

/** Waits for the entry that a `find` stores, which its caller need not wait for. */
const stored = (id: number, redis = servers.redis) =>
  until(async () => (await redis.exists(userKey(id))) === 1);

/** What a store finds whose MySQL is gone: the entry, in whatever form it has. */
async function cached(id = 1): Promise<User | null | string> {
  if ((await servers.redis.exists(userKey(id))) === 0) return 'no entry';
  return outcome(openUsers(servers.redis, await goneMySql()).find(id));
}

async function goneMySql(): Promise<Pool> {
  const db = servers.connectDb();
  await db.end();
  return db;
}

const cachedName = (id = 1) => nameOf(cached(id));

async function nameOf(reading: Promise<unknown>): Promise<unknown> {
  const user = await outcome(reading);
  return typeof user === 'object' && user && 'name' in user ? user.name : user;
}

async function inMySql(id = 1) {
  const [[row]] = await servers.db.query<RowDataPacket[]>(
    'SELECT name, CAST(version AS CHAR) AS version FROM users WHERE id = ?',
    [id],
  );
  return { name: String(row?.name), version: String(row?.version) };
}
