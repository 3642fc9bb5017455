import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { defineMeasure, median } from '#claims';
import { FILL_SPREAD, FILL_TOGETHER } from '#experiments/incidents/shop';

const KEYS = 50_000;
const TABLE = 'incident_rows';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db } = servers();
    const other = redis.duplicate();
    try {
      const ttl = await ttlsThatLookAlike(redis);
      await redis.eval(FILL_SPREAD, 1, 'session', KEYS, 7);
      const tries = quick ? 5 : 40;
      const alone = await getBehind(other, () => Promise.resolve(), tries * 5);
      const keys = await getBehind(other, () => redis.keys('session:*:vip'), tries);
      const scan = await getBehind(
        other,
        () => redis.scan('0', 'MATCH', 'session:*:vip', 'COUNT', 100),
        tries,
      );
      const rows = quick ? 200 : 1000;
      const [withIdle, without] = [await historyAfter(db, rows, true), await historyAfter(db, rows, false)];
      const behind = `time of a GET behind one call, among ${KEYS} keys, against a GET alone, p50:`;
      const left = `committed updates whose old rows are kept after a second: `;
      return {
        claims: [
          { name: 'keys', says: `${behind} KEYS`, value: keys / alone, unit: '×', atLeast: 5 },
          { name: 'scan', says: `${behind} SCAN with COUNT 100`, value: scan / alone, unit: '×' },
          {
            name: 'avg-ttl',
            says: 'avg_ttl of keys that end together, against that of spread ones',
            value: ttl.average,
            unit: '×',
            atLeast: 0.9,
            atMost: 1.1,
          },
          {
            name: 'one-second',
            says: 'most keys that end in one second: keys that end together, against spread ones',
            value: ttl.oneSecond,
            unit: '×',
            atLeast: 20,
          },
          {
            name: 'history-idle',
            says: `${left}with an idle transaction`,
            value: withIdle,
            unit: '%',
            atLeast: 90,
          },
          { name: 'history-none', says: `${left}without it`, value: without, unit: '%' },
        ],
      };
    } finally {
      other.disconnect();
      await db.query(`DROP TABLE IF EXISTS ${TABLE}`);
    }
  },
});

/** How long a GET of another client takes that comes right after a command (ms). */
async function getBehind(other: Redis, command: () => Promise<unknown>, tries: number): Promise<number> {
  const times: number[] = [];
  for (let nth = 0; nth < tries; nth++) {
    const running = command();
    const start = performance.now();
    await other.get('session:1');
    times.push(performance.now() - start);
    await running;
  }
  return median(times);
}

/** The same mean, and not the same load. */
async function ttlsThatLookAlike(redis: Redis): Promise<{ average: number; oneSecond: number }> {
  const look = async () => {
    const end = async (id: number) => Number(await redis.call('PEXPIRETIME', `page:${id}`));
    const ends = await Promise.all(Array.from({ length: 1000 }, (_, id) => end(id + 1)));
    const perSecond = new Map<number, number>();
    for (const ms of ends)
      perSecond.set(Math.floor(ms / 1000), (perSecond.get(Math.floor(ms / 1000)) ?? 0) + 1);
    const mean = ends.reduce((sum, ms) => sum + ms, 0) / ends.length - Date.now();
    return { mean, most: Math.max(...perSecond.values()) };
  };
  await redis.eval(FILL_SPREAD, 1, 'page', 1000, 7);
  const spread = await look();
  await redis.eval(FILL_TOGETHER, 1, 'page', 1000, 1, 1_350_000);
  const together = await look();
  return { average: together.mean / spread.mean, oneSecond: together.most / spread.most };
}

/** The share of `updates` whose undo logs are still in the history list a second after the last of them (%). */
async function historyAfter(db: Pool, updates: number, idle: boolean): Promise<number> {
  await db.query(`DROP TABLE IF EXISTS ${TABLE}`);
  await db.query(`CREATE TABLE ${TABLE} (id INT PRIMARY KEY, n INT NOT NULL)`);
  await db.query(`INSERT INTO ${TABLE} VALUES (1, 0)`);
  await sleep(1000);
  const connection = await db.getConnection();
  try {
    const before = await historyLength(db);
    if (idle) await connection.query('START TRANSACTION WITH CONSISTENT SNAPSHOT');
    for (let nth = 0; nth < updates; nth++) await db.query(`UPDATE ${TABLE} SET n = n + 1 WHERE id = 1`);
    await sleep(1000);
    return Math.max(0, ((await historyLength(db)) - before) / updates) * 100;
  } finally {
    await connection.query('ROLLBACK');
    connection.release();
  }
}

async function historyLength(db: Pool): Promise<number> {
  const [rows] = await db.query<RowDataPacket[]>(
    "SELECT COUNT AS length FROM information_schema.INNODB_METRICS WHERE NAME = 'trx_rseg_history_len'",
  );
  return Number(rows[0]?.length);
}
