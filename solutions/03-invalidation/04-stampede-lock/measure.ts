import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { type Bars, type Claim, defineMeasure, forkScript, type MeasureServers, median } from '#claims';
import { entryKey, lockKey, type Times } from './given';
import { createLockedCache } from './stampede-lock';
import { clock, type RunStats, run, type Workload } from './workload';

const PROCESSES = 4;
const TIMES: Times = { freshMs: 1000, lockMs: 2000, waitMs: 10_000 };
const KEY = 'measure';

type RunAll = (workload: Partial<Workload> & Pick<Workload, 'mode'>) => Promise<RunStats[]>;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers: opened }) {
    const servers = opened();
    const claims = [...(await hitAgainstGet(servers, quick)), ...(await invalidatedLoads(servers, quick))];
    const plots: Bars[] = [];
    await (quick ? withInstances : withProcesses)(servers, async (runAll, hanging) => {
      const cold = await coldKey(runAll, quick);
      claims.push(...cold.claims);
      plots.push(...cold.plots);
      const [peers, recovery] = await Promise.all([
        slowLoader(runAll, quick),
        crash(servers, hanging, quick),
      ]);
      claims.push(...peers, recovery);
      if (!quick) claims.push(...(await steadyState(runAll)));
    });
    return { claims, plots };
  },
});

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

const sum = (numbers: readonly number[]) => numbers.reduce((total, n) => total + n, 0);
const loadsOf = (ran: readonly RunStats[]) => sum(ran.map(({ loads }) => loads.length));

/** Each has its own clients, as a process has. */
async function withInstances(
  { redisUrl, db }: MeasureServers,
  use: (runAll: RunAll, hanging: () => Promise<Hanging>) => Promise<void>,
): Promise<void> {
  const clients = Array.from({ length: PROCESSES + 1 }, () => new Redis(redisUrl));
  try {
    await Promise.all(clients.map((client) => client.ping()));
    const runAll: RunAll = (workload) =>
      Promise.all(clients.slice(1).map((client) => run(complete(workload, 0), client, db)));
    await use(runAll, async () => ({
      async hold(times) {
        const since = clock();
        await clients[0]?.set(lockKey(KEY), 'of a process that has died', 'PX', times.lockMs);
        return since;
      },
    }));
  } finally {
    for (const client of clients) client.disconnect();
  }
}

async function withProcesses(
  { redisUrl, mysqlUrl }: MeasureServers,
  use: (runAll: RunAll, hanging: () => Promise<Hanging>) => Promise<void>,
): Promise<void> {
  const children: ChildProcess[] = [];
  const start = async (count: number) => {
    const started = Array.from({ length: count }, () =>
      forkScript(join(import.meta.dirname, 'workload-process.ts'), [redisUrl, mysqlUrl]),
    );
    children.push(...started);
    await Promise.all(started.map((child) => once(child, 'message')));
    return started;
  };
  try {
    const workers = await start(PROCESSES);
    const runAll: RunAll = (workload) =>
      Promise.all(
        workers.map(async (child) => {
          const ran = once(child, 'message');
          child.send(complete(workload, 50));
          return (await ran)[0] as RunStats;
        }),
      );
    await use(runAll, async () => {
      const [victim] = await start(1);
      return {
        async hold(times) {
          const loading = once(victim as ChildProcess, 'message');
          victim?.send({ hang: true, key: KEY, times });
          const [since] = await loading;
          victim?.kill('SIGKILL');
          return since as number;
        },
      };
    });
  } finally {
    for (const child of children) child.kill();
  }
}

interface Hanging {
  /** Takes the lock, and dies. @returns when (see clock) */
  hold(times: Times): Promise<number>;
}

let keys = 0;

const complete = (workload: Partial<Workload> & Pick<Workload, 'mode'>, delayMs: number): Workload => ({
  key: `${KEY}:${keys}`,
  readers: 20,
  forMs: 0,
  loadMs: 100,
  heedsSignal: true,
  times: TIMES,
  startAt: clock() + delayMs,
  ...workload,
});

