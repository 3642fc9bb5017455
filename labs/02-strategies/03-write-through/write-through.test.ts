import { inspect } from 'node:util';
import type { Redis, RedisOptions } from 'ioredis';
import type { ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { beforeAll, expect, test, vi } from 'vitest';
import { explore } from '#kit/explore';
import { ownRedis } from '#kit/own-redis';
import { type FaultyProxy, openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { outcome } from '#kit/waiting';
import {
  createUsers,
  InvalidChangeError,
  USER_TTL_MS,
  type User,
  type UserData,
  type Users,
  userKey,
  WRITABLE,
} from './write-through';

const servers = useServers('users');

const ADA = 'Ada Lindqvist';
const NOBODY = 999;
const KEY = userKey(1);
/** Where a gate holds a command, or the machine is busy, the deadline must not end the wait. */
const PATIENT_MS = 5000;
/** The command that brings a row to Redis, whatever a correct or a wrong store uses. */
const STORING = /^(EVAL|EVALSHA|FCALL|SET|SETEX|PSETEX|HSET|HMSET|MULTI)\b/i;

/** A store whose MySQL is gone: what it still finds is in the cache. */
let cacheOnly: Users;
beforeAll(async () => {
  const gone = servers.connectDb();
  await gone.end();
  try {
    cacheOnly = createUsers({ redis: servers.redis, db: gone });
  } catch {
    // The starter: each test says so itself.
  }
});

const openUsers = (redis: Redis = servers.redis, db = servers.db) =>
  createUsers({ redis, db, cacheDeadlineMs: PATIENT_MS });
const cached = (id = 1): Promise<User | null | 'absent'> => cacheOnly.find(id).catch(() => 'absent');
const cachedName = async (id = 1) => {
  const user = await cached(id);
  return user === 'absent' ? user : String(user?.name);
};
const oneOf = (...names: string[]) => new RegExp(`^(${names.join('|')})$`);
async function inMysql(id = 1) {
  const [[row]] = await servers.db.query<RowDataPacket[]>(
    'SELECT name, CAST(version AS CHAR) AS version FROM users WHERE id = ?',
    [id],
  );
  return row;
}

/** A store whose Redis can be held or taken away. */
async function behindProxy(cacheDeadlineMs?: number, options: RedisOptions = {}) {
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis(options, proxy.url);
  await redis.ping();
  const heard: unknown[] = [];
  const onCacheError = (error: unknown) => heard.push(error);
  return {
    proxy,
    redis,
    heard,
    users: createUsers({ redis, db: servers.db, cacheDeadlineMs, onCacheError }),
  };
}

test('a slow writer and a slow reader cannot overwrite a newer version', async () => {
  const fast = openUsers();
  const { proxy, users: slow } = await behindProxy(PATIENT_MS);

  const writer = proxy.hold(STORING);
  const writing = slow.update(1, { name: 'version 2' });
  await Promise.race([writer.arrived, writing]);
  const committed = (await inMysql())?.name === 'version 2';
  if (!committed) {
    // Or its transaction holds the row for the tests to come.
    writer.release();
    await writing;
  }
  expect(committed, 'MySQL comes first: the row must be committed before Redis hears of it').toBe(true);
  // Between the commit and the EVAL: write-through is not strong consistency.
  expect(String((await fast.find(1))?.name), 'a reader gets a row that MySQL has or had, meanwhile').toMatch(
    oneOf(ADA, 'version 2'),
  );
  await fast.update(1, { name: 'version 3' });
  writer.release();
  await writing;
  expect(
    await cachedName(),
    'version 3 was in Redis when the slow writer of version 2 arrived: it must compare there and give way',
  ).toMatch(oneOf('version 3', 'absent'));

  await servers.redis.del(KEY);
  const reader = proxy.hold(STORING);
  const reading = slow.find(1);
  await Promise.race([reader.arrived, reading]);
  await fast.update(1, { name: 'version 4' });
  reader.release();
  await reading;
  expect(
    await cachedName(),
    'the reader had read version 3 before version 4 was written: its fill must compare versions too',
  ).toMatch(oneOf('version 4', 'absent'));
});

test('two writers and a reader leave nothing older than the database', async () => {
  await explore(servers, {
    runs: 12,
    prepare: async () => {
      await servers.redis.del(KEY);
      await servers.db.query('UPDATE users SET name = ?, version = 1 WHERE id = 1', [ADA]);
    },
    actors: {
      one: ({ redis, db }) => openUsers(redis, db).update(1, { name: 'one' }),
      other: ({ redis, db }) => openUsers(redis, db).update(1, { name: 'other' }),
      reader: ({ redis, db }) => openUsers(redis, db).find(1),
    },
    verdict: async () => {
      const [left, row] = await Promise.all([cached(), inMysql()]);
      if (left === 'absent') return undefined;
      return left?.name === row?.name && left?.version === row?.version
        ? undefined
        : `all are done, MySQL holds "${row?.name}" in version ${row?.version} and Redis "${left?.name}" in version ${left?.version}: compare and set in one step, in Redis, and read row and version together`;
    },
  });
});

test('a newer version wins, whatever its digits and whatever the clock', async () => {
  const users = openUsers();
  const boundaries = {
    '8': 'from 9 to 10: as text, "10" comes before "9"',
    '9007199254740991': 'beyond 2^53: as numbers of Lua or JavaScript, neighbours are equal there',
    '18446744073709551612': 'at the end of BIGINT UNSIGNED, too: compare the digits, not a number',
  };
  for (const [version, why] of Object.entries(boundaries)) {
    await servers.redis.del(KEY);
    await servers.db.query('UPDATE users SET version = ? WHERE id = 1', [version]);
    for (const name of ['first', 'second', 'third']) {
      await users.update(1, { name });
      expect(await cachedName(), `the newer version must replace the older one ${why}`).toBe(name);
    }
    expect((await users.find(1))?.version, 'a version must be read and kept with all of its digits').toBe(
      String(BigInt(version) + 3n),
    );
  }

  await servers.db.query('UPDATE users SET version = 1 WHERE id = 1');
  await servers.redis.del(KEY);
  vi.useFakeTimers({ toFake: ['Date'] });
  try {
    for (const [hour, name] of [
      ['09:00', 'by a clock that is fast'],
      ['08:00', 'by a clock that is right'],
    ] as const) {
      vi.setSystemTime(`2030-01-01T${hour}:00Z`);
      await users.update(1, { name });
      expect(
        await cachedName(),
        'the second update came later, by a clock that shows less: only the version in the row orders writers',
      ).toBe(name);
    }
  } finally {
    vi.useRealTimers();
  }
});

type Fault = (proxy: FaultyProxy) => unknown;
const FAULTS: Readonly<Record<string, Fault>> = {
  refused: (proxy) => proxy.refuse(),
  slow: (proxy) => proxy.delay(5000),
  stalled: (proxy) => proxy.stall(),
  'black-holed': (proxy) => proxy.blackHole(),
};

test('a Redis that is away delays a committed write by its deadline and never fails it', async () => {
  await servers.db.query(
    "INSERT INTO users (id, email, name, locale, created_at) VALUES (4, 'dan@example.org', 'Dan', 'da-DK', NOW(3))",
  );
  await Promise.all(
    Object.entries(FAULTS).map(async ([fault, strike], index) => {
      const id = index + 1;
      const { proxy, users, heard } = await behindProxy();
      await strike(proxy);
      const isHeard = () =>
        expect(
          heard.splice(0),
          `Redis is ${fault}, and nobody would know: onCacheError hears of each failure`,
        ).not.toEqual([]);
      expect(
        await outcome(users.update(id, { name: fault })),
        `Redis is ${fault} and MySQL has committed: the update must say so, soon`,
      ).toMatchObject({ id, name: fault, version: '2' });
      isHeard();
      expect(
        await outcome(users.find(id)),
        `Redis is ${fault}: the read must come from MySQL, soon`,
      ).toMatchObject({ id, name: fault });
      isHeard();
      expect(
        await outcome(users.create({ email: `${fault}@example.org`, name: fault, locale: 'en-GB' })),
        `Redis is ${fault} and the user is in MySQL: told of a failure, the caller would create another one`,
      ).toMatchObject({ name: fault });
      isHeard();
      expect(
        await outcome(users.update(id, { email: `${fault}@example.org` })),
        `Redis is ${fault} and the email is taken: the caller must hear what MySQL has said, soon`,
      ).toMatch(/^rejected: .*Duplicate entry/);
      isHeard();
    }),
  );
});

/** The connection ends with a command that is never sent again: by its options, the client says so, or nothing. */
const LOST = {
  'says so': { id: 2, deadlineMs: PATIENT_MS, maxRetriesPerRequest: 0 },
  'says nothing': { id: 3, deadlineMs: 200, autoResendUnfulfilledCommands: false },
};

test('a row that Redis does not take leaves no old one behind', async () => {
  await Promise.all([refuseRow(), ...Object.keys(LOST).map((how) => loseRow(how as keyof typeof LOST))]);

  await servers.redis.del(userKey(3));
  const { proxy, users: watched } = await behindProxy(PATIENT_MS);
  const endless: string[] = [];
  proxy.schedule(async (request) => {
    for (const key of await servers.redis.keys('user:*')) {
      if (/^user:\d+$/.test(key) && (await servers.redis.pttl(key)) === -1)
        endless.push(`${key}, before ${request}`);
    }
  });
  await watched.find(1);
  const created = await watched.create({ email: 'eve@example.org', name: 'Eve', locale: 'en-GB' });
  await watched.update(3, { name: 'new' });
  expect(
    endless,
    'a store that dies between two commands must not leave an entry without a TTL: set both in one step',
  ).toEqual([]);
  const stored = { 'a read': 1, 'a create': created.id, 'an update': 3 };
  for (const [by, id] of Object.entries(stored)) {
    expect(
      await servers.redis.pttl(userKey(id)),
      `what ${by} stores must end within USER_TTL_MS: it bounds an old value when Redis takes not even the DEL`,
    ).toSatisfy((ms: number) => ms > USER_TTL_MS - 30_000 && ms <= USER_TTL_MS);
  }
});

async function refuseRow() {
  const server = await ownRedis();
  const full = servers.connectRedis({}, server.url);
  const users = openUsers(full);
  await users.find(1);
  await users.find(2);
  // Full: reads and DEL are served, what needs memory is refused.
  await full.config('SET', 'maxmemory', '1');
  expect(
    await outcome(users.update(1, { name: 'new' })),
    'Redis refused the row and MySQL has committed: the update has happened',
  ).toMatchObject({ name: 'new' });
  expect(
    await outcome(users.find(1)),
    'Redis refused the new row and still serves the old one: delete the entry when it cannot be replaced',
  ).toMatchObject({ name: 'new' });
}

async function loseRow(how: keyof typeof LOST, deadlineMs = LOST[how].deadlineMs): Promise<void> {
  const { id, deadlineMs: _, ...options } = LOST[how];
  const name = `new within ${deadlineMs} ms`;
  await openUsers().find(id);
  const { proxy, redis, users } = await behindProxy(deadlineMs, { ...options, retryStrategy: () => 1 });
  const gate = proxy.hold(STORING);
  const began = performance.now();
  const writing = users.update(id, { name });
  await Promise.race([gate.arrived, writing]);
  proxy.cut();
  if (performance.now() - began > deadlineMs) {
    // A busy machine: the deadline may have been over before the connection was.
    await outcome(writing);
    return loseRow(how, 2 * deadlineMs);
  }
  expect(
    await outcome(writing),
    'the row was lost on its way to Redis and MySQL has committed: the update has happened',
  ).toMatchObject({ name });
  // Answered behind whatever the store has sent.
  await outcome(redis.ping());
  expect(
    await cachedName(id),
    `the row was lost on its way to Redis and the client ${how}: whatever the failure, delete the entry`,
  ).toMatch(oneOf(name, 'absent'));
}

test('a rolled back write caches nothing', async () => {
  await openUsers().find(1);
  await expect(
    openUsers().update(1, { name: 'taken', email: 'ben@example.org' }),
    'the email belongs to another user: what MySQL answers is for the caller',
  ).rejects.toMatchObject({ code: 'ER_DUP_ENTRY' });
  expect(await cachedName(), 'MySQL refused the update: it must not be in the cache').toMatch(
    oneOf(ADA, 'absent'),
  );

  const one = openUsers(servers.redis, servers.connectDb({ connectionLimit: 1 }));
  const twice = () => outcome(one.update(1, { email: 'ben@example.org' }).catch(() => 'refused'));
  expect([await twice(), await twice()], 'an update that failed must give its connection back').toEqual([
    'refused',
    'refused',
  ]);
  expect(
    await outcome(openUsers().update(1, { name: ADA })),
    'an update that failed must not keep the row locked: roll back before the connection is given back',
  ).toMatchObject({ name: ADA });

  for (const lost of ['COMMIT', 'answer'] as const) {
    const proxy = await openProxy(servers.mysqlUrl);
    const users = openUsers(servers.redis, servers.connectDb({}, proxy.url));
    await openUsers().find(1);
    // A store that updates in one statement, without a transaction, has nothing to be lost here.
    const gate = proxy.hold(/^COMMIT/i);
    const writing = outcome(users.update(1, { name: lost }));
    if ((await Promise.race([gate.arrived.then(() => 'held'), writing])) !== 'held') continue;
    expect(
      await cachedName(),
      'the transaction has not committed: nobody may find its row in the cache',
    ).not.toBe(lost);
    if (lost === 'answer') {
      proxy.delay(5000);
      gate.release();
      await expect.poll(async () => (await inMysql())?.name, { interval: 5 }).toBe(lost);
    }
    proxy.cut();
    expect(
      await writing,
      'the connection ended during COMMIT: nobody knows the outcome, and the caller has to hear that',
    ).toMatch(/^rejected: (?!.*not implemented)/);
    expect(
      await cachedName(),
      lost === 'COMMIT'
        ? 'MySQL rolled back: the row that was never committed must not be in the cache'
        : 'MySQL committed and only its answer was lost: delete the entry when an update fails, or it stays old',
    ).not.toBe(lost === 'COMMIT' ? lost : ADA);
  }
});

test('an update that changes nothing still finds its user', async () => {
  const users = openUsers();
  const message = 'the user is there: that nothing changed does not mean that nobody was found';
  expect(await users.update(1, { name: ADA }), message).toMatchObject({ id: 1, name: ADA });
  expect(await users.update(1, {}), message).toMatchObject({ id: 1, name: ADA });
  expect(await users.update(NOBODY, { name: ADA }), 'there is no such user: null says so').toBeNull();
  expect(await users.find(NOBODY), 'there is no such user: null says so').toBeNull();

  const [raw] = await servers.db.query<ResultSetHeader>('UPDATE users SET name = name WHERE id = 1');
  expect(
    { affectedRows: raw.affectedRows, changedRows: raw.changedRows },
    'mysql2 counts found rows in affectedRows and changed ones in changedRows',
  ).toEqual({ affectedRows: 1, changedRows: 0 });
});

test('only user ids, and listed columns with texts, reach the database', async () => {
  const users = openUsers();
  const whole: UserData = { email: 'eve@example.org', name: 'Eve', locale: 'en-GB' };
  const refused: unknown[] = [
    { "name = 'pwned', email": 'eve@example.org' },
    { 'name`': 'pwned' },
    { version: '7' },
    { id: '7' },
    { name: 'Eve', created_at: '1970-01-01' },
    { constructor: 'x' },
    JSON.parse('{ "__proto__": "x" }'),
    { name: { name: 'pwned' } },
    { name: ['pwned', 'twice'] },
    { name: null },
  ];
  const noIds: unknown[] = [0, -1, 1.5, Number.NaN, 2 ** 53, '1', '1 or so', [1], undefined];
  const refusal = (ask: () => unknown) =>
    Promise.resolve()
      .then(ask)
      .catch((error: unknown) => error);
  const work = await servers.work(async () => {
    for (const changes of refused) {
      const asks = {
        update: () => users.update(1, changes as UserData),
        create: () => users.create({ ...whole, ...Object.fromEntries(Object.entries(changes as UserData)) }),
      };
      for (const [method, ask] of Object.entries(asks)) {
        expect(
          await refusal(ask),
          `${method} must refuse ${inspect(changes)} with an InvalidChangeError`,
        ).toBeInstanceOf(InvalidChangeError);
      }
    }
    for (const column of WRITABLE) {
      const { [column]: _, ...rest } = whole;
      expect(
        await refusal(() => users.create(rest as UserData)),
        `create must refuse a user without ${column} with an InvalidChangeError`,
      ).toBeInstanceOf(InvalidChangeError);
    }
    for (const noId of noIds) {
      const id = noId as number;
      const asks = { find: () => users.find(id), update: () => users.update(id, { name: 'pwned' }) };
      for (const [method, ask] of Object.entries(asks)) {
        expect(
          await refusal(ask),
          `${method} must refuse ${inspect(noId)} with a RangeError: to MySQL, '1 or so' is user 1`,
        ).toBeInstanceOf(RangeError);
      }
    }
  });
  expect(work.sql(), 'what is refused must be refused before any SQL is sent').toBe(0);
  expect(
    await users.create({ ...whole, name: "Robert'); DROP TABLE users" }),
    'a value is bound, and may be any text',
  ).toMatchObject({ name: "Robert'); DROP TABLE users" });
});

test('create, update and a miss cache one and the same row', async () => {
  const users = openUsers();
  const created = await users.create({ email: 'eve@example.org', name: 'Eve', locale: 'en-GB' });
  const { id } = created;
  const afterCreate = await cached(id);
  await servers.redis.del(userKey(id));
  const miss = await users.find(id);
  const afterMiss = await cached(id);
  expect(miss?.createdAt, 'createdAt must be a Date on a miss').toBeInstanceOf(Date);
  await servers.redis.pexpire(userKey(id), 5000);
  await users.find(id);
  expect(
    await servers.redis.pttl(userKey(id)),
    'a hit must leave the TTL alone: it is the last bound of an old value',
  ).toBeLessThanOrEqual(5000);
  expect(afterMiss, 'a hit must equal the miss that filled it: a Date is a Date').toEqual(miss);
  expect(
    afterCreate,
    'create must cache the whole row as MySQL holds it, with id, createdAt and version: a miss reads no less',
  ).toEqual(miss);
  expect(
    created,
    'create must answer with the whole row as MySQL holds it, with id, createdAt and version',
  ).toEqual(miss);

  await damage(userKey(id));
  expect(
    await outcome(users.find(id)),
    'bytes that decode refuses are a miss, not an error of the caller: MySQL has the row',
  ).toEqual(miss);
  expect(await cached(id), 'the row must take the place of an entry that decode refuses').toEqual(miss);

  const updated = await users.update(id, { locale: 'fr-FR' });
  expect(updated, 'an update must answer with the whole row as committed').toEqual({
    ...miss,
    locale: 'fr-FR',
    version: '2',
  });
  expect(await cached(id), 'an update of one column must cache the whole row').toEqual(updated);

  const proxy = await openProxy(servers.mysqlUrl);
  const db = servers.connectDb({}, proxy.url);
  await db.query('SELECT 1');
  let other: Promise<unknown> | undefined;
  // When MySQL is asked for more after the commit, another writer has committed meanwhile.
  proxy.schedule(async () => {
    if (!other && (await inMysql(id))?.name === 'mine') other = users.update(id, { name: 'other' });
    await other;
  });
  expect(
    await openUsers(servers.redis, db).update(id, { name: 'mine' }),
    'another writer came after the COMMIT: an update must answer with its own row, read in its own transaction',
  ).toEqual({ ...updated, name: 'mine', version: '3' });
});

/** Cuts the row in the entry in two, whether it is a text or a field of a hash. */
async function damage(key: string): Promise<void> {
  const half = (text: string) => text.slice(0, text.length / 2);
  if ((await servers.redis.type(key)) === 'string') {
    await servers.redis.set(key, half((await servers.redis.get(key)) ?? ''), 'KEEPTTL');
    return;
  }
  for (const [field, value] of Object.entries(await servers.redis.hgetall(key))) {
    if (value.includes('{')) await servers.redis.hset(key, field, half(value));
  }
}
