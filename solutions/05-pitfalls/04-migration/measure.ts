import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { defineMeasure, median } from '#claims';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { entryKey, type Payment, paymentCodec, type Settings } from './given';
import { createRollout, type Options } from './migration';

const REQUESTS = 20;
const RAMPS = [1, 2, 5, 10, 20, 50];
const NAME = 'measured';
/** Of the experiment with planted faults. */
const IDS = 500;
const PLANTED = 15;
const SLOW_MS = 3;
const READERS = 8;
/** How long after the write its DEL is sent (ms). */
const LAG_MS = 5;

const LOADS: Readonly<Record<string, string>> = {
  catalogue: `a query of ${SLOW_MS} ms alone`,
  payments: 'a query of one row alone',
};

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db } = servers();
    await clear(redis);
    const sides = await bothSides(redis, quick ? 100 : 1000);
    await clear(redis);
    const cost = await costs(redis, db, quick ? 200 : 4000);
    await clear(redis);
    const planted = await plantedFault(redis, quick ? 600 : 6000);
    await clear(redis);
    const workloads = await forecasts(redis, db, quick ? 200 : 3000);
    await clear(redis);
    const at10 = sides.find(({ ramp }) => ramp === 10);
    const within = `users that see both sides within ${REQUESTS} requests, at a ramp of 10 %`;
    const share = (value: number, of: number) => (value / Math.max(1, of)) * 100;
    return {
      claims: [
        {
          name: 'both-random',
          says: `${within}: a random number for each request`,
          value: at10?.random ?? Number.NaN,
          unit: '%',
          atLeast: 70,
        },
        {
          name: 'both-sticky',
          says: `${within}: a hash of the user`,
          value: at10?.sticky ?? Number.NaN,
          unit: '%',
          atMost: 0,
        },
        {
          name: 'off',
          says: 'median time of a call in mode off, against the query alone',
          value: cost.off,
          unit: '×',
          atMost: 1.5,
        },
        {
          name: 'shadow',
          says: 'median time of a call in mode shadow, against the query alone',
          value: cost.shadow,
          unit: '×',
        },
        {
          name: 'found',
          says: `reads of ${PLANTED} entries whose invalidation was lost, that shadow counts as mismatches`,
          value: share(planted.found, planted.stale),
          unit: '%',
          atLeast: 90,
        },
        {
          name: 'alarms-first',
          says: `differences at the first look that were no fault: each DEL came ${LAG_MS} ms after its write`,
          value: planted.alarmsFirst,
          unit: 'alarms',
        },
        {
          name: 'alarms-second',
          says: 'the same differences, that were still there at the second look',
          value: share(planted.alarmsSecond, planted.alarmsFirst),
          unit: '%',
          atMost: 50,
        },
        ...workloads.flatMap(({ name, forecast, on, time }) => [
          {
            name: `${name}-forecast`,
            says: `${name}: hit rate that shadow counts`,
            value: forecast,
            unit: '%',
          },
          {
            name: `${name}-on`,
            says: `${name}: hit rate in mode on, with the same reads`,
            value: on,
            unit: '%',
          },
          {
            name: `${name}-error`,
            says: `${name}: percentage points between the two hit rates`,
            value: Math.abs(forecast - on),
            unit: 'points',
            atMost: 5,
          },
          {
            name: `${name}-time`,
            says: `${name}: time of a call in mode on, against ${LOADS[name]}`,
            value: time,
            unit: '×',
          },
        ]),
      ],
      plots: [
        {
          name: 'sides',
          title: `Users that see both sides of a ramp within ${REQUESTS} requests`,
          x: { label: 'ramp (%)', scale: 'log' },
          y: { label: 'users (%)', scale: 'linear' },
          series: [
            {
              name: 'random for each request',
              points: sides.map(({ ramp, random }) => [ramp, random] as const),
            },
            { name: 'hash of the user', points: sides.map(({ ramp, sticky }) => [ramp, sticky] as const) },
          ],
        },
        {
          name: 'forecast',
          title: 'Hit rate that shadow counts, and hit rate in mode on',
          label: 'hit rate (%)',
          bars: workloads.flatMap(({ name, forecast, on }) => [
            [`${name}: shadow`, forecast] as const,
            [`${name}: on`, on] as const,
          ]),
        },
      ],
    };
  },
});

