import { inspect } from 'node:util';
import type { Redis } from 'ioredis';
import type { ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { beforeAll, expect, test, vi } from 'vitest';
import { explore } from '#kit/interleave';
import { ownRedis } from '#kit/server';
import { useStack } from '#kit/stack';
import { openWire, type Wire } from '#kit/wire';
import {
  createUsers,
  InvalidChangeError,
  USER_TTL_MS,
  type User,
  type UserData,
  type Users,
  userKey,
} from './write-through';

const stack = useStack('users');

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
  const gone = stack.connectDb();
  await gone.end();
  try {
    cacheOnly = createUsers({ redis: stack.redis, db: gone });
  } catch {
    // The starter: each test says so itself.
  }
});

const openUsers = (redis: Redis = stack.redis, db = stack.db) =>
  createUsers({ redis, db, cacheDeadlineMs: PATIENT_MS });
const cached = (id = 1): Promise<User | null | 'absent'> => cacheOnly.find(id).catch(() => 'absent');
const cachedName = async (id = 1) => {
  const user = await cached(id);
  return user === 'absent' ? user : user?.name;
};
async function inMysql(id = 1) {
  const [[row]] = await stack.db.query<RowDataPacket[]>(
    'SELECT name, CAST(version AS CHAR) AS version FROM users WHERE id = ?',
    [id],
  );
  return row;
}

/** A store whose Redis can be held or taken away. */
async function behindWire(cacheDeadlineMs?: number) {
  const wire = await openWire(stack.redisUrl);
  const redis = stack.connectRedis({}, wire.url);
  await redis.ping();
  return { wire, users: createUsers({ redis, db: stack.db, cacheDeadlineMs }) };
}

test('a slow writer and a slow reader cannot overwrite a newer version', async () => {
  const fast = openUsers();
  const { wire, users: slow } = await behindWire(PATIENT_MS);

  const writer = wire.hold(STORING);
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
  expect([ADA, 'version 2'], 'a reader gets a row that MySQL has or had, meanwhile').toContain(
    (await fast.find(1))?.name,
  );
  await fast.update(1, { name: 'version 3' });
  writer.release();
  await writing;
  expect(
    ['version 3', 'absent'],
    'version 3 was in Redis when the slow writer of version 2 arrived: it must compare there and give way',
  ).toContain(await cachedName());

  await stack.redis.del(KEY);
  const reader = wire.hold(STORING);
  const reading = slow.find(1);
  await Promise.race([reader.arrived, reading]);
  await fast.update(1, { name: 'version 4' });
  reader.release();
  await reading;
  expect(
    ['version 4', 'absent'],
    'the reader had read version 3 before version 4 was written: its fill must compare versions too',
  ).toContain(await cachedName());
});

