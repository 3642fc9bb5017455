import { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { defineMeasure, median } from '#claims';
import { SCHEMA } from '#kit/data/schema';
import { openPool } from '#kit/pool';
import { selectUser, USER_TTL_MS, userKey } from './given';
import { createUsers } from './write-through';

/** No deadline may end what is measured. */
const PATIENT_MS = 5000;
const ID = 1;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, redisUrl, mysqlUrl } = servers();
    await db.query('DROP TABLE IF EXISTS users');
    await db.query(SCHEMA.users.create);
    const users = createUsers({ redis, db, cacheDeadlineMs: PATIENT_MS });
    const ada = await users.create({ email: 'ada@example.org', name: 'Ada', locale: 'sv-SE' });
    if (ada.id !== ID) throw new Error('the first user has another id');

    const writes = await writeLatencies(redis, db, quick ? 40 : 1500);
    const reads = await readLatencies(redis, db, quick ? 120 : 5000);
    const seen = await staleReads(redisUrl, mysqlUrl, quick ? 60 : 3000);
    return {
      claims: [
        {
          name: 'write-overhead',
          says: 'an update with write-through against the same transaction without Redis: median time',
          value: writes.through / writes.transaction,
          unit: '×',
          atMost: 2.5,
        },
        {
          name: 'write-against-update',
          says: 'an update with write-through against a bare UPDATE that commits by itself: median time',
          value: writes.through / writes.update,
          unit: '×',
          atLeast: 1,
        },
        {
          name: 'cache-adds',
          says: 'what Redis adds to an update: median time',
          value: 1000 * (writes.through - writes.transaction),
          unit: 'µs',
        },
        {
          name: 'transaction',
          says: 'the transaction of an update, without Redis: median time',
          value: 1000 * writes.transaction,
          unit: 'µs',
        },
        {
          name: 'update-alone',
          says: 'a bare UPDATE that commits by itself: median time',
          value: 1000 * writes.update,
          unit: 'µs',
        },
        {
          name: 'miss-against-hit',
          says: 'a miss of find() (HGET, SELECT, EVAL) against a hit: median time',
          value: reads.miss / reads.hit,
          unit: '×',
          atLeast: 1.3,
        },
        {
          name: 'select-against-hit',
          says: 'a SELECT by primary key against a hit of find(): median time',
          value: reads.select / reads.hit,
          unit: '×',
          atLeast: 0.6,
        },
        {
          name: 'seen-newer',
          says: 'during writes, a reader reads a row in MySQL and then asks find(): how often find() returns an older version',
          value: 100 * seen.older,
          unit: '%',
        },
        {
          name: 'left-older',
          says: 'after the writes, a reader reads a row in MySQL and then asks find(): how often find() returns an older version',
          value: 100 * seen.left,
          unit: '%',
          atMost: 0,
        },
      ],
    };
  },
});

/** One write at a time, the contenders in turn. */
async function writeLatencies(redis: Redis, db: Pool, rounds: number) {
  const users = createUsers({ redis, db, cacheDeadlineMs: PATIENT_MS });
  const times = { through: [] as number[], transaction: [] as number[], update: [] as number[] };
  for (let i = 0; i < rounds; i++) {
    const name = `Ada ${i}`;
    times.through.push(await timed(() => users.update(ID, { name })));
    times.transaction.push(await timed(() => updateInTransaction(db, name)));
    times.update.push(
      await timed(() =>
        db.execute('UPDATE users SET name = ?, version = version + 1 WHERE id = ?', [name, ID]),
      ),
    );
  }
  return {
    through: median(times.through),
    transaction: median(times.transaction),
    update: median(times.update),
  };
}

/** What update() does in MySQL, and nothing else. */
async function updateInTransaction(db: Pool, name: string): Promise<void> {
  const connection = await db.getConnection();
  await connection.beginTransaction();
  await connection.execute('UPDATE users SET name = ?, version = version + 1 WHERE id = ?', [name, ID]);
  await selectUser(connection, ID);
  await connection.commit();
  connection.release();
}

async function readLatencies(redis: Redis, db: Pool, rounds: number) {
  const users = createUsers({ redis, db, cacheDeadlineMs: PATIENT_MS });
  const times = { hit: [] as number[], miss: [] as number[], select: [] as number[] };
  for (let i = 0; i < rounds; i++) {
    await redis.del(userKey(ID));
    times.miss.push(await timed(() => users.find(ID)));
    times.hit.push(await timed(() => users.find(ID)));
    times.select.push(await timed(() => selectUser(db, ID)));
  }
  return { hit: median(times.hit), miss: median(times.miss), select: median(times.select) };
}

/** One writes without a pause; another reads the row in MySQL, and then asks the store. Each on connections of its own. */
async function staleReads(redisUrl: string, mysqlUrl: string, samples: number) {
  const mine = { redis: new Redis(redisUrl), db: openPool(mysqlUrl) };
  const theirs = { redis: new Redis(redisUrl), db: openPool(mysqlUrl) };
  const writer = createUsers({ ...theirs, cacheDeadlineMs: PATIENT_MS });
  const reader = createUsers({ ...mine, cacheDeadlineMs: PATIENT_MS });
  const olderThanSeen = async () => {
    const row = await selectUser(mine.db, ID);
    const found = await reader.find(ID);
    if (!row || !found) throw new Error('the user is gone');
    return BigInt(found.version) < BigInt(row.version);
  };
  try {
    let writing = true;
    const writes = (async () => {
      const until = performance.now() + USER_TTL_MS / 2;
      for (let i = 0; writing && performance.now() < until; i++)
        await writer.update(ID, { name: `Eve ${i}` });
    })();
    const during: boolean[] = [];
    for (let i = 0; i < samples; i++) during.push(await olderThanSeen());
    writing = false;
    await writes;
    const after: boolean[] = [];
    for (let i = 0; i < 20; i++) after.push(await olderThanSeen());
    const share = (outcomes: boolean[]) => outcomes.filter(Boolean).length / outcomes.length;
    return { older: share(during), left: share(after) };
  } finally {
    for (const { redis, db } of [mine, theirs]) {
      redis.disconnect();
      await db.end();
    }
  }
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
