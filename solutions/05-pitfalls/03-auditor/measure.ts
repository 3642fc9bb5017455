import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { defineMeasure, type Plot } from '#claims';
import { SCHEMA } from '#kit/data/schema';
import { seeded } from '#kit/random';
import { createAuditor, type Options } from './auditor';
import { encode, idOf, mostExpected, realClock, type User, userKey, usersOf } from './given';

const USERS = 500;
const PLANTED = 15;
/** From the commit of a write to the new entry. */
const LAG_MS = 20;
/** Far more than the lag: a busy machine is late. */
const GRACE_MS = 600;

interface Servers {
  readonly redis: Redis;
  readonly db: Pool;
}

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db } = servers();
    const rows = await fill({ redis, db });
    const lagging = await auditWhileWriting({ redis, db }, rows, quick ? 200 : 2000);
    const planted = await findPlanted({ redis, db }, rows);
    const held = coverage(quick ? 500 : 4000);
    await db.query('DROP TABLE users');
    return {
      claims: [
        {
          name: 'first',
          says: 'alarms in 1,000 samples of a cache without a defect: at the first mismatch',
          value: (1000 * lagging.mismatches) / lagging.looks,
          unit: 'alarms',
        },
        {
          name: 'twice',
          says: 'alarms in 1,000 samples of a cache without a defect: by the auditor of this lab',
          value: (1000 * lagging.stale) / lagging.looks,
          unit: 'alarms',
          atMost: 0,
        },
        {
          name: 'after-100',
          says: `stale entries found of ${PLANTED} planted in ${USERS}: after 100 samples, keys in turn`,
          value: (100 * planted.after100) / PLANTED,
          unit: '%',
          atMost: 80,
        },
        {
          name: 'in-turn',
          says: `stale entries found of ${PLANTED} planted in ${USERS}: after ${USERS} samples, keys in turn`,
          value: (100 * planted.inTurn) / PLANTED,
          unit: '%',
          atLeast: 80,
        },
        {
          name: 'at-random',
          says: `stale entries found of ${PLANTED} planted in ${USERS}: after ${USERS} samples, keys by RANDOMKEY`,
          value: (100 * planted.atRandom) / PLANTED,
          unit: '%',
        },
        {
          name: 'held',
          says: 'audits of 100 samples whose bound was over the true rate of 3 %',
          value: held,
          unit: '%',
          atLeast: 93,
        },
      ],
      ...(!quick && { plots: [bounds()] }),
    };
  },
});

/** Each user with its entry. */
async function fill({ redis, db }: Servers): Promise<User[]> {
  await db.query('DROP TABLE IF EXISTS users');
  await db.query(SCHEMA.users.create);
  const ids = Array.from({ length: USERS }, (_, at) => at + 1);
  await db.query('INSERT INTO users (id, email, name, locale, created_at) VALUES ?', [
    ids.map((id) => [id, `user${id}@example.org`, `user ${id}`, 'en-GB', new Date(0)]),
  ]);
  const rows = [...(await usersOf(db)(ids)).values()];
  await redis.mset(new Map(rows.map((row) => [userKey(row.id), encode(row)])));
  return rows;
}

const options = ({ redis, db }: Servers): Options => ({
  redis,
  primary: usersOf(db),
  replica: usersOf(db),
  graceMs: GRACE_MS,
  clock: realClock,
  rowsPerSecond: 100_000,
  onStale: () => {},
});

/** Writers that keep the cache right, a little later; each sample that differs at its first look is counted. */
async function auditWhileWriting(servers: Servers, rows: readonly User[], samples: number) {
  let working = true;
  const write = async ({ id }: User) => {
    await servers.db.query(
      'UPDATE users SET name = CONCAT("user ", version), version = version + 1 WHERE id = ?',
      [id],
    );
    await sleep(LAG_MS);
    const row = (await usersOf(servers.db)([id])).get(id);
    if (row) await servers.redis.set(userKey(id), encode(row));
  };
  const writers = [0, 1, 2, 3].map(async (first) => {
    for (let at = first; working; at = (at + 4) % rows.length) {
      const row = rows[at];
      if (row) await write(row);
    }
  });
  let mismatches = 0;
  let looks = 0;
  const seen = new Set<number>();
  const auditor = createAuditor({
    ...options(servers),
    async primary(ids) {
      const found = await usersOf(servers.db)(ids);
      for (const id of ids) {
        // The second look at an id comes after the grace.
        if (seen.has(id)) mismatches++;
        seen.add(id);
      }
      return found;
    },
  });
  let stale = 0;
  while (looks < samples) {
    seen.clear();
    const report = await auditor.audit(Math.min(100, samples - looks));
    stale += report.stale;
    looks += report.samples;
  }
  working = false;
  await Promise.all(writers);
  return { looks, mismatches, stale };
}

/** Rows that nobody writes meanwhile: a write would cure its entry. */
async function findPlanted(servers: Servers, rows: readonly User[]) {
  const random = seeded(53);
  const planted = new Set<number>();
  while (planted.size < PLANTED) planted.add(1 + Math.floor(random() * rows.length));
  await servers.db.query('UPDATE users SET version = version + 1 WHERE id IN (?)', [[...planted]]);

  const found = new Set<string>();
  const auditor = createAuditor({
    ...options(servers),
    graceMs: 10,
    onStale: ({ key }) => found.add(key),
  });
  await auditor.audit(100);
  const after100 = found.size;
  await auditor.audit(USERS - 100);
  const inTurn = found.size;

  const drawn = new Set<number | null>();
  for (let draw = 0; draw < USERS; draw++) {
    const id = idOf((await servers.redis.randomkey()) ?? '');
    if (id === null) draw--;
    else drawn.add(id);
  }
  return { after100, inTurn, atRandom: [...planted].filter((id) => drawn.has(id)).length };
}

/** In %: how often the bound of an audit is over the rate that was drawn from. */
function coverage(audits: number): number {
  const random = seeded(95);
  let held = 0;
  for (let audit = 0; audit < audits; audit++) {
    let stale = 0;
    for (let sample = 0; sample < 100; sample++) if (random() < 0.03) stale++;
    if (mostExpected(stale) / 100 >= 0.03) held++;
  }
  return (100 * held) / audits;
}

const bounds = (): Plot => ({
  name: 'bounds',
  title: 'How many entries may be stale, after so many samples',
  x: { label: 'samples', scale: 'log' },
  y: { label: 'stale at most (%)', scale: 'log' },
  series: [0, 1, 3].map((seen) => ({
    name: seen === 0 ? 'none was stale' : `${seen} ${seen === 1 ? 'was' : 'were'} stale`,
    points: [20, 50, 100, 300, 1000, 3000, 10_000, 30_000, 100_000].map((samples) => [
      samples,
      (100 * Math.min(samples, mostExpected(seen))) / samples,
    ]),
  })),
});
