import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Matrix } from '#claims';
import { type FaultyProxy, startProxy } from '#kit/faulty-proxy';
import { cacheClientOptions } from '../01-cache-aside/cache-aside';
import { createReadThrough } from './read-through';

type Load = () => Promise<unknown>;

/** What the packages have in common: one question, `key`, answered by `load`. */
interface Cache {
  get(key: string, load: Load): Promise<unknown>;
  remove(key: string): Promise<unknown>;
  close(): unknown;
}

const HITS = 10_000;
const TTL_MS = 600_000;
/** What each is allowed to wait for Redis, where it has an option for that (ms). */
const DEADLINE_MS = 200;

function ioredis(url: string): Redis {
  const redis = new Redis(url, { ...cacheClientOptions(), commandTimeout: DEADLINE_MS });
  redis.on('error', () => {});
  return redis;
}

/** node-redis under @keyv/redis, with the documented options that bound a command. */
async function keyvStore(url: string) {
  const [{ default: KeyvRedis }, { default: Keyv }] = await Promise.all([
    import('@keyv/redis'),
    import('keyv'),
  ]);
  const store = new KeyvRedis({
    url,
    disableOfflineQueue: true,
    commandOptions: { timeout: DEADLINE_MS },
    socket: { connectTimeout: 1000, socketTimeout: 2 * DEADLINE_MS, reconnectStrategy: 50 },
  });
  store.on('error', () => {});
  const keyv = new Keyv({ store, ttl: TTL_MS });
  keyv.on('error', () => {});
  return { keyv, close: () => store.disconnect(true) };
}

const PEERS: Readonly<Record<string, (url: string) => Promise<Cache>>> = {
  'ioredis by hand': async (url) => {
    const redis = ioredis(url);
    return {
      async get(key, load) {
        const text = await redis.get(key).catch(() => null);
        if (text !== null) return JSON.parse(text);
        const value = await load();
        await redis.set(key, JSON.stringify(value), 'PX', TTL_MS).catch(() => {});
        return value;
      },
      remove: (key) => redis.del(key),
      close: () => redis.disconnect(),
    };
  },
  keyv: async (url) => {
    const { keyv, close } = await keyvStore(url);
    return {
      async get(key, load) {
        const known = await keyv.get(key).catch(() => undefined);
        if (known !== undefined) return known;
        const value = await load();
        await keyv.set(key, value).catch(() => {});
        return value;
      },
      remove: (key) => keyv.delete(key),
      close,
    };
  },
  'cache-manager': async (url) => {
    const [{ createCache }, { keyv, close }] = await Promise.all([import('cache-manager'), keyvStore(url)]);
    const cache = createCache({ stores: [keyv], ttl: TTL_MS });
    return { get: (key, load) => cache.wrap(key, load), remove: (key) => cache.del(key), close };
  },
  cacheable: async (url) => {
    const [{ Cacheable }, { keyv, close }] = await Promise.all([import('cacheable'), keyvStore(url)]);
    const cache = new Cacheable({ primary: keyv, ttl: TTL_MS });
    cache.on('error', () => {});
    return { get: (key, load) => cache.getOrSet(key, load), remove: (key) => cache.delete(key), close };
  },
  bentocache: async (url) => {
    const [{ BentoCache, bentostore }, { redisDriver }] = await Promise.all([
      import('bentocache'),
      import('bentocache/drivers/redis'),
    ]);
    const redis = ioredis(url);
    const cache = new BentoCache({
      default: 'redis',
      stores: { redis: bentostore().useL2Layer(redisDriver({ connection: redis })) },
    });
    return {
      get: (key, load) => cache.getOrSet({ key, factory: load, ttl: TTL_MS }),
      remove: (key) => cache.delete({ key }),
      close: () => redis.disconnect(),
    };
  },
  'async-cache-dedupe': async (url) => {
    const { createCache } = await import('async-cache-dedupe');
    const redis = ioredis(url);
    const loads = new Map<string, Load>();
    const cache = createCache({
      ttl: TTL_MS / 1000,
      storage: { type: 'redis', options: { client: redis } },
    }).define('item', async (key: string) => loads.get(key)?.());
    return {
      get(key, load) {
        loads.set(key, load);
        return cache.item(key);
      },
      remove: (key) => cache.clear('item', key),
      close: () => redis.disconnect(),
    };
  },
  'this lab': async (url) => {
    const redis = ioredis(url);
    const loads = new Map<string, Load>();
    const cache = createReadThrough<{ key: string }, unknown>({
      redis,
      name: 'peers',
      load: async ({ key }) => loads.get(key)?.(),
      ttlMs: TTL_MS,
      loadDeadlineMs: 500,
      cacheDeadlineMs: DEADLINE_MS,
    });
    return {
      get(key, load) {
        loads.set(key, load);
        return cache.get({ key });
      },
      remove: (key) => cache.invalidate({ key }),
      close: () => redis.disconnect(),
    };
  },
};

