import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { type Claim, defineMeasure, forkScript, type MeasureServers, median, percentile } from '#claims';
import { entryKey, lockKey } from './given';
import { createSwr } from './stale-while-revalidate';

const LOAD_MS = 20;
const READERS = 20;
const TTL_MS = 100;
const KEY = 'measure';
const WORK = `${READERS} readers of one key, TTL ${TTL_MS} ms, a load of ${LOAD_MS} ms`;

/** About 1 kB. */
const VALUE = { id: 1, description: 'x'.repeat(1000) };

type Get = () => Promise<unknown>;

interface Sample {
  readonly at: number;
  readonly ms: number;
}

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, db, redisUrl, mysqlUrl } = servers();
    const loads = { count: 0 };
    const load = async () => {
      loads.count++;
      await db.query('SELECT SLEEP(?)', [LOAD_MS / 1000]);
      return VALUE;
    };
    const common = { redis, load, loadDeadlineMs: 5000, cacheDeadlineMs: 1000 };

    // One TTL for both: what was stale is gone, and the readers of this process share the load.
    const shared = createSwr({ ...common, softTtlMs: TTL_MS, hardTtlMs: TTL_MS });
    const swr = createSwr({ ...common, softTtlMs: TTL_MS, hardTtlMs: 20 * TTL_MS });
    const contenders: Record<string, Get> = {
      ...(quick ? {} : { aside: cacheAside(redis, load) }),
      shared: () => shared.get(`${KEY}:shared`),
      swr: () => swr.get(`${KEY}:swr`),
    };
    const samples: Record<string, Sample[]> = { aside: [], shared: [], swr: [] };
    const rounds: Record<string, number[][]> = { aside: [], shared: [], swr: [] };
    for (const get of Object.values(contenders)) await readFor(get, TTL_MS / 2);
    for (let round = 0; round < (quick ? 3 : 5); round++) {
      for (const [name, get] of Object.entries(contenders)) {
        const taken = await readFor(get, quick ? 1.3 * TTL_MS : 4.5 * TTL_MS);
        rounds[name]?.push(taken.map(({ ms }) => ms));
        samples[name] = taken;
      }
    }
    await swr.onIdle();
    const at = (name: string, p: number) =>
      median((rounds[name] ?? []).map((latencies) => percentile(latencies, p)));
    const against = (one: string, other: string, p: number) =>
      median(
        (rounds[one] ?? []).map(
          (latencies, round) => percentile(latencies, p) / percentile(rounds[other]?.[round] ?? [], p),
        ),
      );

    const perExpiry = await loadsPerExpiry(servers(), quick ? 2 : 20);
    const claims: Claim[] = [
      figure('p99-shared', `99th percentile of a read, ${WORK}: one TTL`, at('shared', 0.99), 'ms'),
      figure('p99-swr', `99th percentile of a read, ${WORK}: two TTLs`, at('swr', 0.99), 'ms'),
      {
        ...figure(
          'p99-ratio',
          `99th percentile of a read, ${WORK}: one TTL against two`,
          against('shared', 'swr', 0.99),
          '×',
        ),
        atLeast: 1.2,
      },
      figure('p50-shared', `median read, ${WORK}: one TTL`, at('shared', 0.5), 'ms'),
      figure('p50-ratio', `median read, ${WORK}: one TTL against two`, against('shared', 'swr', 0.5), '×'),
      figure('worst-shared', `slowest read, ${WORK}: one TTL`, at('shared', 1), 'ms'),
      figure('worst-swr', `slowest read, ${WORK}: two TTLs`, at('swr', 1), 'ms'),
      ...perExpiry,
    ];
    if (!quick) {
      claims.push(
        figure(
          'p99-aside-ratio',
          `99th percentile of a read, ${WORK}: cache-aside, where each miss loads, against two TTLs`,
          against('aside', 'swr', 0.99),
          '×',
        ),
        ...(await steadyState(redisUrl, mysqlUrl)),
      );
    }
    return {
      claims,
      plots: [
        {
          name: 'expiry',
          title: `Slowest read of each ${BUCKET_MS} ms: ${WORK}`,
          x: { label: 'time of the call (ms)', scale: 'linear' },
          y: { label: 'latency (ms)', scale: 'log' },
          series: [
            { name: 'cache-aside, one TTL', points: worstByTime(samples.aside ?? []) },
            { name: 'shared load, one TTL', points: worstByTime(samples.shared ?? []) },
            { name: 'stale-while-revalidate', points: worstByTime(samples.swr ?? []) },
          ].filter(({ points }) => points.length > 0),
        },
      ],
    };
  },
});

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

/** GET; on a miss the load, for each reader, and SET. */
function cacheAside(redis: Redis, load: Get): Get {
  const key = `${KEY}:aside`;
  return async () => {
    const text = await redis.get(key);
    if (text !== null) return JSON.parse(text);
    const value = await load();
    await redis.set(key, JSON.stringify(value), 'PX', TTL_MS);
    return value;
  };
}

