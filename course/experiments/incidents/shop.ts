import { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { endPool, openPool } from '../../kit/pool';
import { seeded } from '../../kit/random';
import { nameRequests } from '../../kit/requests';

/** Where the shop lies. The Redis is its own: it is filled and configured. The schema must be the course's. */
export interface Place {
  readonly redisUrl: string;
  readonly mysqlUrl: string;
}

/** A statement that the shop sent to MySQL, complete, so that EXPLAIN takes it. */
export interface Statement {
  readonly sql: string;
  readonly calls: number;
}

/** Something that goes on in the shop: its ordinary traffic, a fault, or what looks like a fault. */
export interface Part {
  /** Its traffic of one moment. */
  moment?(): Promise<readonly Statement[] | undefined>;
  /** @throws where somebody has ended it */
  intact?(): Promise<unknown>;
  /** After all parts are made, and the counters of Redis are at zero. */
  begin?(): Promise<unknown>;
  end?(): unknown;
}

/**
 * How a Redis of the shop starts. SLOWLOG takes what lasts 1 ms or more (µs). OBJECT FREQ grows with the root of twice the
 * reads: by default it grows with a tenth of that, too little to be seen in a moment.
 */
export const REDIS_SETTINGS = {
  maxmemory: '64mb',
  'maxmemory-policy': 'allkeys-lfu',
  'lfu-log-factor': '1',
  'slowlog-log-slower-than': '1000',
} as const;

/** Other names for each seed; those of tables for each hundred of seeds, so that tables can be used again. */
export interface Names {
  readonly cached: string;
  readonly bundle: string;
  readonly table: string;
  readonly column: string;
  readonly settings: string;
}

export interface Shop {
  readonly redis: Redis;
  readonly db: Pool;
  readonly names: Names;
  pick<T>(choices: readonly [T, ...T[]]): T;
  /** An integer from `least` on, below `below`. */
  number(least: number, below: number): number;
  close(): Promise<void>;
}

export const ORDERS = 2000;
const CACHED = 600;
/** So many that the writes of a relay are a small share of all uses. */
const READS = 300;
const SETTINGS = 12;

/** A shop with data and nothing unusual in it. The same seed gives the same names. */
export async function openShop({ redisUrl, mysqlUrl }: Place, seed: number): Promise<Shop> {
  const redis = new Redis(redisUrl, { retryStrategy: () => null, maxRetriesPerRequest: 0 });
  redis.on('error', () => {});
  const db = openPool(mysqlUrl, { connectionLimit: 4 });
  for (const client of [redis, db]) nameRequests(client, '');
  const random = seeded(seed);
  const number = (least: number, below: number) => least + Math.floor(random() * (below - least));
  const pick = <T>(choices: readonly [T, ...T[]], by = random): T =>
    choices[Math.floor(by() * choices.length)] ?? choices[0];
  const tables = seeded(Math.floor(seed / 100));
  const names: Names = {
    cached: pick(['product', 'item', 'book', 'film']),
    bundle: pick(['menu', 'footer', 'country', 'shipping']),
    table: pick(['orders', 'invoices', 'bookings', 'tickets'], tables),
    column: pick(['customer_id', 'account_id', 'agent_id', 'coupon_id'], tables),
    settings: pick(['settings', 'currencies', 'tax_rates', 'warehouses'], tables),
  };
  const shop: Shop = {
    redis,
    db,
    names,
    pick,
    number,
    async close() {
      redis.disconnect();
      await endPool(db);
    },
  };
  try {
    await Promise.all([fillRedis(shop), fillMysql(shop)]);
    return shop;
  } catch (error) {
    await shop.close();
    throw error;
  }
}

/** Entries whose TTLs are spread, from 15 to 30 minutes. None ends with those that a fault lets end together. */
export const FILL_SPREAD = `
  math.randomseed(tonumber(ARGV[2]))
  for id = 1, ARGV[1] do
    local ms = 900000 + math.random(400000) + math.random(0, 1) * 500000
    redis.call('SET', KEYS[1] .. ':' .. id, string.rep('x', 60), 'PX', ms)
  end`;

/** Entries that all expire within ARGV[2] ms, after ARGV[3] ms. */
export const FILL_TOGETHER = `
  for id = 1, ARGV[1] do
    redis.call('SET', KEYS[1] .. ':' .. id, string.rep('x', 60), 'PX', ARGV[3] + id % ARGV[2])
  end`;

/** A few keys end together, and that is harmless. */
async function fillRedis({ redis, names, number }: Shop): Promise<void> {
  await redis.eval(FILL_SPREAD, 1, names.cached, CACHED, number(1, 1e6));
  await redis.eval(FILL_TOGETHER, 1, names.bundle, 20, 1, 1_200_000);
}

async function fillMysql({ db, names: { table, column, settings } }: Shop): Promise<void> {
  const [there] = await db.query<RowDataPacket[]>('SHOW TABLES LIKE ?', [table]);
  if (there.length > 0) return;
  await db.query(`CREATE TABLE IF NOT EXISTS ${settings} (name VARCHAR(20) NOT NULL, value INT NOT NULL)`);
  const rows = Array.from({ length: SETTINGS }, (_, row) => [`setting-${row}`, row]);
  await db.query(`INSERT INTO ${settings} VALUES ?`, [rows]);
  await db.query(
    `CREATE TABLE ${table} (id INT PRIMARY KEY, ${column} INT NOT NULL, status INT NOT NULL, note CHAR(40) NOT NULL, KEY by_${column} (${column})) STATS_SAMPLE_PAGES = 100`,
  );
  const digits = `(SELECT 0 d ${Array.from({ length: 9 }, (_, digit) => `UNION ALL SELECT ${digit + 1}`).join(' ')})`;
  // As many as ORDERS.
  const id = 'a.d + 10 * b.d + 100 * c.d + 1000 * e.d';
  await db.query(
    `INSERT INTO ${table} SELECT ${id}, (${id}) % 500, 0, REPEAT('n', 30)
     FROM ${digits} a, ${digits} b, ${digits} c, (SELECT 0 d UNION ALL SELECT 1) e`,
  );
  await db.query(`ANALYZE TABLE ${table}, ${settings}`);
}

/** What the shop does all the time. A scan of a tiny table is cheap; commands that fail for another reason are not OOM. */
export function ordinaryTraffic({ redis, db, names, number }: Shop): Part {
  const { cached, table, column, settings } = names;
  return {
    async moment() {
      const reads = redis.pipeline();
      for (let nth = 0; nth < READS; nth++) reads.get(`${cached}:${number(1, CACHED + 1)}`);
      for (let nth = 0; nth < 5; nth++) reads.llen(`${cached}:1`);
      const [statements] = await Promise.all([
        send(db, [
          [`SELECT value FROM ${settings} WHERE name = 'setting-${number(0, SETTINGS)}'`, 5],
          [`SELECT note FROM ${table} WHERE id = ${number(0, ORDERS)}`, 5],
          [`SELECT id, note FROM ${table} WHERE ${column} = ${number(0, 500)}`, 5],
        ]),
        reads.exec(),
      ]);
      return statements;
    },
  };
}

/** Sends each statement as often as it says. */
export async function send(
  db: Pool,
  statements: readonly (readonly [sql: string, calls: number])[],
): Promise<Statement[]> {
  for (const [sql, calls] of statements) {
    for (let call = 0; call < calls; call++) await db.query(sql);
  }
  return statements.map(([sql, calls]) => ({ sql, calls }));
}
