import {
  askEach,
  type Cause,
  type Diagnosis,
  figure,
  readGroups,
  readInfo,
  readsFor,
  rowsOf,
  type Site,
  scanKeys,
  TOO_MUCH,
} from '../given';

type Look = Awaited<ReturnType<Shop['look']>>;

/** A class with a check for each cause. Every check runs; the first in the order of this list counts. */
class Shop {
  readonly site: Site;

  constructor(site: Site) {
    this.site = site;
  }

  async look() {
    const { redis, db } = this.site;
    const keys = await scanKeys(redis);
    const frequency = await askEach(redis, keys, 'OBJECT', 'FREQ');
    return {
      frequency: new Map(keys.map((key, at) => [key, frequency[at] ?? 0])),
      groups: new Map((await readGroups(redis)).map((group) => [group.name, group])),
      trx: new Map(
        (await rowsOf(db, 'SELECT * FROM information_schema.INNODB_TRX')).map((row) => [
          String(row.trx_mysql_thread_id),
          `${row.trx_started} ${row.trx_rows_modified} ${row.trx_query}`,
        ]),
      ),
    };
  }

  async diagnose(): Promise<Diagnosis> {
    const { redis } = this.site;
    const before = await this.look();
    const counters = async () => ({
      ...(await readInfo(redis, 'errorstats')),
      ...(await readInfo(redis, 'commandstats')),
    });
    const first: Record<string, string> = await counters();
    const statements = await this.site.moment();
    const second: Record<string, string> = await counters();
    const after = await this.look();
    const grown = (name: string, field: string) => figure(second[name], field) - figure(first[name], field);
    const command = (has: (name: string) => boolean) =>
      Object.keys(second)
        .find((name) => name.startsWith('cmdstat_') && has(name))
        ?.slice(8);

    // A single call of another command that takes long may be the machine's fault.
    const blocks = (name: string) =>
      /_(keys|sort|eval|evalsha|fcall)$/.test(name) &&
      grown(name, 'usec') > grown(name, 'calls') * TOO_MUCH.blockedUs;

    const outOfMemory = grown('errorstat_OOM', 'count') > 0;
    const evidence: [Cause, string | undefined][] = [
      ['out-of-memory', outOfMemory ? command((name) => grown(name, 'rejected_calls') > 0) : undefined],
      ['big-key', await this.bigKey(before, after)],
      ['blocking-command', command(blocks)],
      ['missing-index', await this.missingIndex(statements)],
      ['hot-key', this.hotKey(before, after)],
      ['idle-transaction', [...before.trx].find(([id, seen]) => after.trx.get(id) === seen)?.[0]],
      ['dead-relay', this.deadRelay(before, after)],
      ['synchronised-expiry', await this.together([...after.frequency.keys()])],
    ];
    const [cause, found] = evidence.find(([, names]) => names !== undefined) ?? ['healthy', ''];
    return { cause, evidence: found ?? '' };
  }

  async bigKey(before: Look, after: Look) {
    const read = [...after.frequency]
      .filter(([key, now]) => now > (before.frequency.get(key) ?? 0))
      .map(([key]) => key);
    const bytes = await askEach(this.site.redis, read, 'MEMORY', 'USAGE');
    return read[bytes.findIndex((size) => size > TOO_MUCH.bytes)];
  }

  hotKey(before: Look, after: Look) {
    const reads = [...after.frequency].map(
      ([key, now]) => [key, Math.max(0, readsFor(now) - readsFor(before.frequency.get(key) ?? now))] as const,
    );
    const all = reads.reduce((sum, [, count]) => sum + count, 0);
    return reads.find(([, count]) => count > all * TOO_MUCH.readsOfOneKey)?.[0];
  }

  deadRelay(before: Look, after: Look) {
    return [...after.groups.values()].find(
      ({ name, lag, lastDelivered }) => lag > 0 && before.groups.get(name)?.lastDelivered === lastDelivered,
    )?.stream;
  }

  async missingIndex(statements: Awaited<ReturnType<Site['moment']>>) {
    for (const { sql } of statements) {
      const [plan] = await rowsOf(this.site.db, `EXPLAIN FORMAT=TRADITIONAL ${sql}`);
      if (plan?.type === 'ALL' && plan.rows > TOO_MUCH.rows && !/\bLIMIT\b/i.test(sql)) return sql;
    }
    return undefined;
  }

  async together(keys: readonly string[]) {
    const ends = await askEach(this.site.redis, keys, 'PEXPIRETIME');
    const sorted = keys
      .map((key, at) => ({ key, end: ends[at] ?? 0 }))
      .filter(({ end }) => end > 0)
      .sort((a, b) => a.end - b.end);
    const many = Math.ceil(keys.length * TOO_MUCH.expiringAtOnce);
    return sorted.find(({ end }, at) => Number(sorted[at + many]?.end) - end < 1000)?.key;
  }
}

export const diagnose = (site: Site): Promise<Diagnosis> => new Shop(site).diagnose();