async function hitAgainstGet({ redis }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const cache = createLockedCache({ redis });
  const times = { ...TIMES, freshMs: 60_000 };
  const load = async () => ({ id: 1, description: 'x'.repeat(1000) });
  const ways = {
    get: async () => JSON.parse((await redis.get(entryKey(KEY))) ?? ''),
    hit: () => cache.getOrLoad(KEY, load, times),
  };
  await ways.hit();
  const took: Record<keyof typeof ways, number[]> = { get: [], hit: [] };
  for (let i = 0; i < (quick ? 200 : 3000); i++) {
    for (const way of ['get', 'hit'] as const) {
      const from = performance.now();
      await ways[way]();
      took[way].push(performance.now() - from);
    }
  }
  await redis.del(entryKey(KEY));
  return [
    {
      ...figure(
        'hit',
        'a fresh hit: getOrLoad against a GET and JSON.parse, p50',
        median(took.hit) / median(took.get),
        '×',
      ),
      atMost: 6,
    },
  ];
}

/** A writer invalidates in the middle of each load. */
async function invalidatedLoads({ redis }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const cache = createLockedCache({ redis });
  const rounds = quick ? 20 : 200;
  const staleAfter = async (...deleted: string[]) => {
    let stale = 0;
    for (let i = 0; i < rounds; i++) {
      await redis.del(entryKey(KEY), lockKey(KEY));
      let row = 'old';
      await cache.getOrLoad(
        KEY,
        async () => {
          const read = row;
          row = 'new';
          await redis.del(...deleted);
          return read;
        },
        TIMES,
      );
      if ((await cache.getOrLoad(KEY, async () => row, TIMES)) !== row) stale++;
    }
    await redis.del(entryKey(KEY), lockKey(KEY));
    return (100 * stale) / rounds;
  };
  return [
    figure(
      'stale-del',
      'invalidations during a load that its store overwrites: DEL of the value',
      await staleAfter(entryKey(KEY)),
      '%',
    ),
    {
      ...figure(
        'stale-del-both',
        'invalidations during a load that its store overwrites: DEL of value and lock',
        await staleAfter(entryKey(KEY), lockKey(KEY)),
        '%',
      ),
      atMost: 0,
    },
  ];
}

/** What stands before the load. */
const COLD_LABELS = {
  plain: 'cache-aside',
  flight: 'a single flight in each process (2.2)',
  lock: 'the lock',
} as const;

async function coldKey(runAll: RunAll, quick: boolean): Promise<{ claims: Claim[]; plots: Bars[] }> {
  const workload = { readers: quick ? 25 : 250, loadMs: quick ? 20 : 100 };
  const loads = { plain: Number.NaN, flight: Number.NaN, lock: Number.NaN };
  for (const mode of quick ? (['flight', 'lock'] as const) : (['plain', 'flight', 'lock'] as const)) {
    keys++;
    loads[mode] = loadsOf(await runAll({ ...workload, mode }));
  }
  const share: Claim = {
    ...figure(
      'cold-share',
      'loads of a cold key, 4 processes: the lock against a single flight in each process',
      (100 * loads.lock) / loads.flight,
      '%',
    ),
    // A process that comes late finds the value, and makes no load of its own.
    atMost: 50,
  };
  if (quick) return { claims: [share], plots: [] };
  const title = 'loads of a cold key, 1,000 readers in 4 processes';
  const modes = ['plain', 'flight', 'lock'] as const;
  const rows = modes.map((mode) =>
    figure(`cold-${mode}`, `${title}: ${COLD_LABELS[mode]}`, loads[mode], 'loads'),
  );
  return {
    claims: [...rows, share],
    plots: [
      {
        name: 'cold-key',
        title: 'Loads of a cold key by 1,000 readers in 4 processes',
        label: 'loads',
        bars: modes.map((mode) => [COLD_LABELS[mode], loads[mode]]),
      },
    ],
  };
}

