import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { defineMeasure, type MeasureServers } from '#claims';
import { LIMITER, NAIVE, REMEDIES, type Remedy } from '#experiments/collapse/remedies';
import { SETTINGS, type Settings, Shop } from '#experiments/collapse/shop';
import { endPool, openPool } from '#kit/pool';

/** Readers of three shops at a time are no load for two cores. */
const SIDE_BY_SIDE = 3;
/** Slower by three, and smaller: a busy machine keeps up. */
const QUICK: Settings = {
  ...SETTINGS,
  offered: 300,
  products: 120,
  deadlineMs: 250,
  connections: 2,
  queryMs: 30,
};
const WIDE: Settings = { ...SETTINGS, offered: 600, products: 400, deadlineMs: 100 };
const STEPS = [600, 400, 300, 250, 200, 150, 100, 50];

export default defineMeasure({
  needs: 'servers',
  run: ({ quick, servers }) => (quick ? quickly(servers()) : fully(servers())),
});

async function quickly(servers: MeasureServers) {
  const [naive, limit] = await Promise.all([
    withShop(servers, NAIVE, QUICK, async (shop) => {
      const flushed = await collapse(shop, 1200, 300);
      return { ...flushed, lowered: await step(shop, QUICK.offered / 2, 400) };
    }),
    withShop(servers, LIMITER, QUICK, recovery),
  ]);
  const { percent, wasted, lowered } = naive;
  return { claims: claimsOf({ naive: percent, limit, lowered, wasted }) };
}

async function fully(servers: MeasureServers) {
  const outcomes: Outcome[] = [];
  const all = [NAIVE, ...REMEDIES];
  for (let from = 0; from < all.length; from += SIDE_BY_SIDE) {
    const some = all.slice(from, from + SIDE_BY_SIDE);
    outcomes.push(
      ...(await Promise.all(
        some.map((remedy) => withShop(servers, remedy, SETTINGS, (shop) => collapse(shop, 2500, 500))),
      )),
    );
  }
  const [warm, flushed, limited] = await Promise.all([
    stepsDown(servers, NAIVE, false),
    stepsDown(servers, NAIVE, true),
    stepsDown(servers, LIMITER, true),
  ]);
  const of = (remedy: Remedy) => outcomes[all.indexOf(remedy)];
  const naive = of(NAIVE);
  const rows = all.map((remedy) => [remedy, of(remedy)] as const);
  return {
    claims: [
      ...claimsOf({
        naive: naive?.percent,
        limit: of(LIMITER)?.percent,
        lowered: flushed?.find(([offered]) => offered === WIDE.offered / 2)?.[1],
        wasted: naive?.wasted,
      }),
      ...rows
        .filter(([remedy]) => remedy !== NAIVE && remedy !== LIMITER)
        .map(([remedy, outcome]) => ({
          name: remedy.id,
          says: `readers served in time, 2 to 2.5 s after a flush: ${remedy.name}`,
          value: outcome?.percent ?? Number.NaN,
          unit: '%',
        })),
    ],
    matrices: [
      {
        name: 'remedies',
        columns: ['readers served', 'queries asked for', 'queries waiting', ''],
        rows: rows.map(
          ([remedy, outcome]) =>
            [
              remedy === NAIVE ? 'no remedy' : remedy.name,
              `${Math.round(outcome?.percent ?? 0)} %`,
              `${outcome?.asked}`,
              `${outcome?.queued}`,
              remedy === NAIVE ? '' : verdict(outcome, naive),
            ] as const,
        ),
      },
    ],
    plots: [
      {
        name: 'states',
        title: 'One load, two states: readers served while the load is lowered from 600 to 50 a second',
        x: { label: 'readers a second', scale: 'linear' as const },
        y: { label: 'readers served in time (%)', scale: 'linear' as const },
        series: [
          { name: 'warm cache', points: warm ?? [] },
          { name: 'after a flush, with a limit', points: limited ?? [] },
          { name: 'after a flush', points: flushed ?? [] },
        ],
      },
      {
        name: 'remedies',
        title: 'Readers served in time, 2 to 2.5 s after a flush, while 800 a second come',
        label: 'readers served in time (%)',
        bars: rows.map(
          ([remedy, outcome]) =>
            [remedy === NAIVE ? 'no remedy' : remedy.name, Math.round(outcome?.percent ?? 0)] as const,
        ),
      },
    ],
  };
}

