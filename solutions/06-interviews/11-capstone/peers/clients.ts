import { Redis } from 'ioredis';

export type Load = () => Promise<unknown>;

/** What the packages have in common. */
export interface Contender {
  get(key: string, load: Load): Promise<unknown>;
  /** Called after the commit. */
  remove(key: string): Promise<unknown>;
  /** Reads whose values have a tag; undefined where the package has none for values that it loads. */
  readonly tagged?: { get(key: string, load: Load): Promise<unknown>; remove(tag: string): Promise<unknown> };
  close(): unknown;
}

export interface Setup {
  readonly url: string;
  /** Of the connection that carries messages to other processes, where there is one. */
  readonly busUrl?: string;
  readonly ttlMs?: number;
  /** With the package's own L1 before Redis, and its bus if it has one. */
  readonly twoTiers?: boolean;
  readonly tags?: boolean;
  /** What a command may wait for Redis, where there is an option for it. */
  readonly deadlineMs?: number;
}

/** Of all values that are read by tag. */
export const TAG = 'tag';
export const TTL_MS = 600_000;
/** For those that serve old values while they refresh: how old at most. */
export const STALE_MS = 10_000;
/** Where no fault is measured: a busy machine must not look like an outage. */
export const DEADLINE_MS = 1_000;

export function ioredis({ url, deadlineMs = DEADLINE_MS }: Setup): Redis {
  const redis = new Redis(url, {
    commandTimeout: deadlineMs,
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    retryStrategy: () => 20,
  });
  redis.on('error', () => {});
  return redis;
}

/** node-redis under @keyv/redis, with the documented options that bound a command. */
export async function keyvStore({ url, ttlMs = TTL_MS, deadlineMs = DEADLINE_MS }: Setup) {
  const [{ default: KeyvRedis }, { default: Keyv }] = await Promise.all([
    import('@keyv/redis'),
    import('keyv'),
  ]);
  const store = new KeyvRedis({
    url,
    disableOfflineQueue: true,
    commandOptions: { timeout: deadlineMs },
    socket: { connectTimeout: 1000, socketTimeout: 2 * deadlineMs, reconnectStrategy: 20 },
  });
  store.on('error', () => {});
  const keyv = new Keyv({ store, ttl: ttlMs });
  keyv.on('error', () => {});
  return { Keyv, keyv, close: () => store.disconnect(true) };
}
