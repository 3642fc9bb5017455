import mysql, { type Connection, type RowDataPacket } from 'mysql2/promise';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { openProxy } from '#kit/proxy';
import { openPool } from '../course/kit/pool';
import { startMysql } from '../course/servers/mysql';
import { LONG_MS } from './servers-tools';

// A server whose owner has settings of their own.
let server: Awaited<ReturnType<typeof startMysql>>;
let admin: Connection;
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
  server = await startMysql();
  admin = await mysql.createConnection({ uri: server.url });
  const [[row]] = await admin.query<RowDataPacket[]>(`SELECT ${read('GLOBAL')}`);
  defaults = row ?? ({} as RowDataPacket);
}, LONG_MS);

afterAll(async () => {
  admin.destroy();
  await server.close();
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
