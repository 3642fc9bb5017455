import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { type Claim, defineMeasure, forkScript, type MeasureServers, median } from '#claims';
import { clock, type Played, play, type Scene } from './crowd';
import { createLockedCache, entryKey, lockKey, type Times } from './stampede-lock';

const PROCESSES = 4;
const TIMES: Times = { freshMs: 1000, staleMs: 0, lockMs: 2000, waitMs: 10_000 };
const KEY = 'measure';

type Cast = (scene: Partial<Scene> & Pick<Scene, 'mode'>) => Promise<Played[]>;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers: opened }) {
    const servers = opened();
    const claims = [...(await hitAgainstGet(servers, quick)), ...(await invalidatedLoads(servers, quick))];
    await (quick ? withInstances : withProcesses)(servers, async (cast, hanging) => {
      claims.push(...(await coldKey(cast, quick)));
      const [peers, recovery] = await Promise.all([slowLoader(cast, quick), crash(servers, hanging, quick)]);
      claims.push(...peers, recovery);
      if (!quick) claims.push(...(await steadyState(cast)));
    });
    return { claims };
  },
});

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

const sum = (numbers: readonly number[]) => numbers.reduce((total, n) => total + n, 0);
const loadsOf = (played: readonly Played[]) => sum(played.map(({ loads }) => loads.length));

/** Each has its own clients, as a process has. */
async function withInstances(
  { redisUrl, db }: MeasureServers,
  use: (cast: Cast, hanging: () => Promise<Hanging>) => Promise<void>,
): Promise<void> {
  const clients = Array.from({ length: PROCESSES + 1 }, () => new Redis(redisUrl));
  try {
    await Promise.all(clients.map((client) => client.ping()));
    const cast: Cast = (scene) =>
      Promise.all(clients.slice(1).map((client) => play(complete(scene, 0), client, db)));
    await use(cast, async () => ({
      async hold(times) {
        const since = clock();
        await clients[0]?.set(lockKey(KEY), 'of a process that is no more', 'PX', times.lockMs);
        return since;
      },
    }));
  } finally {
    for (const client of clients) client.disconnect();
  }
}

async function withProcesses(
  { redisUrl, mysqlUrl }: MeasureServers,
  use: (cast: Cast, hanging: () => Promise<Hanging>) => Promise<void>,
): Promise<void> {
  const children: ChildProcess[] = [];
  const start = async (count: number) => {
    const started = Array.from({ length: count }, () =>
      forkScript(join(import.meta.dirname, 'crowd-process.ts'), [redisUrl, mysqlUrl]),
    );
    children.push(...started);
    await Promise.all(started.map((child) => once(child, 'message')));
    return started;
  };
  try {
    const crowd = await start(PROCESSES);
    const cast: Cast = (scene) =>
      Promise.all(
        crowd.map(async (child) => {
          const played = once(child, 'message');
          child.send(complete(scene, 50));
          return (await played)[0] as Played;
        }),
      );
    await use(cast, async () => {
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

const complete = (scene: Partial<Scene> & Pick<Scene, 'mode'>, delayMs: number): Scene => ({
  key: `${KEY}:${keys}`,
  readers: 20,
  forMs: 0,
  loadMs: 100,
  heedsSignal: true,
  times: TIMES,
  startAt: clock() + delayMs,
  ...scene,
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
      ...figure('hit', 'a fresh hit (the script) against GET: p50', median(took.hit) / median(took.get), '×'),
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
      'invalidations in the middle of a load that its fill overwrites: DEL of the entry',
      await staleAfter(entryKey(KEY)),
      '%',
    ),
    {
      ...figure(
        'stale-del-both',
        'the same: DEL of entry and lock',
        await staleAfter(entryKey(KEY), lockKey(KEY)),
        '%',
      ),
      atMost: 0,
    },
  ];
}

async function coldKey(cast: Cast, quick: boolean): Promise<Claim[]> {
  const scene = { readers: quick ? 25 : 250, loadMs: quick ? 20 : 100 };
  const loads = async (mode: Scene['mode']) => {
    keys++;
    return loadsOf(await cast({ ...scene, mode }));
  };
  const flight = await loads('flight');
  const lock = await loads('lock');
  const share: Claim = {
    ...figure(
      'cold-share',
      'loads of a cold key, 4 processes: the lock against the single flight',
      (100 * lock) / flight,
      '%',
    ),
    // A process that comes late finds the value, and makes no load of its own.
    atMost: 50,
  };
  if (quick) return [share];
  return [
    figure(
      'cold-plain',
      'loads of a cold key, 1,000 readers in 4 processes: cache-aside',
      await loads('plain'),
      'loads',
    ),
    figure('cold-flight', 'the same, single flight in the process (2.2)', flight, 'loads'),
    figure('cold-lock', 'the same, the lock', lock, 'loads'),
    share,
  ];
}

/** A load that takes 2.5 times as long as its lock lives. */
async function slowLoader(cast: Cast, quick: boolean): Promise<Claim[]> {
  const lockMs = quick ? 60 : 200;
  const scene = {
    readers: 5,
    forMs: 3.5 * lockMs,
    loadMs: 2.5 * lockMs,
    times: { ...TIMES, freshMs: 10_000, lockMs, waitMs: lockMs },
  };
  const peers = async (mode: 'guide' | 'lock', heedsSignal: boolean) => {
    keys++;
    const played = await cast({ ...scene, mode, heedsSignal });
    return atOnce(played.flatMap(({ loads }) => loads));
  };
  const deaf = await peers('lock', false);
  const share: Claim = {
    ...figure(
      'peers-share',
      'a loader that ignores its signal: queries at once against load time ÷ lock life, rounded up',
      deaf / 3,
      '×',
    ),
    atMost: 1.34,
  };
  if (quick) return [share];
  const guide = await peers('guide', false);
  const heeding = await peers('lock', true);
  return [
    figure('peers-guide', "a load of 2.5 lock lives: queries at once, the guide's lock", guide, 'queries'),
    figure('peers-deaf', 'the same, this lock, a loader that ignores its signal', deaf, 'queries'),
    figure('peers-heeding', 'the same, a loader that stops its query', heeding, 'queries'),
    share,
  ];
}

/** To stop a query takes a moment: what overlaps for less is not counted. */
const KILLED_WITHIN_MS = 20;

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
      'a holder killed as its load begins: time to the next load against lockMs, worst',
      Math.max(...shares),
      '×',
    ),
    atMost: 1.6,
  };
}

async function steadyState(cast: Cast): Promise<Claim[]> {
  const scene = { readers: 20, forMs: 7000 };
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
    await cast({ ...way, readers: 1 });
    const played = await cast({ ...scene, ...way });
    loads[name] = loadsOf(played);
    blocked[name] = sum(played.map((each) => each.blocked));
    await sleep(20);
  }
  const says =
    'loads in 7 s, 4 processes with 20 readers each, fresh for 1 s, a load of 100 ms: single flight alone';
  return [
    figure('steady-loads-flight', says, loads.flight ?? 0, 'loads'),
    figure('steady-loads-lock', 'the same, the lock, staleMs 0', loads.lock ?? 0, 'loads'),
    figure('steady-loads-swr', 'the same, the lock, staleMs 10,000', loads.swr ?? 0, 'loads'),
    figure('steady-blocked-flight', 'reads that waited: single flight alone', blocked.flight ?? 0, 'reads'),
    figure('steady-blocked-lock', 'the same, the lock, staleMs 0', blocked.lock ?? 0, 'reads'),
    figure('steady-blocked-swr', 'the same, the lock, staleMs 10,000', blocked.swr ?? 0, 'reads'),
  ];
}