async function clear(redis: Redis): Promise<void> {
  for await (const keys of redis.scanStream({ match: 'rollout:measured*', count: 1000 })) {
    if (keys.length > 0) await redis.del(keys);
  }
}

function open(redis: Redis, settings: Partial<Settings>, options: Partial<Options<Payment>> = {}) {
  const all: Settings = { mode: 'on', rampPercent: 100, epoch: 1, ...settings };
  return createRollout<Payment>({
    redis,
    name: NAME,
    codec: paymentCodec,
    ttlMs: 600_000,
    // No deadline that a busy machine can miss.
    deadlineMs: 20_000,
    settings: () => all,
    ...options,
  });
}

const pay = (id: string, amount: string): Payment => ({ id, amount, card: '4000', paidAt: new Date(0) });

/** The share of the users that get both the entry and the load, for each ramp. */
async function bothSides(redis: Redis, users: number) {
  await open(redis, {}).get('p', 'anybody', async () => pay('p', 'cached'));
  const random = seeded(54);
  const shares: { ramp: number; random: number; sticky: number }[] = [];
  for (const ramp of RAMPS) {
    const rollout = open(redis, { rampPercent: ramp });
    let sticky = 0;
    let drawn = 0;
    for (let user = 0; user < users; user++) {
      const requests = Array.from({ length: REQUESTS });
      const seen = await Promise.all(
        requests.map(() => rollout.get('p', `user-${user}`, async () => pay('p', 'loaded'))),
      );
      if (new Set(seen.map(({ amount }) => amount)).size > 1) sticky++;
      if (new Set(requests.map(() => random() * 100 < ramp)).size > 1) drawn++;
    }
    shares.push({ ramp, random: (drawn / users) * 100, sticky: (sticky / users) * 100 });
  }
  return shares;
}

/** A query of one row that needs no table: the cheapest load there is. */
const queryOf = (db: Pool) => async (id: string) => {
  await db.query('SELECT ? AS id', [id]);
  return pay(id, '10.00');
};

const slowQueryOf = (db: Pool) => async (id: string) => {
  await db.query('SELECT SLEEP(?)', [SLOW_MS / 1000]);
  return pay(id, '10.00');
};

async function costs(redis: Redis, db: Pool, rounds: number) {
  const load = queryOf(db);
  const [off, shadow] = [open(redis, { mode: 'off' }), open(redis, { mode: 'shadow' })];
  const times = { alone: [] as number[], off: [] as number[], shadow: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    const aloneOnce = async () => times.alone.push(await timed(() => load('p')));
    const offOnce = async () => times.off.push(await timed(() => off.get('p', 'ann', () => load('p'))));
    // In turn: the first query after another server has worked is slower.
    for (const once of round % 2 === 0 ? [aloneOnce, offOnce] : [offOnce, aloneOnce]) await once();
    times.shadow.push(await timed(() => shadow.get('p', 'ann', () => load('p'))));
    // Its comparison must not slow the next call.
    for (let answers = 0; answers < 3; answers++) await redis.ping();
  }
  const alone = median(times.alone);
  return { off: median(times.off) / alone, shadow: median(times.shadow) / alone };
}

