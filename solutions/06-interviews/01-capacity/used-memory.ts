import { Redis } from 'ioredis';
import type { Entries } from './given';

export const usedMemory = async (redis: Redis): Promise<number> =>
  Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);

/** Bytes for each entry, in a Redis of its own: by the difference of used_memory, and by MEMORY USAGE. */
export async function measured(url: string, shape: Entries): Promise<{ used: number; usage: number }> {
  return withWatcher(url, shape.entries, async (filler) => {
    const value = 'v'.repeat(shape.valueBytes);
    for (let from = 0; from < shape.entries; from += 1000) {
      const pipeline = filler.pipeline();
      for (let nth = from; nth < Math.min(from + 1000, shape.entries); nth++) {
        const key = keyOf(nth, shape.keyBytes);
        if (shape.ttl) pipeline.set(key, value, 'PX', 3_600_000);
        else pipeline.set(key, value);
      }
      await pipeline.exec();
    }
    return Number(await filler.memory('USAGE', keyOf(0, shape.keyBytes)));
  });
}

/** The same for each member of one sorted set. */
export async function measuredMembers(url: string, entries: number, keyBytes: number): Promise<number> {
  const { used } = await withWatcher(url, entries, async (filler) => {
    for (let from = 0; from < entries; from += 1000) {
      const members = Array.from({ length: 1000 }, (_, nth) => [nth, keyOf(from + nth, keyBytes)]);
      await filler.zadd('board', ...members.flat());
    }
    return 0;
  });
  return used;
}

const keyOf = (nth: number, bytes: number): string => String(nth).padStart(bytes, 'k');

async function withWatcher(url: string, entries: number, fill: (filler: Redis) => Promise<number>) {
  const watcher = new Redis(url);
  try {
    await watcher.flushall('SYNC');
    const before = await usedMemory(watcher);
    const filler = new Redis(url);
    const usage = await fill(filler);
    // Its buffers are memory too, until it has left.
    await filler.quit();
    while (
      String(await watcher.client('LIST'))
        .trim()
        .includes('\n')
    ) {}
    return { used: ((await usedMemory(watcher)) - before) / entries, usage };
  } finally {
    watcher.disconnect();
  }
}
