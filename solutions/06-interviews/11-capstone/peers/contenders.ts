import { Redis } from 'ioredis';
import { createCache } from '../capstone';
import {
  type Contender,
  DEADLINE_MS,
  ioredis,
  keyvStore,
  type Load,
  type Setup,
  STALE_MS,
  TAG,
  TTL_MS,
} from './clients';

/** By hand: what a team writes first. */
async function byHand(setup: Setup): Promise<Contender> {
  const redis = ioredis(setup);
  const { ttlMs = TTL_MS } = setup;
  return {
    async get(key, load) {
      const text = await redis.get(key).catch(() => null);
      if (text !== null) return JSON.parse(text);
      const value = await load();
      await redis.set(key, JSON.stringify(value), 'PX', ttlMs).catch(() => {});
      return value;
    },
    remove: (key) => redis.del(key),
    close: () => redis.disconnect(),
  };
}

async function keyv(setup: Setup): Promise<Contender> {
  const { keyv, close } = await keyvStore(setup);
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
}

async function cacheManager(setup: Setup): Promise<Contender> {
  const { ttlMs = TTL_MS, twoTiers } = setup;
  const [{ createCache: open }, store] = await Promise.all([import('cache-manager'), keyvStore(setup)]);
  const stores = twoTiers ? [new store.Keyv(), store.keyv] : [store.keyv];
  const cache = open({ stores, ttl: ttlMs, refreshThreshold: ttlMs / 2 });
  return { get: (key, load) => cache.wrap(key, load), remove: (key) => cache.del(key), close: store.close };
}

async function cacheable(setup: Setup): Promise<Contender> {
  const { busUrl, ttlMs = TTL_MS, twoTiers, tags = false } = setup;
  const [{ Cacheable }, { keyv, close }] = await Promise.all([import('cacheable'), keyvStore(setup)]);
  const stores = twoTiers ? { secondary: keyv } : { primary: keyv };
  const cache = new Cacheable({ ...stores, ttl: ttlMs, tags, ...(await busOfCacheable(busUrl)) });
  cache.on('error', () => {});
  return {
    get: (key, load) => cache.getOrSet(key, load),
    remove: (key) => cache.delete(key),
    tagged: {
      // getOrSet takes no tags.
      async get(key, load) {
        const known = await cache.get(key);
        if (known !== undefined) return known;
        const value = await load();
        await cache.set(key, value, { tags: [TAG] });
        return value;
      },
      remove: (tag) => cache.tags.invalidateTag(tag),
    },
    close,
  };
}

async function busOfCacheable(uri: string | undefined) {
  if (!uri) return {};
  const { RedisMessageProvider } = await import('@qified/redis');
  return { sync: { qified: new RedisMessageProvider({ uri }) } };
}

async function bentocache(setup: Setup): Promise<Contender> {
  const { busUrl, ttlMs = TTL_MS, twoTiers } = setup;
  const [{ BentoCache, bentostore }, { memoryDriver }, { redisDriver, redisBusDriver }] = await Promise.all([
    import('bentocache'),
    import('bentocache/drivers/memory'),
    import('bentocache/drivers/redis'),
  ]);
  const connection = ioredis(setup);
  let store = bentostore().useL2Layer(redisDriver({ connection }));
  if (twoTiers) store = store.useL1Layer(memoryDriver({ maxItems: 10_000 }));
  if (busUrl) {
    const { hostname: host, port, username, password } = new URL(busUrl);
    store = store.useBus(
      redisBusDriver({
        connection: { host, port: Number(port), username, password, retryStrategy: () => 20 },
      }),
    );
  }
  const cache = new BentoCache({ default: 'tiers', stores: { tiers: store }, logger: undefined });
  const options = { ttl: ttlMs, grace: STALE_MS, timeout: 0, suppressL2Errors: true } as const;
  return {
    get: (key, factory) => cache.getOrSet({ key, factory, ...options }),
    remove: (key) => cache.delete({ key }),
    tagged: {
      get: (key, factory) => cache.getOrSet({ key, factory, ...options, tags: [TAG] }),
      remove: (tag) => cache.deleteByTag({ tags: [tag] }),
    },
    close: () => connection.disconnect(),
  };
}

async function asyncCacheDedupe(setup: Setup): Promise<Contender> {
  const { createCache: open } = await import('async-cache-dedupe');
  const redis = ioredis(setup);
  const { ttlMs = TTL_MS } = setup;
  const loads = new Map<string, Load>();
  const tagged = new Set<string>();
  const options = { client: redis, invalidation: { referencesTTL: 3_600 } };
  const cache = open({
    ttl: ttlMs / 1000,
    stale: STALE_MS / 1000,
    storage: { type: 'redis', options },
    onError: () => {},
  }).define('item', { references: (key: string) => (tagged.has(key) ? [TAG] : []) }, async (key: string) =>
    loads.get(key)?.(),
  );
  const get = (key: string, load: Load) => {
    loads.set(key, load);
    return cache.item(key);
  };
  return {
    get,
    remove: (key) => cache.clear('item', key),
    tagged: {
      get(key, load) {
        tagged.add(key);
        return get(key, load);
      },
      remove: (tag) => cache.invalidateAll(tag),
    },
    close: () => redis.disconnect(),
  };
}

async function thisLab(setup: Setup): Promise<Contender> {
  const { url, busUrl = url, ttlMs = TTL_MS, deadlineMs = DEADLINE_MS } = setup;
  const cache = createCache({
    name: 'capstone',
    connect: ({ connectionName, ...options }) =>
      new Redis(connectionName === 'channel' ? busUrl : url, { retryStrategy: () => 20, ...options }),
    onError: () => {},
    redisDeadlineMs: deadlineMs,
    loadDeadlineMs: 1_000,
  });
  const policy = { ttlMs, staleMs: STALE_MS };
  return {
    get: (key, load) => cache.get(key, load, policy),
    remove: (key) => cache.invalidate(key),
    tagged: {
      get: (key, load) => cache.get(key, load, { ...policy, tags: [TAG] }),
      remove: (tag) => cache.invalidateTag(tag),
    },
    close: () => cache.close(),
  };
}

export const CONTENDERS: Readonly<Record<string, (setup: Setup) => Promise<Contender>>> = {
  'this lab': thisLab,
  'ioredis by hand': byHand,
  keyv,
  'cache-manager': cacheManager,
  cacheable,
  bentocache,
  'async-cache-dedupe': asyncCacheDedupe,
};

/** Opened, and connected. */
export async function open(name: string, setup: Setup): Promise<Contender> {
  const contender = await CONTENDERS[name]?.(setup);
  if (!contender) throw new Error(`no contender is called ${name}`);
  await new Promise((resolve) => setTimeout(resolve, 150));
  return contender;
}