/** How often each package loads, what its callers get, and what it makes of an outage; all in one run. */
export async function besidePeers(redisUrl: string): Promise<Matrix> {
  const opened = await Promise.all(
    Object.entries(PEERS).map(([name, open]) => openPeer(redisUrl, name, open)),
  );
  await sleep(100);
  try {
    // One after the other: they would take the processor from each other.
    const loaded: [hits: number, loads: number][] = [];
    for (const { cache } of opened) loaded.push([await hotHits(cache), await coldLoads(cache)]);
    const [[byHand] = [1]] = loaded;
    // Side by side: nearly all of this is waiting.
    // dbg
    const faults = await Promise.all(opened.map(({ cache, proxy }) => underFaults(cache, proxy)));
    return matrix(
      opened.map(({ name }, at) => {
        const [hits, loads] = loaded[at] ?? [0, 0];
        return [name, `${(hits / byHand).toFixed(2)}×`, String(loads), ...(faults[at] ?? [])];
      }),
    );
  } finally {
    await Promise.all(opened.map(({ cache, proxy }) => closePeer(cache, proxy)));
  }
}

async function openPeer(redisUrl: string, name: string, open: (url: string) => Promise<Cache>) {
  const proxy = await startProxy(redisUrl);
  return { name, proxy, cache: withPrefix(name.replaceAll(' ', '-'), await open(proxy.url)) };
}

async function closePeer(cache: Cache, proxy: FaultyProxy): Promise<void> {
  await within(500, Promise.resolve(cache.close()));
  await proxy.close();
}

async function underFaults(cache: Cache, proxy: FaultyProxy): Promise<string[]> {
  return [
    await failing(cache),
    await hung(cache),
    await dates(cache),
    await sharing(cache),
    await stalled(cache, proxy),
    await partition(cache, proxy),
  ];
}

function matrix(rows: [string, ...string[]][]): Matrix {
  return {
    name: 'peers',
    columns: [
      'hits of one key a second, 50 readers, against ioredis by hand',
      'loads for 1,000 readers of a cold key',
      '50 callers, failing load: loads, and what they get',
      'second caller after a load that never settles',
      'a Date comes back as',
      'concurrent callers get',
      'read while Redis is stalled',
      'invalidation in an outage, and the read after it',
    ],
    rows,
  };
}

/** Three of them store under the same names: none may find what another has stored. */
function withPrefix(prefix: string, cache: Cache): Cache {
  return {
    get: (key, load) => cache.get(`${prefix}-${key}`, load),
    remove: (key) => cache.remove(`${prefix}-${key}`),
    close: () => cache.close(),
  };
}

async function hotHits(cache: Cache): Promise<number> {
  const load = async () => ({ name: 'x'.repeat(1000) });
  await cache.get('hot', load);
  let left = HITS;
  const reader = async () => {
    while (left-- > 0) await cache.get('hot', load);
  };
  const start = performance.now();
  await Promise.all(Array.from({ length: 50 }, reader));
  return HITS / (performance.now() - start);
}