/** Reads and writes at once. The invalidations of the planted ids are lost; nobody writes these again. */
async function plantedFault(redis: Redis, reads: number) {
  const source = new Map(Array.from({ length: IDS }, (_, id) => [`${id}`, 0]));
  const load = async (id: string) => pay(id, `${source.get(id)}.00`);
  const random = seeded(5);
  const seen = { found: 0, stale: 0, alarmsFirst: 0, alarmsSecond: 0 };
  const compare = async (id: string) => {
    let done = (_outcome: string) => {};
    const outcome = new Promise<string>((resolve) => {
      done = resolve;
    });
    const rollout = open(redis, { mode: 'shadow' }, { recheckMs: 40, onOutcome: (_, what) => done(what) });
    const value = await rollout.get(id, 'ann', () => load(id));
    const entry = await redis.get(entryKey(NAME, 'shadow', paymentCodec.version, id));
    const differs = entry !== null && !entry.includes(`"${value.amount}"`);
    return { differs, isMismatch: (await outcome) === 'mismatch' };
  };
  for (const id of source.keys()) await compare(id);
  for (let id = 0; id < PLANTED; id++) source.set(`${id}`, 1);

  let left = reads;
  const reader = async () => {
    while (left-- > 0) {
      if (left % 4 === 0) {
        const id = `${PLANTED + Math.floor(random() * (IDS - PLANTED))}`;
        source.set(id, (source.get(id) ?? 0) + 1);
        void sleep(LAG_MS).then(() => open(redis, { mode: 'shadow' }).invalidate(id));
      }
      const id = Math.floor(random() * IDS);
      const { differs, isMismatch } = await compare(`${id}`);
      if (id < PLANTED) {
        seen.stale++;
        if (isMismatch) seen.found++;
      } else {
        if (differs) seen.alarmsFirst++;
        if (isMismatch) seen.alarmsSecond++;
      }
    }
  };
  await Promise.all(Array.from({ length: READERS }, reader));
  await sleep(LAG_MS * 4);
  return seen;
}

/** Hit rates of the same reads in both modes, and the time of a call in mode on by the medians of its hits and misses. */
async function forecasts(redis: Redis, db: Pool, reads: number) {
  const results: { name: string; forecast: number; on: number; time: number }[] = [];
  for (const { name, ids, load } of [
    { name: 'catalogue', ids: catalogue(reads), load: slowQueryOf(db) },
    { name: 'payments', ids: payments(reads), load: queryOf(db) },
  ]) {
    const alone: number[] = [];
    const times = { hit: [] as number[], miss: [] as number[] };
    const run = async (mode: 'shadow' | 'on') => {
      const outcomes: string[] = [];
      const onOutcome = (_: string, what: string) => {
        outcomes.push(what);
      };
      const rollout = open(redis, { mode }, { onOutcome, name: `measured-${name}` });
      for (const [nth, id] of ids.entries()) {
        const ms = await timed(() => rollout.get(id, 'ann', () => load(id)));
        // No call is skipped.
        while (outcomes.length <= nth) await redis.ping();
        if (mode === 'on') times[outcomes[nth] === 'hit' ? 'hit' : 'miss'].push(ms);
        if (mode === 'on' && nth % 5 === 0) alone.push(await timed(() => load(id)));
      }
      return outcomes.filter((each) => each === 'hit').length / outcomes.length;
    };
    const [forecast, on] = [await run('shadow'), await run('on')];
    const time = (on * median(times.hit) + (1 - on) * median(times.miss)) / median(alone);
    results.push({ name, forecast: forecast * 100, on: on * 100, time });
  }
  return results;
}

/** A few products are read most of the time. */
function catalogue(reads: number): string[] {
  const pick = zipf({ n: 2000, skew: 0.99, random: seeded(6) });
  return Array.from({ length: reads }, () => `product-${pick()}`);
}

/** A payment is read when it is made, and three of ten are read once more. */
function payments(reads: number): string[] {
  const random = seeded(7);
  const ids: string[] = [];
  for (let payment = 0; ids.length < reads; payment++) {
    ids.push(`payment-${payment}`);
    if (random() < 0.3) ids.push(`payment-${Math.floor(random() * (payment + 1))}`);
  }
  return ids;
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
