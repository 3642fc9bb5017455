import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { type Claim, defineMeasure } from '#claims';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { openPool } from '../../../course/kit/pool';
import { startRedis } from '../../../course/servers/redis';
import { dashboard, type Point, totals } from './dashboard';
import { CANARY, createTables, emptyWindow, Shop } from './shop';

const PRODUCTS = 2000;
const READERS = 40;
/** Connections to MySQL for all of them. */
const POOL = 3;
const WINDOW_MS = 500;

/** Seconds from the start; from and to where it lasts. */
const EVENTS = { flush: 4, job: [8, 12], dead: [14, 18], end: 20 } as const;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { mysqlUrl, db } = servers();
    await createTables(db, PRODUCTS);
    // Of its own: it is flushed, and filled to the brim.
    const server = await startRedis({ 'maxmemory-policy': 'allkeys-lru' });
    const [redis, admin] = [new Redis(server.url), new Redis(server.url)];
    const reads = openPool(mysqlUrl, { connectionLimit: POOL });
    const shop = new Shop({ redis, reads, db }, PRODUCTS);
    const stop = new AbortController();
    const working = traffic(shop, stop.signal);
    try {
      if (quick) return { claims: await glance(shop) };
      await sleep(4000);
      const points = await watch(shop, admin);
      return {
        claims: [...relayClaims(between(points, [1, 4]), between(points, DEAD)), ...figures(points)],
        plots: dashboard(points),
      };
    } finally {
      stop.abort();
      shop.stopRelay();
      await working;
      for (const client of [redis, admin]) client.disconnect();
      await reads.end();
      await server.close();
    }
  },
});

/** Forty readers, a canary that is written and read all the time, and a writer. */
async function traffic(shop: Shop, signal: AbortSignal): Promise<void> {
  const random = seeded(57);
  const product = zipf({ n: PRODUCTS, skew: 1, random });
  const loop = async (pauseMs: number, work: () => Promise<void>) => {
    while (!signal.aborted) {
      await work();
      await sleep(pauseMs * (0.5 + random()));
    }
  };
  shop.startRelay();
  await Promise.all([
    ...Array.from({ length: READERS }, () => loop(24, () => shop.read(product()))),
    loop(25, () => shop.read(CANARY)),
    loop(25, () => shop.write(product())),
    loop(100, () => shop.write(CANARY)),
  ]);
}

/** The whole run, window by window. */
async function watch(shop: Shop, admin: Redis): Promise<Point[]> {
  const points: Point[] = [];
  let before = await counters(admin);
  const began = performance.now();
  shop.window = emptyWindow();
  const due = (window: number) => began + window * WINDOW_MS - performance.now();
  for (let window = 0; window < (EVENTS.end * 1000) / WINDOW_MS; window++) {
    const at = (window * WINDOW_MS) / 1000;
    if (at === EVENTS.flush) await admin.flushdb();
    if (at === EVENTS.job[0]) await fillUp(admin);
    if (at === EVENTS.job[1]) await admin.config('SET', 'maxmemory', '0');
    if (at === EVENTS.dead[0]) shop.stopRelay();
    if (at === EVENTS.dead[1]) shop.startRelay();
    for (let blob = 0; at >= EVENTS.job[0] && at < EVENTS.job[1] && blob < 20; blob++) {
      await admin.set(`report:${at}:${blob}`, 'x'.repeat(10_000), 'EX', 3600);
      await sleep(15);
    }
    await sleep(Math.max(0, due(window + 1)));
    const now = await counters(admin);
    points.push({
      ...shop.window,
      at: at + WINDOW_MS / 1000,
      evicted: now.evicted - before.evicted,
      expired: now.expired - before.expired,
      outboxMs: await shop.outboxLagMs(),
    });
    shop.window = emptyWindow();
    before = now;
  }
  return points;
}

/** A job that stores reports begins: there is room for a quarter of a megabyte more. */
async function fillUp(admin: Redis): Promise<void> {
  const used = Number(/^used_memory:(\d+)/m.exec(await admin.info('memory'))?.[1]);
  await admin.config('SET', 'maxmemory', String(used + 250_000));
}

async function counters(admin: Redis): Promise<{ evicted: number; expired: number }> {
  const stats = await admin.info('stats');
  const of = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(stats)?.[1]);
  return { evicted: of('evicted_keys'), expired: of('expired_keys') };
}

const between = (points: readonly Point[], [from, to]: readonly [number, number]) =>
  totals(points.filter(({ at }) => at > from && at <= to));

type Totals = ReturnType<typeof totals>;

/** The dead relay alone. */
async function glance(shop: Shop): Promise<Claim[]> {
  const window = async (ms: number) => {
    shop.window = emptyWindow();
    await sleep(ms);
    return totals([shop.window]);
  };
  await sleep(100);
  const calm = await window(200);
  shop.stopRelay();
  await sleep(100);
  return relayClaims(calm, await window(300));
}

/** The last seconds of the dead relay: what it has not delivered has grown old by then. */
const DEAD = [EVENTS.dead[0] + 1, EVENTS.dead[1]] as const;

const relayClaims = (calm: Totals, dead: Totals): Claim[] => [
  {
    name: 'dead-hits',
    says: 'hit rate: with a dead relay against before',
    value: dead.hitRate / calm.hitRate,
    unit: '×',
    atLeast: 0.9,
  },
  {
    name: 'dead-stale',
    says: 'stale reads while the relay is dead',
    value: dead.stale,
    unit: '%',
    atLeast: 3,
  },
];

function figures(points: readonly Point[]): Claim[] {
  const [calm, dead, job] = [between(points, [1, 4]), between(points, DEAD), between(points, [9, 12])];
  const flush = between(points, [EVENTS.flush, EVENTS.flush + 0.5]);
  const figure = (name: string, says: string, value: number, unit: string): Claim => ({
    name,
    says,
    value,
    unit,
  });
  return [
    figure('calm-hit-rate', 'hit rate, nothing wrong', calm.hitRate, '%'),
    figure('flush-hit-rate', 'hit rate in the half second after FLUSHDB', flush.hitRate, '%'),
    figure('job-hit-rate', 'hit rate while the memory is full', job.hitRate, '%'),
    figure('dead-hit-rate', 'hit rate with a dead relay', dead.hitRate, '%'),
    figure('calm-stale', 'stale reads, nothing wrong', calm.stale, '%'),
    figure('calm-miss-p90', 'miss, p90, nothing wrong', calm.missP90, 'ms'),
    figure('flush-miss-p90', 'miss, p90, in the half second after FLUSHDB', flush.missP90, 'ms'),
    figure('job-evicted', 'keys evicted while the memory is full', job.evicted, 'keys'),
    figure('refused', 'fills refused in the whole run', totals(points).refused, 'times'),
    figure('dead-canary', 'age of the canary, p99, with a dead relay', dead.canaryP99, 'ms'),
    figure('calm-canary', 'age of the canary, p99, nothing wrong', calm.canaryP99, 'ms'),
  ];
}