/** READERS that read again and again, beginning with a value that has just been stored. */
async function readFor(get: Get, forMs: number): Promise<Sample[]> {
  await get();
  const start = performance.now();
  const samples: Sample[] = [];
  const reader = async () => {
    while (performance.now() - start < forMs) {
      const at = performance.now();
      await get();
      samples.push({ at: at - start, ms: performance.now() - at });
      await sleep(2);
    }
  };
  await Promise.all(Array.from({ length: READERS }, reader));
  return samples;
}

const BUCKET_MS = 5;

function worstByTime(samples: readonly Sample[]): [number, number][] {
  const worst = new Map<number, number>();
  for (const { at, ms } of samples) {
    const bucket = Math.floor(at / BUCKET_MS) * BUCKET_MS;
    worst.set(bucket, Math.max(worst.get(bucket) ?? 0, ms));
  }
  return [...worst].sort(([a], [b]) => a - b);
}

/** 20 readers in each of 1 and 4 instances, each with its own connection, read at once when the key has expired. */
async function loadsPerExpiry({ redis, db }: MeasureServers, expiries: number): Promise<Claim[]> {
  const clock = { ms: Date.now() };
  const loads = { count: 0 };
  const load = async () => {
    loads.count++;
    await db.query('SELECT SLEEP(?)', [LOAD_MS / 1000]);
    return VALUE;
  };
  const softTtlMs = 60_000;
  const key = `${KEY}:loads`;
  const clients = Array.from({ length: 4 }, () => redis.duplicate());
  const caches = clients.map((client) =>
    createSwr({
      redis: client,
      load,
      softTtlMs,
      hardTtlMs: 1e9,
      loadDeadlineMs: 5000,
      cacheDeadlineMs: 5000,
      now: () => clock.ms,
    }),
  );
  const readAll = async (instances: number) => {
    const before = loads.count;
    await Promise.all(
      caches.slice(0, instances).flatMap((cache) => Array.from({ length: READERS }, () => cache.get(key))),
    );
    await Promise.all(caches.map((cache) => cache.onIdle()));
    return loads.count - before;
  };
  const claims: Claim[] = [];
  try {
    for (const instances of [1, 4]) {
      const hard: number[] = [];
      const soft: number[] = [];
      for (let i = 0; i < expiries; i++) {
        await redis.del(entryKey(key), lockKey(key));
        hard.push(await readAll(instances));
        clock.ms += softTtlMs;
        soft.push(await readAll(instances));
      }
      const who = instances === 1 ? '1 instance' : `${instances} instances`;
      const mean = (counts: number[]) => counts.reduce((sum, n) => sum + n, 0) / counts.length;
      claims.push(
        figure(
          `hard-loads-${instances}`,
          `loads when the hard TTL of a key is over, ${who} with ${READERS} readers each`,
          mean(hard),
          'loads',
        ),
        {
          ...figure(
            `soft-loads-${instances}`,
            `loads at the end of the soft TTL, ${who}: share of those at the end of the hard one`,
            (100 * mean(soft)) / mean(hard),
            '%',
          ),
          atMost: 100 / instances + 1,
        },
      );
    }
    return claims;
  } finally {
    await redis.del(entryKey(key), lockKey(key));
    for (const client of clients) client.disconnect();
  }
}

const PROCESSES = 4;
const STEADY_MS = 7000;

/** A value is there when they begin. */
async function steadyState(redisUrl: string, mysqlUrl: string): Promise<Claim[]> {
  const run = async (name: string, hardTtlMs: number) => {
    const args = [redisUrl, mysqlUrl, `${KEY}:${name}`, READERS, 1000, hardTtlMs, STEADY_MS].map(String);
    const children = Array.from({ length: PROCESSES }, () =>
      forkScript(join(import.meta.dirname, 'steady.ts'), args),
    );
    try {
      await Promise.all(children.map((child) => once(child, 'message')));
      const ended = children.map((child) => once(child, 'message'));
      for (const child of children) child.send('go');
      const counts = (await Promise.all(ended)).map(
        ([counted]) => counted as { loads: number; blocked: number },
      );
      return {
        loads: counts.reduce((sum, { loads }) => sum + loads, 0),
        blocked: counts.reduce((sum, { blocked }) => sum + blocked, 0),
      };
    } finally {
      for (const child of children) child.kill();
    }
  };
  const shared = await run('steady-shared', 1000);
  const swr = await run('steady-swr', 10_000);
  const work = `${PROCESSES} processes with ${READERS} readers each, in ${STEADY_MS / 1000} s`;
  return [
    figure(
      'steady-blocked-shared',
      `reads that waited for a load, ${work}: one TTL of 1 s`,
      shared.blocked,
      'reads',
    ),
    figure(
      'steady-blocked-swr',
      `reads that waited for a load, ${work}: a soft TTL of 1 s`,
      swr.blocked,
      'reads',
    ),
    figure('steady-loads-shared', `loads of 100 ms, ${work}: one TTL of 1 s`, shared.loads, 'loads'),
    figure('steady-loads-swr', `loads of 100 ms, ${work}: a soft TTL of 1 s`, swr.loads, 'loads'),
  ];
}