/** A load that takes 2.5 times as long as its lock lives. */
async function slowLoader(runAll: RunAll, quick: boolean): Promise<Claim[]> {
  const lockMs = quick ? 60 : 200;
  const workload = {
    readers: 5,
    forMs: 3.5 * lockMs,
    loadMs: 2.5 * lockMs,
    times: { ...TIMES, freshMs: 10_000, lockMs, waitMs: lockMs },
  };
  const peers = async (mode: 'common' | 'lock', heedsSignal: boolean) => {
    keys++;
    const ran = await runAll({ ...workload, mode, heedsSignal });
    return atOnce(ran.flatMap(({ loads }) => loads));
  };
  const deaf = await peers('lock', false);
  const share: Claim = {
    ...figure(
      'peers-share',
      'queries at once against load time ÷ lock life, rounded up: this lock, a loader that ignores its signal',
      deaf / 3,
      '×',
    ),
    atMost: 1.34,
  };
  if (quick) return [share];
  const atOnceOf = 'queries at once, each of 2.5 lock lives:';
  const common = await peers('common', false);
  const heeding = await peers('lock', true);
  return [
    figure('peers-common', `${atOnceOf} a common version of the lock`, common, 'queries'),
    figure('peers-deaf', `${atOnceOf} this lock, a loader that ignores its signal`, deaf, 'queries'),
    figure('peers-heeding', `${atOnceOf} this lock, a loader that stops its query`, heeding, 'queries'),
    share,
  ];
}

/** To stop a query takes a moment: what overlaps for less is not counted. */
const KILLED_WITHIN_MS = 50;

/** The most intervals that overlap. */
function atOnce(intervals: readonly (readonly [from: number, to: number])[]): number {
  return Math.max(
    0,
    ...intervals.map(
      ([at]) => intervals.filter(([from, to]) => from <= at && at + KILLED_WITHIN_MS < to).length,
    ),
  );
}

/** The holder dies as soon as its load has begun. */
async function crash(
  { redis }: MeasureServers,
  hanging: () => Promise<Hanging>,
  quick: boolean,
): Promise<Claim> {
  const times = { ...TIMES, lockMs: quick ? 400 : 1000 };
  const shares: number[] = [];
  for (let round = 0; round < (quick ? 1 : 2); round++) {
    const holder = await hanging();
    await redis.del(entryKey(KEY), lockKey(KEY));
    const heldSince = await holder.hold(times);
    // Waiting from now on; its load says when it has taken over.
    const takenOver = await createLockedCache({ redis }).getOrLoad(KEY, async () => clock(), times);
    shares.push((takenOver - heldSince) / times.lockMs);
    await redis.del(entryKey(KEY));
  }
  return {
    ...figure(
      'crash',
      'a holder that is killed as its load begins: time to the next load against lockMs, worst',
      Math.max(...shares),
      '×',
    ),
    atMost: 1.6,
  };
}

const STEADY_MS = 5000;

async function steadyState(runAll: RunAll): Promise<Claim[]> {
  const workload = { readers: 20, forMs: STEADY_MS };
  const ways = {
    flight: { mode: 'flight', times: TIMES },
    lock: { mode: 'lock', times: TIMES },
    swr: { mode: 'lock', times: { ...TIMES, staleMs: 10_000 } },
  } as const;
  const loads: Record<string, number> = {};
  const blocked: Record<string, number> = {};
  for (const [name, way] of Object.entries(ways)) {
    keys++;
    // The first fill is no part of it.
    await runAll({ ...way, readers: 1 });
    const ran = await runAll({ ...workload, ...way });
    loads[name] = loadsOf(ran);
    blocked[name] = sum(ran.map((each) => each.blocked));
    await sleep(20);
  }
  const of = '80 readers in 4 processes, 5 s, fresh for 1 s, a load of 100 ms:';
  const labels = {
    flight: 'a single flight in each process',
    lock: 'the lock, staleMs 0',
    swr: 'the lock, staleMs 10,000',
  };
  return (['flight', 'lock', 'swr'] as const).flatMap((way) => [
    figure(`steady-loads-${way}`, `loads of ${of} ${labels[way]}`, loads[way] ?? 0, 'loads'),
    figure(`steady-waited-${way}`, `reads that waited, of ${of} ${labels[way]}`, blocked[way] ?? 0, 'reads'),
  ]);
}
