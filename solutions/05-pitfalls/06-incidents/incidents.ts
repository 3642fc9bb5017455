import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  askEach,
  type Diagnosis,
  figure,
  type Group,
  readGroups,
  readInfo,
  readsFor,
  rowsOf,
  type Site,
  scanKeys,
  TOO_MUCH,
} from './given';

/**
 * Finds what is wrong with the shop, and changes nothing. Core: it is one of the first four causes, and one look after a moment shows it.
 * In production: counters also hold last night's faults, and only two looks show what happens now.
 */
// #region diagnose
export async function diagnose({ redis, db, moment }: Site): Promise<Diagnosis> {
  const groups = await readGroups(redis);
  const frequencies = await readFrequencies(redis);
  const transactions = await sleepingTransactions(db);
  const scanned = await rowsScanned(db);
  // Last before the moment and first after it, so that the questions of this function are not counted.
  const before = await readCounters(redis);
  const statements = await moment();
  const after = await readCounters(redis);

  const refused = findRefused(before, after);
  if (refused) return { cause: 'out-of-memory', evidence: refused };
  const blocking = findBlocking(before, after);
  if (blocking) return { cause: 'blocking-command', evidence: blocking };
  const idle = await findIdle(db, transactions);
  if (idle) return { cause: 'idle-transaction', evidence: idle };
  const stream = findStuck(groups, await readGroups(redis));
  if (stream) return { cause: 'dead-relay', evidence: stream };
  const scan = await findScan(db, statements, (await rowsScanned(db)) - scanned);
  if (scan) return { cause: 'missing-index', evidence: scan };
  return (await diagnoseKeys(redis, frequencies)) ?? { cause: 'healthy', evidence: '' };
}
// #endregion

// #region counters
type Counters = Record<string, string>;

const readCounters = async (redis: Redis): Promise<Counters> => ({
  ...(await readInfo(redis, 'errorstats')),
  ...(await readInfo(redis, 'commandstats')),
});

/** How much one number of a counter has grown. */
const growth = (before: Counters, after: Counters, counter: string, name: string): number =>
  figure(after[counter], name) - figure(before[counter], name);

function findRefused(before: Counters, after: Counters): string | undefined {
  if (growth(before, after, 'errorstat_OOM', 'count') === 0) return undefined;
  const refused = Object.keys(after).find((name) => growth(before, after, name, 'rejected_calls') > 0);
  return refused?.replace('cmdstat_', '');
}

/** Commands that may walk over all keys. Those that are slow because of one key are found by that key. */
const WALKS = ['keys', 'eval', 'evalsha', 'fcall', 'sort'];

function findBlocking(before: Counters, after: Counters): string | undefined {
  return WALKS.find((command) => {
    const grown = (name: string) => growth(before, after, `cmdstat_${command}`, name);
    return grown('usec') > grown('calls') * TOO_MUCH.blockedUs;
  });
}
// #endregion

// #region mysql
/** What each transaction has done, by the id of its connection. Only those that do nothing at this moment. */
async function sleepingTransactions(db: Pool): Promise<Map<string, string>> {
  const rows = await rowsOf(
    db,
    `SELECT p.ID AS connection, CONCAT_WS(' ', t.trx_id, t.trx_started, t.trx_rows_modified) AS done
     FROM information_schema.INNODB_TRX t JOIN information_schema.PROCESSLIST p ON p.ID = t.trx_mysql_thread_id
     WHERE p.DB = DATABASE() AND p.COMMAND = 'Sleep' AND t.trx_query IS NULL`,
  );
  return new Map(rows.map(({ connection, done }) => [String(connection), String(done)]));
}

async function findIdle(db: Pool, before: Map<string, string>): Promise<string | undefined> {
  const after = await sleepingTransactions(db);
  return [...before.keys()].find((connection) => after.get(connection) === before.get(connection));
}

async function rowsScanned(db: Pool): Promise<number> {
  const [status] = await rowsOf(db, "SHOW GLOBAL STATUS LIKE 'Handler_read_rnd_next'");
  return Number(status?.Value);
}

/** The plan tells which statement scans, and the counter whether it reads that much: a LIMIT may end it early. */
async function findScan(db: Pool, statements: readonly { sql: string; calls: number }[], scanned: number) {
  for (const { sql, calls } of statements) {
    const [plan] = await rowsOf(db, `EXPLAIN FORMAT=TRADITIONAL ${sql}`);
    const isScan = plan?.type === 'ALL' && Number(plan.rows) > TOO_MUCH.rows;
    if (isScan && scanned > calls * TOO_MUCH.rows) return sql;
  }
  return undefined;
}
// #endregion

/** Events wait, and the group has read none of them meanwhile. */
function findStuck(before: readonly Group[], after: readonly Group[]): string | undefined {
  const readNothing = ({ stream, name, lastDelivered }: Group) =>
    before.some(
      (group) => group.stream === stream && group.name === name && group.lastDelivered === lastDelivered,
    );
  return after.find((group) => group.lag > 0 && readNothing(group))?.stream;
}

// #region keys
async function readFrequencies(redis: Redis): Promise<Map<string, number>> {
  const keys = await scanKeys(redis);
  const answers = await askEach(redis, keys, 'OBJECT', 'FREQ');
  return new Map(keys.map((key, at) => [key, Number(answers[at])]));
}

async function diagnoseKeys(redis: Redis, before: Map<string, number>): Promise<Diagnosis | undefined> {
  const after = await readFrequencies(redis);
  const keys = [...after.keys()];
  const reads = keys.map((key) => readsFor(after.get(key) ?? 0) - readsFor(before.get(key) ?? 0));

  const bytes = await askEach(redis, keys, 'MEMORY', 'USAGE');
  const big = keys.find((_, at) => Number(bytes[at]) > TOO_MUCH.bytes && Number(reads[at]) > 0);
  if (big) return { cause: 'big-key', evidence: big };

  const all = reads.reduce((sum, each) => sum + Math.max(0, each), 0);
  const hot = keys.find((_, at) => Number(reads[at]) > all * TOO_MUCH.readsOfOneKey);
  if (hot) return { cause: 'hot-key', evidence: hot };

  const ends = (await askEach(redis, keys, 'PEXPIRETIME')).map((ms) => Math.floor(ms / 1000));
  const endingIn = new Map<number, number>();
  for (const second of ends) if (second > 0) endingIn.set(second, (endingIn.get(second) ?? 0) + 1);
  const share = (second = 0) => (endingIn.get(second) ?? 0) / keys.length;
  const together = keys.find((_, at) => share(ends[at]) > TOO_MUCH.expiringAtOnce);
  return together ? { cause: 'synchronised-expiry', evidence: together } : undefined;
}
// #endregion
