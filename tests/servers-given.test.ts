import { createServer } from 'node:net';
import { Redis } from 'ioredis';
import mysql, { type Connection, type RowDataPacket } from 'mysql2/promise';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { givenServers } from '../course/servers/given';
import { startMysql } from '../course/servers/mysql';
import { dropSchema, freshSchema, ownerOf, REDIS_MARK, SCHEMA, takeTurn } from '../course/servers/ours';
import { startRedis } from '../course/servers/redis';
import { LONG_MS } from './servers-tools';

// The servers of a learner who uses them for other things too.
let redisUrl: string;
let mysqlUrl: string;
let redis: Redis;
let admin: Connection;
const ends: (() => unknown)[] = [];

beforeAll(async () => {
  const [redisServer, mysqlServer] = await Promise.all([startRedis(), startMysql()]);
  redisUrl = `${redisServer.url}/9`;
  mysqlUrl = mysqlServer.url;
  redis = new Redis(redisUrl);
  admin = await mysql.createConnection({ uri: mysqlUrl, multipleStatements: true });
  ends.push(
    () => redis.disconnect(),
    () => admin.destroy(),
    () => redisServer.close(),
    () => mysqlServer.close(),
  );
}, LONG_MS);

afterAll(async () => {
  for (const end of ends) await end();
});

beforeEach(async () => {
  await redis.flushall();
  await admin.query(`DROP SCHEMA IF EXISTS ${SCHEMA}; DROP SCHEMA IF EXISTS shop_of_mine`);
});

const open = (urls: { REDIS_URL?: string; MYSQL_URL?: string } = {}) =>
  givenServers({ REDIS_URL: redisUrl, MYSQL_URL: mysqlUrl, ...urls });

const count = async (table: string) => {
  const [rows] = await admin.query<RowDataPacket[]>(`SELECT COUNT(*) AS n FROM ${table}`);
  return rows[0]?.n;
};

const schemas = async () => {
  const [rows] = await admin.query<RowDataPacket[]>('SHOW SCHEMAS');
  return rows.map((row) => row.Database);
};

describe('servers of the learner', { timeout: LONG_MS }, () => {
  it('are used in the database named, and left as they were', async () => {
    const before = await schemas();
    const servers = await open({ MYSQL_URL: `${mysqlUrl}/not_there` });
    expect(servers).toMatchObject({ kind: 'given', redis: redisUrl, mysql: mysqlUrl });
    await redis.set('made:by:a:test', '1');
    await servers?.close();
    expect([await redis.dbsize(), await schemas()]).toEqual([0, before]);
  });

  it('are refused, untouched, when the Redis database holds a key of someone else', async () => {
    await redis.set('mine', 'kept');
    await expect(open()).rejects.toThrow(/database 9 holds 1 key .*"mine".*REDIS_URL=redis:\/\/…@127/);
    expect([await redis.get('mine'), await redis.dbsize()]).toEqual(['kept', 1]);
  });

  it('are used again after a run that was killed', async () => {
    await freshSchema(admin, SCHEMA);
    await redis.mset(REDIS_MARK, '1', 'left:by:a:killed:run', '1');
    await (await open())?.close();
    expect(await redis.dbsize()).toBe(0);
    expect(await schemas()).not.toContain(SCHEMA);
  });

  it('are refused, untouched, when the schema of that name is of someone else', async () => {
    await admin.query(`CREATE SCHEMA ${SCHEMA}; CREATE TABLE ${SCHEMA}.theirs SELECT 1 AS id`);
    await expect(open()).rejects.toThrow(/caching_deep_dive holds tables that the course did not make/);
    await expect(freshSchema(admin, SCHEMA)).rejects.toThrow(/did not make/);
    await dropSchema(admin, SCHEMA);
    expect(await count(`${SCHEMA}.theirs`)).toBe(1);
  });

  it('are refused when MYSQL_URL names a schema with tables of someone else', async () => {
    await admin.query('CREATE SCHEMA shop_of_mine; CREATE TABLE shop_of_mine.orders SELECT 1 AS id');
    await expect(open({ MYSQL_URL: `${mysqlUrl}/shop_of_mine` })).rejects.toThrow(
      /names the schema shop_of_mine.*leave the path out of MYSQL_URL/,
    );
    expect(await count('shop_of_mine.orders')).toBe(1);
  });

  it('keep what another run is at work with', async () => {
    const first = await open();
    const other = await mysql.createConnection({ uri: mysqlUrl });
    onTestFinished(() => other.destroy());
    expect(await takeTurn(other, 5)).toBe(true);
    await redis.set('of:the:other', '1');

    await first?.close();

    expect(await ownerOf(admin, SCHEMA)).toBe('course');
    expect(await redis.exists('of:the:other', REDIS_MARK)).toBe(2);
  });

  it('ask for the two GRANTs that are missing', async () => {
    await admin.query(
      "DROP USER IF EXISTS 'pupil'@'127.0.0.1'; CREATE USER 'pupil'@'127.0.0.1' IDENTIFIED BY 'pw'",
    );
    const url = mysqlUrl.replace(/\/\/.*@/, '//pupil:pw@');
    const refused = await Promise.resolve(open({ MYSQL_URL: url })).catch(String);
    const grants = String(refused).match(/GRANT .*;/g) ?? [];
    expect(grants).toEqual([
      "GRANT ALL ON `caching\\_deep\\_dive%`.* TO 'pupil'@'127.0.0.1';",
      "GRANT PROCESS ON *.* TO 'pupil'@'127.0.0.1';",
    ]);

    await redis.flushall();
    for (const grant of grants) await admin.query(grant);

    await (await open({ MYSQL_URL: url }))?.close();
  });
});

