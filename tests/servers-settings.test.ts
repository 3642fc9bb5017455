import { Redis } from 'ioredis';
import mysql, { type Connection, type RowDataPacket } from 'mysql2/promise';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { openProxy } from '#kit/proxy';
import { openPool } from '../course/kit/pool';
import { unfitSetting } from '../course/servers/fit';
import { givenServers } from '../course/servers/given';
import { startMysql } from '../course/servers/mysql';
import { startRedis } from '../course/servers/redis';
import { tooOld } from '../course/servers/versions';
import { LONG_MS } from './servers-tools';

// A server whose owner has settings of their own.
let server: Awaited<ReturnType<typeof startMysql>>;
let redisServer: Awaited<ReturnType<typeof startRedis>>;
let admin: Connection;
let redis: Redis;
let defaults: RowDataPacket;

const SETTINGS: Readonly<Record<string, string>> = {
  sql_mode: "'ANSI_QUOTES'",
  autocommit: '0',
  time_zone: "'+05:30'",
  default_storage_engine: "'MEMORY'",
  auto_increment_increment: '7',
  sql_select_limit: '1',
  innodb_lock_wait_timeout: '1',
};

beforeAll(async () => {
  [server, redisServer] = await Promise.all([startMysql(), startRedis()]);
  redis = new Redis(redisServer.url);
  admin = await mysql.createConnection({ uri: server.url });
  const [[row]] = await admin.query<RowDataPacket[]>(`SELECT ${read('GLOBAL')}`);
  defaults = row ?? ({} as RowDataPacket);
}, LONG_MS);

afterAll(async () => {
  admin.destroy();
  redis.disconnect();
  await Promise.all([server.close(), redisServer.close()]);
});

const read = (scope: string) =>
  Object.keys(SETTINGS)
    .map((name) => `@@${scope}.${name} AS ${name}`)
    .join(', ');

afterEach(async () => {
  for (const name of Object.keys(SETTINGS)) {
    await admin.query('SET GLOBAL ?? = ?', [name, defaults[name]]);
  }
});

describe('a pool of the course', () => {
  it('begins with the settings of the course, whatever the server has', async () => {
    for (const [name, value] of Object.entries(SETTINGS)) await admin.query(`SET GLOBAL ${name} = ${value}`);
    const pool = openPool(server.url);
    onTestFinished(() => pool.end());
    const [[seen]] = await pool.query<RowDataPacket[]>(`SELECT ${read('SESSION')}`);
    expect(seen).toMatchObject({
      sql_mode: 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION',
      autocommit: 1,
      time_zone: '+00:00',
      default_storage_engine: 'InnoDB',
      auto_increment_increment: 1,
      innodb_lock_wait_timeout: 50,
    });
    expect(Number(seen?.sql_select_limit)).toBeGreaterThan(1e18);
  });

  it('sends them unseen by gates and schedules', async () => {
    const proxy = await openProxy(server.url);
    const requests: string[] = [];
    proxy.schedule(async (request) => {
      requests.push(request);
    });
    const pool = openPool(proxy.url);
    onTestFinished(() => pool.end());
    await pool.query('SELECT 1');
    expect(requests).toEqual(['SELECT 1']);
  });
});

const open = (urls: { REDIS_URL?: string; MYSQL_URL?: string } = {}) =>
  givenServers({ REDIS_URL: redisServer.url, MYSQL_URL: server.url, ...urls });

describe('a given MySQL is refused, with the remedy', { timeout: LONG_MS }, () => {
  it.each([
    ['max_connections', 20, /127.0.0.1:\d+ has max_connections = 20: .*SET GLOBAL max_connections = 151;/],
    ['max_allowed_packet', 65_536, /has max_allowed_packet = 65536: .*max_allowed_packet = 16777216;/],
    ['read_only', 1, /has read_only = (ON|1): the labs write. Run SET GLOBAL read_only = OFF;/],
  ])('for its %s', async (name, value, told) => {
    const [[before]] = await admin.query<RowDataPacket[]>(`SELECT @@GLOBAL.${name} AS value`);
    await admin.query(`SET GLOBAL ${name} = ${value}`);
    onTestFinished(() => admin.query(`SET GLOBAL ${name} = ${before?.value}`).then(() => {}));
    await expect(open()).rejects.toThrow(told);
  });

  it.each([
    [{ log_bin: 'ON', binlog_format: 'STATEMENT' }, 'binlog_format = STATEMENT'],
    [{ log_bin: 'OFF', binlog_format: 'STATEMENT' }, undefined],
    [{ log_bin: 'ON', binlog_format: 'MIXED' }, undefined],
    [{ innodb_snapshot_isolation: 'ON' }, 'innodb_snapshot_isolation = ON'],
  ])('for %o', (settings, setting) => {
    expect(unfitSetting(new Map(Object.entries(settings)))?.setting).toBe(setting);
  });
});