test('two writers and a reader leave nothing older than the database', async () => {
  await explore(stack, {
    runs: 12,
    prepare: async () => {
      await stack.redis.del(KEY);
      await stack.db.query('UPDATE users SET name = ?, version = 1 WHERE id = 1', [ADA]);
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
    await stack.redis.del(KEY);
    await stack.db.query('UPDATE users SET version = ? WHERE id = 1', [version]);
    for (const name of ['first', 'second', 'third']) {
      await users.update(1, { name });
      expect(await cachedName(), `the newer version must replace the older one ${why}`).toBe(name);
    }
    expect((await users.find(1))?.version, 'a version must be read and kept with all of its digits').toBe(
      String(BigInt(version) + 3n),
    );
  }

  await stack.db.query('UPDATE users SET version = 1 WHERE id = 1');
  await stack.redis.del(KEY);
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

type Fault = (wire: Wire) => unknown;
const FAULTS: Readonly<Record<string, Fault>> = {
  refused: (wire) => wire.refuse(),
  slow: (wire) => wire.delay(5000),
  stalled: (wire) => wire.stall(),
  'black-holed': (wire) => wire.blackHole(),
};

test('a Redis that is away delays a committed write by its deadline and never fails it', async () => {
  await stack.db.query(
    "INSERT INTO users (id, email, name, locale, created_at) VALUES (4, 'dan@example.org', 'Dan', 'da-DK', NOW(3))",
  );
  await Promise.all(
    Object.entries(FAULTS).map(async ([fault, strike], index) => {
      const id = index + 1;
      const { wire, users } = await behindWire();
      await strike(wire);
      expect(
        await soon(users.update(id, { name: fault })),
        `Redis is ${fault} and MySQL has committed: the update must say so, soon`,
      ).toMatchObject({ id, name: fault, version: '2' });
      expect(
        await soon(users.find(id)),
        `Redis is ${fault}: the read must come from MySQL, soon`,
      ).toMatchObject({ id, name: fault });
      expect(
        await soon(users.create({ email: `${fault}@example.org`, name: fault, locale: 'en-GB' })),
        `Redis is ${fault} and the user is in MySQL: told of a failure, the caller would create another one`,
      ).toMatchObject({ name: fault });
    }),
  );
});

test('a row that Redis does not take leaves no old one behind', async () => {
  const server = await ownRedis();
  const full = stack.connectRedis({}, server.url);
  const users = openUsers(full);
  await users.find(1);
  await users.find(2);
  // Full: reads and DEL are served, what needs memory is refused.
  await full.config('SET', 'maxmemory', '1');
  expect(
    await soon(users.update(1, { name: 'new' })),
    'Redis refused the row and MySQL has committed: the update has happened',
  ).toMatchObject({ name: 'new' });
  expect(
    await soon(users.find(1)),
    'Redis refused the new row and still serves the old one: delete the entry when it cannot be replaced',
  ).toMatchObject({ name: 'new' });

  await full.config('SET', 'maxmemory', '0');
  await users.find(1);
  const created = await users.create({ email: 'eve@example.org', name: 'Eve', locale: 'en-GB' });
  await users.update(3, { name: 'new' });
  const stored = { 'a read': 1, 'a create': created.id, 'an update': 3 };
  for (const [by, id] of Object.entries(stored)) {
    expect(
      await full.pttl(userKey(id)),
      `what ${by} stores must end within USER_TTL_MS: it bounds an old value when Redis takes not even the DEL`,
    ).toSatisfy((ms: number) => ms > USER_TTL_MS - 30_000 && ms <= USER_TTL_MS);
  }
});

test('a rolled back write caches nothing', async () => {
  await openUsers().find(1);
  await expect(
    openUsers().update(1, { name: 'taken', email: 'ben@example.org' }),
    'the email belongs to another user: what MySQL answers is for the caller',
  ).rejects.toMatchObject({ code: 'ER_DUP_ENTRY' });
  expect([ADA, 'absent'], 'MySQL refused the update: it must not be in the cache').toContain(
    await cachedName(),
  );

  const one = openUsers(stack.redis, stack.connectDb({ connectionLimit: 1 }));
  const twice = () => soon(one.update(1, { email: 'ben@example.org' }).catch(() => 'refused'));
  expect([await twice(), await twice()], 'an update that failed must give its connection back').toEqual([
    'refused',
    'refused',
  ]);
  expect(
    await soon(openUsers().update(1, { name: ADA })),
    'an update that failed must not keep the row locked: roll back before the connection is given back',
  ).toMatchObject({ name: ADA });

  for (const lost of ['COMMIT', 'answer'] as const) {
    const wire = await openWire(stack.mysqlUrl);
    const users = openUsers(stack.redis, stack.connectDb({}, wire.url));
    await openUsers().find(1);
    // A store that updates in one statement, without a transaction, has nothing to be lost here.
    const gate = wire.hold(/^COMMIT/i);
    const writing = soon(users.update(1, { name: lost }));
    if ((await Promise.race([gate.arrived.then(() => 'held'), writing])) !== 'held') continue;
    expect(
      await cachedName(),
      'the transaction has not committed: nobody may find its row in the cache',
    ).not.toBe(lost);
    if (lost === 'answer') {
      wire.delay(5000);
      gate.release();
      await expect.poll(async () => (await inMysql())?.name, { interval: 5 }).toBe(lost);
    }
    wire.cut();
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

  const [raw] = await stack.db.query<ResultSetHeader>('UPDATE users SET name = name WHERE id = 1');
  expect(
    { affectedRows: raw.affectedRows, changedRows: raw.changedRows },
    'mysql2 counts found rows in affectedRows and changed ones in changedRows',
  ).toEqual({ affectedRows: 1, changedRows: 0 });
});

test('only listed columns with texts reach the database', async () => {
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
  const work = await stack.work(async () => {
    for (const changes of refused) {
      const asks = {
        update: () => users.update(1, changes as UserData),
        create: () => users.create({ ...whole, ...Object.fromEntries(Object.entries(changes as UserData)) }),
      };
      for (const [method, ask] of Object.entries(asks)) {
        const answer = await Promise.resolve()
          .then(ask)
          .catch((error: unknown) => error);
        expect(answer, `${method} must refuse ${inspect(changes)} with an InvalidChangeError`).toBeInstanceOf(
          InvalidChangeError,
        );
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
  const { id } = await users.create({ email: 'eve@example.org', name: 'Eve', locale: 'en-GB' });
  const afterCreate = await cached(id);
  await stack.redis.del(userKey(id));
  const miss = await users.find(id);
  const afterMiss = await cached(id);
  expect(miss?.createdAt, 'createdAt must be a Date on a miss').toBeInstanceOf(Date);
  await stack.redis.pexpire(userKey(id), 5000);
  await users.find(id);
  expect(
    await stack.redis.pttl(userKey(id)),
    'a hit must leave the TTL alone: it is the last bound of an old value',
  ).toBeLessThanOrEqual(5000);
  expect(afterMiss, 'a hit must equal the miss that filled it: a Date is a Date').toEqual(miss);
  expect(
    afterCreate,
    'create must cache the whole row as MySQL holds it, with id, createdAt and version: a miss reads no less',
  ).toEqual(miss);

  const updated = await users.update(id, { locale: 'fr-FR' });
  expect(updated, 'an update must answer with the whole row as committed').toEqual({
    ...miss,
    locale: 'fr-FR',
    version: '2',
  });
  expect(await cached(id), 'an update of one column must cache the whole row').toEqual(updated);
});

/** What a promise comes to, or a text to compare with when it comes to nothing in time, or fails. */
function soon<T>(promise: Promise<T>): Promise<T | string> {
  return Promise.race([
    promise.catch((error: unknown) => `rejected: ${error}`),
    new Promise<string>((resolve) => setTimeout(() => resolve('still waiting'), 1200).unref()),
  ]);
}