describe('a URL that leads to no server says why', { timeout: LONG_MS }, () => {
  it('one URL without its twin', async () => {
    await expect(givenServers({ REDIS_URL: redisUrl })).rejects.toThrow(
      'REDIS_URL is set and MYSQL_URL is not.',
    );
    await expect(givenServers({ MYSQL_URL: mysqlUrl })).rejects.toThrow(
      'MYSQL_URL is set and REDIS_URL is not.',
    );
    expect(await givenServers({})).toBeUndefined();
  });

  it.each([
    ['127.0.0.1:6379', 'is not a URL'],
    ['http://127.0.0.1', 'begins with http://'],
    ['redis://127.0.0.1:1', 'Nothing listens at 127.0.0.1:1'],
    ['redis://no-such-machine.invalid', 'No machine of that name is known'],
    ['redis://127.0.0.1/shop', 'Redis numbers its databases'],
  ])('REDIS_URL=%s', async (url, told) => {
    await expect(open({ REDIS_URL: url })).rejects.toThrow(told);
  });

  it.each([
    ['mysql://', 'is not a URL'],
    ['mysql://127.0.0.1:1', 'Nothing listens at 127.0.0.1:1'],
  ])('MYSQL_URL=%s', async (url, told) => {
    await expect(open({ MYSQL_URL: url })).rejects.toThrow(told);
  });

  it('a wrong password', async () => {
    await expect(open({ REDIS_URL: redisUrl.replace(/:\w+@/, ':wrong@') })).rejects.toThrow(
      /refused the user or the password in REDIS_URL/,
    );
    await expect(open({ REDIS_URL: redisUrl.replace(/default:\w+@/, '') })).rejects.toThrow(
      /refused the user or the password in REDIS_URL/,
    );
    await expect(open({ MYSQL_URL: mysqlUrl.replace(/:\w+@/, ':wrong@') })).rejects.toThrow(
      /refused the user or the password in MYSQL_URL/,
    );
  });

  it('a Redis database that is not there', async () => {
    await redis.set('mine', 'kept');
    await expect(open({ REDIS_URL: redisUrl.replace(/9$/, '99') })).rejects.toThrow(
      'has no database of that number',
    );
  });

  it.concurrent('another kind of server, within 3 s', async () => {
    const swapped = open({
      REDIS_URL: `redis://${new URL(mysqlUrl).host}`,
      MYSQL_URL: `mysql://${new URL(redisUrl).host}`,
    });
    await expect(swapped).rejects.toThrow(
      /is not a Redis[\s\S]*did not answer as a MySQL or MariaDB within 3 s/,
    );
  });

  it.concurrent('a server that never answers, within 3 s', async () => {
    const mute = createServer((socket) => socket.on('error', () => {}).resume());
    await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void mute.close());
    const address = mute.address();
    const port = typeof address === 'object' ? address?.port : 0;
    await expect(open({ REDIS_URL: `redis://127.0.0.1:${port}` })).rejects.toThrow(
      /did not answer as a Redis within 3 s/,
    );
  });
});