async function coldLoads(cache: Cache): Promise<number> {
  let loads = 0;
  const load = async () => {
    loads++;
    await sleep(20);
    return { id: 1 };
  };
  await Promise.all(Array.from({ length: 1000 }, () => cache.get('cold', load)));
  return loads;
}

async function failing(cache: Cache): Promise<string> {
  let loads = 0;
  const load = async () => {
    loads++;
    await sleep(20);
    throw new Error('database away');
  };
  const answers = await Promise.allSettled(Array.from({ length: 50 }, () => cache.get('failing', load)));
  const rejected = answers.filter(({ status }) => status === 'rejected').length;
  return `${loads}; ${rejected === 50 ? 'its error' : rejected === 0 ? 'undefined, no error' : `${rejected} errors`}`;
}

async function hung(cache: Cache): Promise<string> {
  void cache.get('hung', () => new Promise(() => {})).catch(() => {});
  await sleep(50);
  const second = await within(
    1500,
    cache.get('hung', async () => 'loaded'),
  );
  if (second === 'pending') return 'hangs too (1.5 s watched)';
  const third = await within(
    1500,
    cache.get('hung', async () => 'loaded'),
  );
  return second === 'loaded'
    ? 'loads'
    : `an error at the deadline; the next loads: ${third === 'loaded' ? 'yes' : 'no'}`;
}

async function dates(cache: Cache): Promise<string> {
  const load = async () => ({ at: new Date(0) });
  const kind = (value: unknown) =>
    typeof value === 'object' && value && 'at' in value && value.at instanceof Date ? 'Date' : 'text';
  return `${kind(await cache.get('date', load))} on a miss, ${kind(await cache.get('date', load))} on a hit`;
}

async function sharing(cache: Cache): Promise<string> {
  const load = async () => {
    await sleep(5);
    return { tags: [] };
  };
  const [one, other] = await Promise.all([cache.get('shared', load), cache.get('shared', load)]);
  return one === other ? 'one object' : 'their own';
}

async function stalled(cache: Cache, proxy: FaultyProxy): Promise<string> {
  await cache.get('stalled', async () => 'old');
  proxy.stall();
  const start = performance.now();
  const answer = await within(
    3000,
    cache.get('stalled', async () => 'loaded'),
  );
  const ms = Math.round(performance.now() - start);
  await proxy.heal();
  await sleep(400);
  return answer === 'pending'
    ? 'pending after 3 s'
    : answer === 'loaded'
      ? `loads, ${ms} ms`
      : `fails, ${ms} ms`;
}

/** Three invalidations while every byte to Redis is lost, one after the other, and three reads after it. */
async function partition(cache: Cache, proxy: FaultyProxy): Promise<string> {
  const keys = ['a', 'b', 'c'].map((name) => `moved-${name}`);
  for (const key of keys) await cache.get(key, async () => 'old');
  proxy.blackHole();
  const told = new Set<string>();
  for (const key of keys) {
    const answer = cache.remove(key).then((value) => `resolves (${value})`);
    told.add(String(await within(3000, answer)));
  }
  await proxy.heal();
  await sleep(1500);
  const reads = await Promise.all(
    keys.map((key) =>
      within(
        3000,
        cache.get(key, async () => 'new'),
      ),
    ),
  );
  const stale = reads.filter((read) => read === 'old').length;
  return `${[...told].join(' or ')}; ${stale === 0 ? 'fresh' : `**stale** (${stale} of 3)`}`;
}

/** What it comes to in time, or a word for that it does not. */
function within(ms: number, promise: Promise<unknown>): Promise<unknown> {
  return Promise.race([promise.catch(() => 'rejects'), sleep(ms, 'pending')]);
}
