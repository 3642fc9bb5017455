import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Matrix } from '#claims';
import { createTwoTier } from './two-tier';

/** A local cache before Redis, as its documentation sets it up. */
export interface Peer {
  readonly name: string;
  get(key: string): Promise<unknown>;
  /** Fills the cache as its users do. */
  fill(key: string, text: string): Promise<unknown>;
  close(): Promise<unknown> | undefined;
}

const TTL_MS = 600_000;
export const PREFIX = 'product:';

export async function openPeers(url: string): Promise<Peer[]> {
  return Promise.all([twoTier(url), nodeRedis(url), bentocache(url), cacheable(url), cacheManager(url)]);
}

async function twoTier(url: string): Promise<Peer> {
  const redis = new Redis(url);
  const connect = (options: object) => new Redis(url, options);
  const cache = createTwoTier({ redis, connect, prefix: PREFIX, maxKeys: 10_000 });
  return {
    name: 'this lab',
    get: (key) => cache.get(key),
    fill: (key, text) => redis.set(key, text, 'PX', TTL_MS),
    async close() {
      cache.close();
      redis.disconnect();
    },
  };
}

async function nodeRedis(url: string): Promise<Peer> {
  const { createClient } = await import('@redis/client');
  const client = createClient({ url, RESP: 3, clientSideCache: { maxEntries: 10_000, evictPolicy: 'LRU' } });
  client.on('error', () => {});
  await client.connect();
  return {
    name: 'node-redis, clientSideCache',
    get: (key) => client.get(key),
    fill: (key, text) => client.set(key, text, { expiration: { type: 'PX', value: TTL_MS } }),
    close: async () => client.destroy(),
  };
}

async function bentocache(url: string): Promise<Peer> {
  const [{ BentoCache, bentostore }, { memoryDriver }, { redisDriver }] = await Promise.all([
    import('bentocache'),
    import('bentocache/drivers/memory'),
    import('bentocache/drivers/redis'),
  ]);
  const connection = new Redis(url);
  const store = bentostore()
    .useL1Layer(memoryDriver({ maxItems: 10_000 }))
    .useL2Layer(redisDriver({ connection }));
  const cache = new BentoCache({ default: 'tiers', stores: { tiers: store } });
  return {
    name: 'bentocache',
    get: (key) => cache.get({ key }),
    fill: (key, value) => cache.set({ key, value, ttl: TTL_MS }),
    close: async () => connection.disconnect(),
  };
}

/** node-redis under Keyv. */
async function keyvStore(url: string) {
  const [{ default: KeyvRedis }, { default: Keyv }] = await Promise.all([
    import('@keyv/redis'),
    import('keyv'),
  ]);
  const store = new KeyvRedis(url);
  store.on('error', () => {});
  return { store, keyv: new Keyv({ store, ttl: TTL_MS }) };
}

async function cacheable(url: string): Promise<Peer> {
  const [{ Cacheable }, { store, keyv }] = await Promise.all([import('cacheable'), keyvStore(url)]);
  const cache = new Cacheable({ secondary: keyv, ttl: TTL_MS });
  return {
    name: 'cacheable',
    get: (key) => cache.get(key),
    fill: (key, value) => cache.set(key, value),
    close: () => store.disconnect(true),
  };
}

async function cacheManager(url: string): Promise<Peer> {
  const [{ createCache }, { default: Keyv }, { store, keyv }] = await Promise.all([
    import('cache-manager'),
    import('keyv'),
    keyvStore(url),
  ]);
  const cache = createCache({ stores: [new Keyv(), keyv], ttl: TTL_MS });
  return {
    name: 'cache-manager',
    get: (key) => cache.get(key),
    fill: (key, value) => cache.set(key, value),
    close: () => store.disconnect(true),
  };
}

/** What each of them does when another client deletes the key in Redis. */
export async function hearing(redis: Redis, peers: readonly Peer[], watchMs: number): Promise<Matrix> {
  const rows = await Promise.all(
    peers.map(async (peer): Promise<[string, string]> => {
      const key = `${PREFIX}heard-${peer.name.replaceAll(/\W/g, '-')}`;
      await peer.fill(key, 'old');
      for (let i = 0; i < 20; i++) await peer.get(key);
      await sleep(20);
      await peer.get(key);
      // Each gives the key a prefix of its own.
      const names = await redis.keys(`*${key.slice(PREFIX.length)}*`);
      await redis.del(names);
      const end = performance.now() + watchMs;
      while (performance.now() < end) {
        const value = await peer.get(key);
        if (value === null || value === undefined) return [peer.name, 'yes'];
        await sleep(1);
      }
      return [peer.name, `no: the old text, ${watchMs / 1000} s later`];
    }),
  );
  return { name: 'hearing', columns: ['hears of a DEL by another client'], rows };
}
