import type { RowDataPacket } from 'mysql2/promise';
import { leaseKey, valueKey } from '../../../labs/03-invalidation/06-leases/given';
import type { Article } from '../../../labs/03-invalidation/07-versions/given';
import { createProducts } from '../../02-strategies/01-cache-aside/cache-aside';
import { createReadThrough } from '../../02-strategies/02-read-through/read-through';
import { createUsers } from '../../02-strategies/03-write-through/write-through';
import { createSwr } from '../../02-strategies/06-stale-while-revalidate/stale-while-revalidate';
import { createCatalogue, createRelay } from '../02-events/events';
import { createTaggedCache } from '../03-tags-and-generations/tags-and-generations';
import { createLockedCache } from '../04-stampede-lock/stampede-lock';
import { createEarlyCache } from '../05-early-expiration/early-expiration';
import { createLeaseCache } from '../06-leases/leases';
import { createArticles, createVersionedCache } from '../07-versions/versions';
import type { Servers, Strategy } from './harness';

const TTL_MS = 400;
const LONG_TTL_MS = 60_000;
const LOAD_DEADLINE_MS = 1000;
const CACHE_DEADLINE_MS = 50;
/** Of locks and leases. In the outage some are left by holders that Redis did not hear. */
const LOCK_MS = 200;
const FENCE_MS = 1000;

const LEASE_TIMES = { ttlMs: LONG_TTL_MS, leaseMs: LOCK_MS, waitMs: LOCK_MS };

const key = (id: number) => `product:${id}`;

async function select({ db }: Servers, id: number): Promise<number> {
  const [rows] = await db.execute<RowDataPacket[]>('SELECT name FROM products WHERE id = ?', [id]);
  return Number(rows[0]?.name);
}

async function update({ db }: Servers, id: number, version: number): Promise<void> {
  await db.execute('UPDATE products SET name = ?, version = version + 1 WHERE id = ?', [String(version), id]);
}

/** GET, else SELECT and SET: what is read is stored, whatever has happened meanwhile. */
async function readAside(servers: Servers, id: number, ttlMs: number): Promise<number> {
  const cached = await servers.redis.get(key(id)).catch(() => null);
  if (cached !== null) return Number(cached);
  const version = await select(servers, id);
  await servers.redis.set(key(id), version, 'PX', ttlMs).catch(() => {});
  return version;
}

