import type { Redis, RedisOptions } from 'ioredis';
import { withDeadline } from '#kit/given';
import { INVALIDATIONS, Lru } from '../given';

interface Options {
  readonly redis: Redis;
  readonly connect: (options: RedisOptions) => Redis;
  readonly prefix: string;
  readonly maxKeys: number;
  readonly maxSilenceMs?: number;
  readonly now?: () => number;
  readonly onError?: (error: unknown) => void;
}

interface Read {
  readonly text: Promise<string | null>;
  readonly until: () => number;
}

/**
 * A connection is never tracked twice: a lost one is replaced by a new one with a new, empty L1. L1 keeps reads, the
 * ones under way too, so that callers share them. A message drops both.
 */
export function createTwoTier({
  redis,
  connect,
  prefix,
  maxKeys,
  maxSilenceMs = 1_000,
  now = () => performance.now(),
  onError = () => {},
}: Options) {
  let closed = false;
  let current: ReturnType<typeof openChannel> | undefined;
  let retry: NodeJS.Timeout | undefined;
  replace();

  function replace(): void {
    current = undefined;
    if (closed) return;
    const channel = openChannel();
    channel.lost.then(() => {
      if (closed) return;
      if (current === channel) current = undefined;
      retry = setTimeout(replace, Math.min(50, maxSilenceMs)).unref();
    });
    current = channel;
  }

  function openChannel() {
    const reads = new Lru<Read>(maxKeys);
    const connection = connect({ protocol: 2, retryStrategy: () => null, maxRetriesPerRequest: 0 });
    let heardAt = Number.NEGATIVE_INFINITY;
    connection.on('error', onError);
    connection.on('messageBuffer', (_channel: Buffer, keys: unknown) => {
      if (Array.isArray(keys)) for (const key of keys) reads.delete(String(key));
      else reads.clear();
    });
    const lost = new Promise<void>((resolve) => {
      connection.once('close', () => {
        heardAt = Number.NEGATIVE_INFINITY;
        resolve();
      });
    });

    async function run(): Promise<void> {
      const openedAt = now();
      const id = await connection.client('ID');
      await connection.client('TRACKING', 'ON', 'REDIRECT', id, 'BCAST', 'PREFIX', prefix);
      await connection.subscribe(INVALIDATIONS);
      heardAt = openedAt;
      while (!closed) {
        await new Promise((resolve) => setTimeout(resolve, maxSilenceMs / 3).unref());
        const askedAt = now();
        await withDeadline(connection.ping(), maxSilenceMs);
        heardAt = askedAt;
      }
    }
    run().catch((error: unknown) => {
      onError(error);
      connection.stream?.destroy();
    });

    return { reads, lost, connection, isLive: () => now() - heardAt <= maxSilenceMs };
  }

  function read(key: string): Read {
    const askedAt = now();
    let until = Number.POSITIVE_INFINITY;
    const both = Promise.all([redis.get(key), redis.pttl(key)]);
    const entry: Read = {
      text: both.then(([text, ttlMs]) => {
        if (ttlMs !== -1 && text !== null) until = askedAt + Math.max(ttlMs, 0);
        return text;
      }),
      until: () => until,
    };
    return entry;
  }

  return {
    async get(key: string): Promise<string | null> {
      const channel = current;
      if (!channel?.isLive() || !key.startsWith(prefix)) return redis.get(key);
      const known = channel.reads.get(key);
      if (known && now() < known.until()) return known.text;
      const entry = read(key);
      channel.reads.set(key, entry);
      entry.text.catch(() => {
        if (channel.reads.get(key) === entry) channel.reads.delete(key);
      });
      return entry.text;
    },

    close(): void {
      closed = true;
      clearTimeout(retry);
      current?.connection.disconnect();
      current = undefined;
    },
  };
}
