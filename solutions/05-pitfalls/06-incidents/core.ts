import { askEach, type Diagnosis, figure, readInfo, rowsOf, type Site, scanKeys, TOO_MUCH } from './given';

/** The textbook version: one look. What happened last night looks to it as if it happened now. */
// #region core
export async function diagnose({ redis, db, moment }: Site): Promise<Diagnosis> {
  const statements = await moment();

  const errors = await readInfo(redis, 'errorstats');
  if (errors.errorstat_OOM) {
    const commands = Object.entries(await readInfo(redis, 'commandstats'));
    const refused = commands.find(([, stats]) => figure(stats, 'rejected_calls') > 0);
    return { cause: 'out-of-memory', evidence: refused?.[0].replace('cmdstat_', '') ?? '' };
  }

  for (const { sql } of statements) {
    const [plan] = await rowsOf(db, `EXPLAIN FORMAT=TRADITIONAL ${sql}`);
    if (plan?.type === 'ALL' && Number(plan.rows) > TOO_MUCH.rows)
      return { cause: 'missing-index', evidence: sql };
  }

  const keys = await scanKeys(redis);
  const [bytes, reads] = [
    await askEach(redis, keys, 'MEMORY', 'USAGE'),
    await askEach(redis, keys, 'OBJECT', 'FREQ'),
  ];
  const big = keys.find((_, at) => Number(bytes[at]) > TOO_MUCH.bytes && Number(reads[at]) > 0);
  if (big) return { cause: 'big-key', evidence: big };

  const seconds = (await askEach(redis, keys, 'PEXPIRETIME')).map((ms) => Math.floor(ms / 1000));
  const endingIn = new Map<number, number>();
  for (const second of seconds) if (second > 0) endingIn.set(second, (endingIn.get(second) ?? 0) + 1);
  const together = keys.find(
    (_, at) => Number(endingIn.get(Number(seconds[at]))) > keys.length * TOO_MUCH.expiringAtOnce,
  );
  if (together) return { cause: 'synchronised-expiry', evidence: together };

  return { cause: 'healthy', evidence: '' };
}
// #endregion