/** From the plainest to the strictest. A new one is a new entry. */
export const strategies: readonly Strategy[] = [
  {
    id: 'none',
    name: 'no cache',
    bound: '–',
    staleShare: { atMost: 0 },
    open: (servers) => ({
      read: (id) => select(servers, id),
      write: (id, version) => update(servers, id, version),
    }),
  },
  {
    id: 'ttl',
    name: 'a TTL and nothing else',
    bound: `TTL, ${TTL_MS} ms, plus the load`,
    staleShare: { atLeast: 5 },
    open: (servers) => ({
      read: (id) => readAside(servers, id, TTL_MS),
      write: (id, version) => update(servers, id, version),
    }),
  },
  {
    id: 'del',
    name: 'UPDATE, then DEL, no retry',
    bound: 'TTL, 60 s',
    open: (servers) => ({
      read: (id) => readAside(servers, id, LONG_TTL_MS),
      async write(id, version) {
        await update(servers, id, version);
        await servers.redis.del(key(id)).catch(() => {});
      },
    }),
  },
  {
    id: 'cache-aside',
    name: '2.1 cache-aside',
    bound: 'TTL, 10 min',
    open(servers) {
      const products = createProducts(servers);
      return {
        read: async (id) => Number((await products.find(id))?.name),
        async write(id, version) {
          await products.update(id, { name: String(version), price: '1.00', stock: 1 });
        },
        close() {},
      };
    },
  },
  {
    id: 'read-through',
    name: '2.2 read-through',
    bound: 'TTL, 60 s',
    open(servers) {
      const cache = createReadThrough({
        redis: servers.redis,
        name: 'product',
        load: ({ id }: { readonly id: number }) => select(servers, id),
        ttlMs: LONG_TTL_MS,
        loadDeadlineMs: LOAD_DEADLINE_MS,
        cacheDeadlineMs: CACHE_DEADLINE_MS,
      });
      return {
        read: (id) => cache.get({ id }),
        async write(id, version) {
          await update(servers, id, version);
          await cache.invalidate({ id }).catch(() => {});
        },
      };
    },
  },
  {
    id: 'write-through',
    name: '2.3 write-through',
    bound: 'TTL, 60 s',
    open(servers) {
      const users = createUsers(servers);
      return {
        read: async (id) => Number((await users.find(id))?.name),
        async write(id, version) {
          await users.update(id, { name: String(version) });
        },
      };
    },
  },
  {
    id: 'swr',
    name: '2.6 stale-while-revalidate',
    bound: `hard TTL, ${TTL_MS} ms`,
    open(servers) {
      const cache = createSwr({
        redis: servers.redis,
        softTtlMs: TTL_MS / 2,
        hardTtlMs: TTL_MS,
        load: (id) => select(servers, Number(id)),
        loadDeadlineMs: LOAD_DEADLINE_MS,
        cacheDeadlineMs: CACHE_DEADLINE_MS,
      });
      return {
        read: async (id) => Number(await cache.get(String(id))),
        write: (id, version) => update(servers, id, version),
        close: () => cache.onIdle(),
      };
    },
  },
  {
    id: 'outbox',
    name: '3.2 events: outbox and relay',
    bound: 'the relay, some ms; after a stale fill the TTL, 10 min',
    open({ redis, db }) {
      const catalogue = createCatalogue({ redis, db });
      const relay = runRelay({ redis, db });
      return {
        read: async (id) => Number((await catalogue.product(id))?.price),
        async write(id, version) {
          await catalogue.update(id, { price: `${version}.00` });
        },
        close: () => relay.stop(),
      };
    },
  },
  {
    id: 'generations',
    name: '3.3 generations',
    bound: 'the bump; when Redis does not confirm it the TTL, 60 s',
    staleShare: { atMost: 0 },
    open(servers) {
      const cache = createTaggedCache({
        redis: servers.redis,
        name: 'product',
        ttlMs: LONG_TTL_MS,
        generationTtlMs: 2 * LONG_TTL_MS,
        loadDeadlineMs: LOAD_DEADLINE_MS,
      });
      return {
        read: (id) => cache.get({ id }, [String(id)], () => select(servers, id)),
        async write(id, version) {
          await update(servers, id, version);
          await cache.bump([String(id)]).catch(() => {});
        },
      };
    },
  },
  {
    id: 'lock',
    name: '3.4 stampede lock',
    bound: `TTL, ${TTL_MS} ms, plus the load`,
    open(servers) {
      const cache = createLockedCache(servers);
      const times = { freshMs: TTL_MS, staleMs: 0, lockMs: LOCK_MS, waitMs: 3 * LOCK_MS };
      return {
        read: (id) => cache.getOrLoad(String(id), () => select(servers, id), times),
        write: (id, version) => update(servers, id, version),
      };
    },
  },
  {
    id: 'early',
    name: '3.5 early expiration',
    bound: `TTL, ${TTL_MS} ms, plus the load`,
    open(servers) {
      const cache = createEarlyCache({
        redis: servers.redis,
        ttlMs: TTL_MS,
        loadDeadlineMs: LOAD_DEADLINE_MS,
      });
      return {
        read: (id) => cache.get(String(id), () => select(servers, id)),
        write: (id, version) => update(servers, id, version),
        close: () => {},
      };
    },
  },
  {
    id: 'leases',
    name: '3.6 leases',
    bound: 'the invalidation; when Redis does not confirm it the TTL, 60 s',
    staleShare: { atMost: 0 },
    open(servers) {
      const cache = createLeaseCache(servers);
      return {
        read: (id) => cache.getOrLoad(String(id), () => select(servers, id), LEASE_TIMES),
        async write(id, version) {
          await update(servers, id, version);
          await cache.invalidate(String(id)).catch(() => {});
        },
      };
    },
  },
  {
    id: 'leases-outbox',
    name: '3.6 leases, invalidated by the outbox of 3.2 as well',
    bound: 'the invalidation; when Redis does not confirm it the relay, once Redis is back',
    staleShare: { atMost: 0 },
    open(servers) {
      const cache = createLeaseCache(servers);
      const relay = runRelay(servers);
      return {
        read: (id) => cache.getOrLoad(String(id), () => select(servers, id), LEASE_TIMES),
        async write(id, version) {
          await updateWithEvents(servers, id, version);
          await cache.invalidate(String(id)).catch(() => {});
        },
        close: () => relay.stop(),
      };
    },
  },
  {
    id: 'versions',
    name: '3.7 versions and fences',
    bound: 'the fence; when Redis does not confirm it the TTL, 60 s',
    staleShare: { atMost: 0 },
    open({ redis, db }) {
      const cache = createVersionedCache<Article | null>({ redis, ttlMs: LONG_TTL_MS, fenceMs: FENCE_MS });
      const articles = createArticles({ primary: db, cache });
      return {
        read: async (id) => Number((await articles.find(id))?.version),
        // Its rows count their versions themselves.
        async write(id, version) {
          await articles.update(id, String(version)).catch(() => {});
        },
      };
    },
  },
];

/** The row and its events, both or neither. The lease comes first: between the two DELs no old fill can be stored. */
async function updateWithEvents({ db }: Servers, id: number, version: number): Promise<void> {
  const connection = await db.getConnection();
  try {
    await connection.beginTransaction();
    await connection.execute('UPDATE products SET name = ?, version = version + 1 WHERE id = ?', [
      String(version),
      id,
    ]);
    await connection.query('INSERT INTO outbox (cache_key) VALUES ?', [
      [[leaseKey(String(id))], [valueKey(String(id))]],
    ]);
    await connection.commit();
  } finally {
    connection.release();
  }
}

function runRelay(servers: Servers): { stop(): Promise<void> } {
  const stopping = new AbortController();
  const running = createRelay({ ...servers, pauseMs: 5 }).run(stopping.signal);
  return {
    stop() {
      stopping.abort();
      return running;
    },
  };
}
