/** For measure.ts: the readers of one process, and how many loads they caused. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { createReadThrough } from '../../02-strategies/02-read-through/read-through';
import type { Times } from './given';
import { createLockedCache } from './stampede-lock';

export interface Workload {
  /** `plain`: cache-aside; `flight`: the single flight of lesson 2.2; `common`: a common version of the lock; `lock`: this lesson. */
  readonly mode: 'plain' | 'flight' | 'common' | 'lock';
  readonly key: string;
  readonly readers: number;
  /** For how long each of them reads again and again; 0 for one read. */
  readonly forMs: number;
  readonly loadMs: number;
  /** The loader stops its query when its signal is aborted. */
  readonly heedsSignal: boolean;
  /** The TTL of the others is freshMs. */
  readonly times: Times;
  /** When they begin (see clock). */
  readonly startAt: number;
}

export interface RunStats {
  /** Of each load: when its query began and ended. */
  readonly loads: [from: number, to: number][];
  /** Reads that took as long as a load. */
  readonly blocked: number;
}

/** Milliseconds, the same in all processes of a machine. */
export const clock = () => performance.timeOrigin + performance.now();

export async function run(workload: Workload, redis: Redis, db: Pool): Promise<RunStats> {
  const loads: [number, number][] = [];
  let blocked = 0;
  const load = async (signal?: AbortSignal) => {
    const interval: [number, number] = [clock(), 0];
    loads.push(interval);
    const connection = await db.getConnection();
    const kill = () => void db.query('KILL QUERY ?', [connection.threadId]).catch(() => {});
    if (workload.heedsSignal) signal?.addEventListener('abort', kill);
    try {
      await connection.query('SELECT SLEEP(?)', [workload.loadMs / 1000]);
      return { id: 1 };
    } finally {
      signal?.removeEventListener('abort', kill);
      connection.release();
      interval[1] = clock();
    }
  };
  const read = open(workload, redis, load);
  await sleep(Math.max(0, workload.startAt - clock()));
  const endsAt = clock() + workload.forMs;
  const reader = async () => {
    do {
      const from = clock();
      await read().catch(() => {});
      if (clock() - from >= 0.9 * workload.loadMs) blocked++;
      if (workload.forMs > 0) await sleep(5);
    } while (clock() < endsAt);
  };
  await Promise.all(Array.from({ length: workload.readers }, reader));
  // Those that nobody waits for any more.
  while (loads.some(([, to]) => to === 0)) await sleep(5);
  return { loads, blocked };
}

function open(
  { mode, key, times }: Workload,
  redis: Redis,
  load: (signal?: AbortSignal) => Promise<unknown>,
) {
  if (mode === 'lock') {
    const cache = createLockedCache({ redis });
    return () => cache.getOrLoad(key, load, times);
  }
  if (mode === 'flight') {
    const cache = createReadThrough({
      redis,
      name: key,
      load: (_, signal) => load(signal),
      ttlMs: times.freshMs,
      loadDeadlineMs: 10_000,
      cacheDeadlineMs: 2000,
    });
    return () => cache.get({});
  }
  const get = async () => {
    const text = await redis.get(key);
    return text === null ? undefined : JSON.parse(text);
  };
  const fill = async () => {
    const value = await load();
    await redis.set(key, JSON.stringify(value), 'PX', times.freshMs);
    return value;
  };
  if (mode === 'plain') return async () => (await get()) ?? fill();
  const lock = `lock:${key}`;
  return async () => {
    for (;;) {
      const value = await get();
      if (value !== undefined) return value;
      if (await redis.set(lock, '1', 'PX', times.lockMs, 'NX')) {
        try {
          return await fill();
        } finally {
          await redis.del(lock);
        }
      }
      await sleep(100);
    }
  };
}