describe('a given Redis is refused, with the remedy', { timeout: LONG_MS }, () => {
  it.each([
    ['flushdb', 'FLUSHDB'],
    ['info', 'INFO'],
    ['eval', 'EVAL'],
  ])('whose account may not run %s', async (command, told) => {
    await redis.call('ACL', 'SETUSER', 'pupil', 'reset', 'on', '>pw', '~*', '&*', '+@all', `-${command}`);
    const url = redisServer.url.replace(/default:\w+@/, 'pupil:pw@');
    await expect(open({ REDIS_URL: url })).rejects.toThrow(
      new RegExp(`refuses ${told} \\(.*NOPERM.*ACL SETUSER its-name \\+@all ~\\* &\\*`),
    );
  });

  it('that would run out of memory, or evict keys', async () => {
    await redis.config('SET', 'maxmemory', '20mb', 'maxmemory-policy', 'allkeys-lru');
    onTestFinished(() =>
      redis.config('SET', 'maxmemory', '0', 'maxmemory-policy', 'noeviction').then(() => {}),
    );
    await expect(open()).rejects.toThrow(
      /has 1\d(\.\d)? MB left of its maxmemory \(20 MB, policy allkeys-lru\).*Run CONFIG SET maxmemory 0 on it/,
    );
  });

  it('that is a replica', async () => {
    await redis.replicaof('127.0.0.1', 1);
    onTestFinished(() => redis.replicaof('NO', 'ONE').then(() => {}));
    await expect(open()).rejects.toThrow(/is a replica, and the labs write/);
  });
});

describe('options in a URL are refused', () => {
  it.each([
    [{ MYSQL_URL: 'mysql://root:pw@127.0.0.1?ssl={}' }, /asks for TLS.*MYSQL_URL=mysql:\/\/…@127.0.0.1,/],
    [{ MYSQL_URL: 'mysql://127.0.0.1?dateStrings=true&compress=true' }, /sets dateStrings, compress/],
    [{ REDIS_URL: 'rediss://127.0.0.1:6380/2' }, /asks for TLS.*REDIS_URL=redis:\/\/127.0.0.1:6380\/2,/],
    [{ REDIS_URL: 'redis://127.0.0.1?keyPrefix=mine' }, /sets keyPrefix/],
  ])('%o', async (urls, told) => {
    await expect(open(urls)).rejects.toThrow(told);
  });
});

it.each([
  ['Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64', /is Redis 6.0.16, .*need Redis 7/],
  ['Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64', undefined],
  ['Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64', undefined],
  ['# Server\r\nredis_version:6.2.6\r\n', /is Redis 6.2.6/],
  ['# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:7.2.5\r\n', undefined],
  ['mysqld  Ver 10.5.23-MariaDB-0+deb11u1 for debian-linux-gnu on x86_64', /is MariaDB 10.5.23, .*10.6/],
  ['mariadbd  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64', undefined],
  ['/usr/sbin/mysqld  Ver 5.7.44 for Linux on x86_64', /is MySQL 5.7.44, .*8.0.19/],
  ['/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))', undefined],
  ['8.0.18', /is MySQL 8.0.18/],
  ['8.4.0', undefined],
  ['11.8.9-MariaDB-0+deb13u1 from Debian', undefined],
])('a version: %s', (text, told) => {
  const said = tooOld('It', text);
  if (told) expect(said).toMatch(told);
  else expect(said).toBeUndefined();
});