function claimsOf(seen: Record<'naive' | 'limit' | 'lowered' | 'wasted', number | undefined>) {
  const { naive = Number.NaN, limit = Number.NaN, lowered = Number.NaN, wasted = Number.NaN } = seen;
  return [
    {
      name: 'naive',
      says: 'readers served in time after a flush: no remedy',
      value: naive,
      unit: '%',
      atMost: 30,
    },
    {
      name: 'lowered',
      says: 'the same, after the load was lowered by half',
      value: lowered,
      unit: '%',
      atMost: 30,
    },
    {
      name: 'limit',
      says: 'readers served in time after a flush: limit and shed',
      value: limit,
      unit: '%',
      atLeast: 50,
    },
    {
      name: 'wasted',
      says: 'queries whose reader had left before the answer, after a flush: no remedy',
      value: wasted,
      unit: '%',
      atLeast: 50,
    },
  ];
}

interface Outcome {
  readonly percent: number;
  readonly asked: number;
  readonly queued: number;
  readonly wasted: number;
}

function verdict(outcome?: Outcome, naive?: Outcome): string {
  if (!outcome || !naive) return '';
  if (outcome.percent >= 75) return 'cures';
  if (outcome.percent >= naive.percent + 8) return 'softens';
  return outcome.asked > 1.3 * naive.asked ? 'makes it worse' : 'changes nothing';
}

/** Warm, then flushed under load: what is seen in the last `windowMs` of `ms` after it. */
async function collapse(shop: Shop, ms: number, windowMs: number): Promise<Outcome> {
  await sleep(200);
  const { asked, served, wasted } = shop.database;
  await shop.flush();
  await sleep(ms);
  const end = performance.now();
  const seen = {
    asked: shop.database.asked - asked,
    queued: shop.database.queued,
    wasted: ((shop.database.wasted - wasted) / (shop.database.served - served)) * 100,
  };
  await sleep(shop.settings.deadlineMs);
  return { ...seen, percent: shop.goodput.percent(end - windowMs, end) };
}

/** Warm, then flushed under load: the best share of a window after it. A busy machine needs more time for the same. */
async function recovery(shop: Shop): Promise<number> {
  await sleep(200);
  await shop.flush();
  const start = performance.now();
  let best = 0;
  while (best < 75 && performance.now() < start + 4000) {
    await sleep(50);
    const to = performance.now() - shop.settings.deadlineMs;
    if (to - 300 > start && shop.goodput.asked(to - 300, to) > 0)
      best = Math.max(best, shop.goodput.percent(to - 300, to));
  }
  return best;
}

/** At this load for a while: the share served in the second half of it. */
async function step(shop: Shop, offered: number, ms: number): Promise<number> {
  shop.offered = offered;
  await sleep(ms);
  const end = performance.now();
  await sleep(shop.settings.deadlineMs);
  return shop.goodput.percent(end - ms / 2, end);
}

const stepsDown = (servers: MeasureServers, remedy: Remedy, flush: boolean) =>
  withShop(servers, remedy, WIDE, async (shop) => {
    await sleep(300);
    if (flush) await shop.flush();
    await sleep(1200);
    const points: [number, number][] = [];
    for (const offered of STEPS) points.push([offered, await step(shop, offered, 700)]);
    return points;
  });

let shops = 0;

async function withShop<T>(
  { redisUrl, mysqlUrl }: MeasureServers,
  remedy: Remedy,
  settings: Settings,
  run: (shop: Shop) => Promise<T>,
): Promise<T> {
  const redis = new Redis(redisUrl);
  const { connections = 4 } = settings;
  const pool = openPool(mysqlUrl, { connectionLimit: connections });
  const shop = new Shop(redis, pool, settings, `collapse-${shops++}`);
  try {
    // Connections that are being opened are no part of the collapse.
    await Promise.all(Array.from({ length: connections }, () => pool.query('SELECT SLEEP(0.02)')));
    shop.remedy = remedy;
    await shop.warm();
    shop.open();
    return await run(shop);
  } finally {
    shop.close();
    await shop.flush();
    redis.disconnect();
    await endPool(pool);
  }
}
