import type { Cluster } from 'ioredis';
import { baseKey, type Counted, copyKey, type SlotMap, slotMapOf, slotOf, TTL_MS } from './given';

/** The version for an interview. Its hot keys stay hot, and its copies live as long as the base key. */
// #region core
export function createDetector({ counters, hotReads }: { counters: number; hotReads: number }) {
  const counts = new Map<string, { count: number; error: number }>();
  return {
    record(key: string): void {
      const own = counts.get(key);
      if (own) own.count++;
      else if (counts.size < counters) counts.set(key, { count: 1, error: 0 });
      else {
        let [rarest, least] = ['', Number.POSITIVE_INFINITY];
        for (const [other, { count }] of counts) if (count < least) [rarest, least] = [other, count];
        counts.delete(rarest);
        counts.set(key, { count: least + 1, error: least });
      }
    },
    top: (n: number): Counted[] =>
      [...counts]
        .map(([key, counted]) => ({ key, ...counted }))
        .sort((a, b) => b.count - a.count)
        .slice(0, n),
    isHot: (key: string): boolean => (counts.get(key)?.count ?? 0) >= hotReads,
  };
}

export function copyKeys(key: string, { masters, ownerOf }: SlotMap): string[] {
  const copies = new Map<string | undefined, string>();
  for (let n = 0; copies.size < masters.length; n++) {
    const copy = copyKey(key, n);
    const owner = ownerOf(slotOf(copy));
    if (!copies.has(owner)) copies.set(owner, copy);
  }
  return [...copies.values()];
}

interface Options {
  readonly client: Cluster;
  readonly detector: { record(key: string): void; isHot(key: string): boolean };
}

export function createHotCache({ client, detector }: Options) {
  const copiesOf = async (key: string) => (detector.isHot(key) ? copyKeys(key, await slotMapOf(client)) : []);
  return {
    async get(key: string, load: () => Promise<Buffer>): Promise<Buffer> {
      detector.record(key);
      const copies = await copiesOf(key);
      const copy = copies[Math.floor(Math.random() * copies.length)];
      const copied = copy && (await client.getBuffer(copy));
      if (copied) return copied;
      const found = await client.getBuffer(baseKey(key));
      const value = found ?? (await load());
      if (!found) await client.set(baseKey(key), value, 'PX', TTL_MS);
      if (copy) await client.set(copy, value, 'PX', TTL_MS);
      return value;
    },

    async invalidate(key: string): Promise<void> {
      await Promise.all([baseKey(key), ...(await copiesOf(key))].map((redisKey) => client.del(redisKey)));
    },
  };
}
// #endregion
