import type { Redis, RedisOptions } from 'ioredis';
import { INVALIDATIONS, Lru } from './given';

interface Options {
  readonly redis: Redis;
  readonly connect: (options: RedisOptions) => Redis;
  readonly prefix: string;
  readonly maxKeys: number;
}

// #region core
export function createTwoTier({ redis, connect, prefix, maxKeys }: Options) {
  const kept = new Lru<{ text: string | null }>(maxKeys);
  let tracked = false;

  const channel = connect({ protocol: 2 });
  channel.on('message', (_channel, keys) => {
    for (const key of keys.split(',')) kept.delete(key);
  });
  track().catch(() => {});

  async function track(): Promise<void> {
    const id = await channel.client('ID');
    await channel.client('TRACKING', 'ON', 'REDIRECT', id, 'BCAST', 'PREFIX', prefix);
    await channel.subscribe(INVALIDATIONS);
    tracked = true;
  }

  return {
    async get(key: string): Promise<string | null> {
      const known = kept.get(key);
      if (known) return known.text;
      const text = await redis.get(key);
      if (tracked && key.startsWith(prefix)) kept.set(key, { text });
      return text;
    },

    close(): void {
      tracked = false;
      kept.clear();
      channel.disconnect();
    },
  };
}
// #endregion
