/** A process for measure.ts: readers of one hot key, through one of the contenders. Answers what they saw. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { openPool } from '#kit/pool';
import { createLockedCache } from '../04-stampede-lock/stampede-lock';
import { createEarlyCache } from './early-expiration';

export interface Seen {
  readonly loads: number;
  readonly reads: number;
  /** Reads that waited for a load. */
  readonly blocked: number;
  /** Age of the oldest value returned, since its load ended (ms). */
  readonly oldestMs: number;
}

interface Cache {
  get(): Promise<unknown>;
}

const [name = '', redisUrl = '', mysqlUrl = '', readers, forMs] = process.argv.slice(2);
const LOAD_MS = 100;
const TTL_MS = 1000;
/** For those who serve old values while they refresh: how old at most. */
const STALE_MS = 10_000;

type Open = (redis: Redis, key: string, load: () => Promise<number>) => Cache | Promise<Cache>;

/** The npm packages with their documented option for a refresh that keeps no reader waiting. */
const CONTENDERS: Readonly<Record<string, Open>> = {
  'cache-manager': async (_, key, load) => {
    const [{ createCache }, { default: KeyvRedis }, { default: Keyv }] = await Promise.all([
      import('cache-manager'),
      import('@keyv/redis'),
      import('keyv'),
    ]);
    const store = new KeyvRedis(redisUrl);
    const cache = createCache({ stores: [new Keyv({ store })], ttl: TTL_MS, refreshThreshold: TTL_MS / 2 });
    return { get: () => cache.wrap(key, load) };
  },
  bentocache: async (redis, key, load) => {
    const [{ BentoCache, bentostore }, { redisDriver }] = await Promise.all([
      import('bentocache'),
      import('bentocache/drivers/redis'),
    ]);
    const cache = new BentoCache({
      default: 'redis',
      stores: { redis: bentostore().useL2Layer(redisDriver({ connection: redis })) },
    });
    return { get: () => cache.getOrSet({ key, factory: load, ttl: TTL_MS, grace: STALE_MS, timeout: 0 }) };
  },
  'async-cache-dedupe': async (redis, key, load) => {
    const { createCache } = await import('async-cache-dedupe');
    const cache = createCache({
      ttl: TTL_MS / 1000,
      stale: STALE_MS / 1000,
      storage: { type: 'redis', options: { client: redis } },
    }).define('item', (_key: string) => load());
    return { get: () => cache.item(key) };
  },
  'SWR behind the lock (3.4)': (redis, key, load) => {
    const cache = createLockedCache({ redis });
    const times = { freshMs: TTL_MS, staleMs: STALE_MS, lockMs: 5000, waitMs: 5000 };
    return { get: () => cache.getOrLoad(key, load, times) };
  },
  'XFetch, β = 1': (redis, key, load) => early(redis, key, load, 1),
  'XFetch, β = 0.35': (redis, key, load) => early(redis, key, load, 0.35),
};

function early(redis: Redis, key: string, load: () => Promise<number>, beta: number): Cache {
  const cache = createEarlyCache({ redis, ttlMs: TTL_MS, beta, loadDeadlineMs: 900 });
  return { get: () => cache.get(key, load) };
}

const redis = new Redis(redisUrl, { commandTimeout: 1000 });
const db = openPool(mysqlUrl);
const seen = { loads: 0, reads: 0, blocked: 0, oldestMs: 0 };

/** @returns when it ended */
async function load(): Promise<number> {
  seen.loads++;
  await db.query('SELECT SLEEP(?)', [LOAD_MS / 1000]);
  return Date.now();
}

async function reader(cache: Cache, endsAt: number): Promise<void> {
  while (Date.now() < endsAt) {
    const start = Date.now();
    const loadedAt = Number(await cache.get());
    seen.reads++;
    seen.oldestMs = Math.max(seen.oldestMs, start - loadedAt);
    // A process that had to wait for a core has long reads too, of values that were there before them.
    if (Date.now() - start >= LOAD_MS / 2 && loadedAt > start) seen.blocked++;
    await sleep(20);
  }
}

async function main(): Promise<void> {
  process.on('disconnect', () => process.exit(1));
  const open = CONTENDERS[name];
  if (!open) throw new Error(`no contender is called ${name}`);
  const cache = await open(redis, `measure:steady:${name}`, load);
  await Promise.all([redis.ping(), db.query('SELECT 1')]);
  process.send?.('ready');
  process.once('message', async () => {
    // The first fill: nothing can be refreshed before it is there.
    await cache.get();
    seen.loads = 0;
    await Promise.all(
      Array.from({ length: Number(readers) }, () => reader(cache, Date.now() + Number(forMs))),
    );
    process.send?.(seen, () => process.exit(0));
  });
}

void main();
