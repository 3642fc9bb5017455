import type { Pool, RowDataPacket } from 'mysql2/promise';
import {
  askEach,
  type Cause,
  type Diagnosis,
  readGroups,
  rowsOf,
  type Site,
  scanKeys,
  TOO_MUCH,
} from '../given';

/** Listens to the traffic of one moment (MONITOR), and reads SLOWLOG; a statement is run once, and its rows are counted. */
export async function diagnose({ redis, db, moment }: Site): Promise<Diagnosis> {
  const trx = () =>
    rowsOf(
      db,
      'SELECT trx_mysql_thread_id id, trx_started, trx_rows_modified done FROM information_schema.INNODB_TRX',
    );
  const oom = async () => /errorstat_OOM:count=(\d+)/.exec(await redis.info('errorstats'))?.[1] ?? '0';
  const [idBefore] = [await lastSlow(redis)];
  const before = { groups: await readGroups(redis), trx: await trx(), oom: await oom() };
  const rejectedBefore = await rejected(redis);

  const heard: string[][] = [];
  const monitor = await redis.monitor();
  monitor.on('monitor', (_time: string, args: string[], source: string) => {
    if (source !== 'lua') heard.push(args);
  });
  const statements = await moment();
  // What MONITOR tells comes in order: once it has told this, it has told all.
  await redis.ping('over');
  while (heard.at(-1)?.[1] !== 'over') await new Promise((resolve) => setTimeout(resolve, 1));
  monitor.disconnect();

  const found = (cause: Cause, evidence: unknown): Diagnosis => ({ cause, evidence: String(evidence) });
  if ((await oom()) !== before.oom) {
    const now = [...(await rejected(redis))].find(([name, count]) => count > (rejectedBefore.get(name) ?? 0));
    return found('out-of-memory', now?.[0]);
  }
  const slow = (await slowLog(redis)).filter(
    ([id, , us]) => Number(id) > idBefore && Number(us) >= TOO_MUCH.blockedUs,
  );
  const walk = slow
    .map(([, , , args]) => String((args as string[])[0]))
    .find((name) => /^(keys|eval|sort)/i.test(name));
  if (walk) return found('blocking-command', walk);

  const reads = heard
    .filter(([name = '']) => /^(get|hgetall|lrange)$/i.test(name))
    .map(([, key = '']) => key);
  const counts = new Map<string, number>();
  for (const key of reads) counts.set(key, (counts.get(key) ?? 0) + 1);
  const keys = [...counts.keys()];
  const bytes = await askEach(redis, keys, 'MEMORY', 'USAGE');
  const big = keys[bytes.findIndex((size) => size > TOO_MUCH.bytes)];
  if (big) return found('big-key', big);
  const hot = keys.find((key) => (counts.get(key) ?? 0) > reads.length * TOO_MUCH.readsOfOneKey);
  if (hot) return found('hot-key', hot);

  const later = new Map((await trx()).map((row) => [row.id, JSON.stringify(row)]));
  const idle = before.trx.find((row) => later.get(row.id) === JSON.stringify(row));
  if (idle) return found('idle-transaction', idle.id);
  const after = await readGroups(redis);
  const dead = before.groups.find(({ stream, lastDelivered }) =>
    after.some((group) => group.stream === stream && group.lastDelivered === lastDelivered && group.lag > 0),
  );
  if (dead) return found('dead-relay', dead.name);
  for (const { sql } of statements)
    if ((await rowsRead(db, sql)) > TOO_MUCH.rows) return found('missing-index', sql);

  const all = await scanKeys(redis);
  const ends = (await askEach(redis, all, 'PTTL')).map((ms) =>
    ms > 0 ? Math.round((Date.now() + ms) / 1000) : 0,
  );
  const together = all.find(
    (_, at) =>
      ends[at] && ends.filter((second) => second === ends[at]).length > all.length * TOO_MUCH.expiringAtOnce,
  );
  return together ? found('synchronised-expiry', together) : found('healthy', '');
}

type Redis = Site['redis'];

const slowLog = async (redis: Redis) => (await redis.call('SLOWLOG', 'GET', '128')) as unknown[][];
const lastSlow = async (redis: Redis) => Number((await slowLog(redis))[0]?.[0] ?? -1);

async function rejected(redis: Redis): Promise<Map<string, number>> {
  const stats = (await redis.info('commandstats')).matchAll(/cmdstat_([\w|]+):.*rejected_calls=(\d+)/g);
  return new Map([...stats].map(([, name = '', count]) => [name, Number(count)]));
}

/** On one connection, so that no other statement is counted. */
async function rowsRead(db: Pool, sql: string): Promise<number> {
  const connection = await db.getConnection();
  const count = async () => {
    const [rows] = await connection.query<RowDataPacket[]>(
      "SHOW SESSION STATUS LIKE 'Handler_read_rnd_next'",
    );
    return Number(rows[0]?.Value);
  };
  try {
    const before = await count();
    await connection.query(sql);
    return (await count()) - before;
  } finally {
    connection.release();
  }
}
