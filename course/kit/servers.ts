import { Redis, type RedisOptions } from 'ioredis';
import mysql, { type Pool, type PoolOptions } from 'mysql2/promise';
import { afterAll, beforeAll, beforeEach, inject } from 'vitest';
import { dropSchema, freshSchema, REDIS_MARK, SCHEMA, takeTurn } from '../servers/ours';
import { SESSION } from '../servers/session';
import { createTables, fillTables, type TableName } from './data/small';
import { endPool, openPool } from './pool';
import { clearRequests, nameRequests, recordRequests } from './requests';

/** What reached the servers while something ran, as the servers count it. */
export interface Work {
  /** Redis commands by name, summed: `work.redis('get', 'mget')`; with no name, every data command. */
  redis(...commands: string[]): number;
  /** SQL statements by kind, summed: `work.sql('select')`; with no name, every select, insert, update and delete. */
  sql(...kinds: string[]): number;
}

export interface LabServers {
  /** A connected client on an emptied database. */
  readonly redis: Redis;
  /** A pool on a schema that holds only the tables asked for. */
  readonly db: Pool;
  readonly redisUrl: string;
  /** With the schema in its path. */
  readonly mysqlUrl: string;
  /** Another client, ended with the test file. The URL may be a proxy's. */
  connectRedis(options?: RedisOptions, url?: string): Redis;
  /** Another pool, ended with the test file. The URL may be a proxy's. */
  connectDb(options?: PoolOptions, url?: string): Pool;
  /** Runs `action` and counts at the servers (INFO commandstats, SHOW GLOBAL STATUS) what it caused. */
  work(action: () => Promise<unknown>): Promise<Work>;
}

const LOCK_WAIT_S = 60;

/**
 * A real Redis and a real MySQL for one test file. Call it once, at the top. Before each test Redis is empty and
 * each named table holds its small data set again (see data/small.ts).
 */
export function useServers(...tables: TableName[]): LabServers {
  recordRequests();
  let opened: Awaited<ReturnType<typeof open>> | undefined;
  const use = () => {
    if (!opened) throw new Error('the servers are open inside tests and hooks only');
    return opened;
  };
  beforeAll(
    async () => {
      opened = await open(tables);
    },
    (LOCK_WAIT_S + 5) * 1000,
  );
  beforeEach(async () => {
    const { redis, db } = use();
    await Promise.all([emptyRedis(redis), fillTables(db, tables)]);
    clearRequests();
  });
  afterAll(() => opened?.close());
  return {
    get redis() {
      return use().redis;
    },
    get db() {
      return use().db;
    },
    get redisUrl() {
      return use().urls.redis;
    },
    get mysqlUrl() {
      return use().urls.mysql;
    },
    connectRedis: (options, url) => use().connectRedis(options, url),
    connectDb: (options, url) => use().connectDb(options, url),
    work: (action) => use().work(action),
  };
}

async function open(tables: readonly TableName[]) {
  const server = serversOfThisWorker();
  const urls = { redis: server.redis, mysql: withPath(server.mysql, SCHEMA) };
  const clients: Redis[] = [];
  const pools: Pool[] = [];

  const admin = await mysql.createConnection({ uri: server.mysql, multipleStatements: true });
  await admin.query(SESSION);
  if (!(await takeTurn(admin, LOCK_WAIT_S))) {
    throw new Error(
      `another run of the course has been using this MySQL for ${LOCK_WAIT_S} s: end it, or wait`,
    );
  }
  nameRequests(admin, '');
  await freshSchema(admin, SCHEMA);
  await createTables(admin, tables);

  const connectRedis = (options: RedisOptions = {}, url = urls.redis) => {
    const client = new Redis(url, options);
    // A lab cuts proxies on purpose: an unheard error event would only print noise.
    client.on('error', () => {});
    clients.push(client);
    return client;
  };
  const connectDb = (options: PoolOptions = {}, url = urls.mysql) => {
    const pool = openPool(url, options);
    pools.push(pool);
    return pool;
  };
  const redis = connectRedis();
  const db = connectDb();

  return {
    urls,
    redis,
    db,
    connectRedis,
    connectDb,
    async work(action: () => Promise<unknown>): Promise<Work> {
      const before = await counters(redis, admin);
      await action();
      const after = await counters(redis, admin);
      const since = (side: 'redis' | 'sql', names: string[]) =>
        [...after[side]]
          .filter(([name]) => (names.length === 0 ? !NOT_DATA.test(name) : names.includes(name)))
          .reduce((sum, [name, count]) => sum + count - (before[side].get(name) ?? 0), 0);
      return {
        redis: (...names) => since('redis', names),
        sql: (...names) =>
          since('sql', names.length > 0 ? names : ['select', 'insert', 'update', 'delete', 'replace']),
      };
    },
    async close() {
      for (const client of clients) client.disconnect();
      await Promise.all(pools.map(endPool));
      await dropSchema(admin, SCHEMA);
      await admin.end();
    },
  };
}

function serversOfThisWorker() {
  const all = inject('servers');
  const servers = all[(Number(process.env.VITEST_POOL_ID ?? 1) - 1) % all.length];
  if (!servers) throw new Error('no servers were opened for this run');
  return servers;
}

async function emptyRedis(redis: Redis): Promise<void> {
  await redis.multi().flushdb().set(REDIS_MARK, '1').exec();
}

/** Handshakes and our own bookkeeping. */
const NOT_DATA = /^(info|hello|client|select|auth|ping|command|config|multi|exec|flushdb)(\||$)/;

async function counters(redis: Redis, admin: mysql.Connection) {
  const [info, [status]] = await Promise.all([
    redis.info('commandstats'),
    admin.query<mysql.RowDataPacket[]>("SHOW GLOBAL STATUS LIKE 'Com\\_%'"),
  ]);
  const commands = info.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm);
  return {
    redis: new Map([...commands].map(([, name, calls]) => [String(name).toLowerCase(), Number(calls)])),
    sql: new Map(status.map((row) => [String(row.Variable_name).slice('Com_'.length), Number(row.Value)])),
  };
}

function withPath(url: string, path: string): string {
  const changed = new URL(url);
  changed.pathname = path;
  return changed.href;
}
