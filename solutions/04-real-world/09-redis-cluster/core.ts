import type { Cluster } from 'ioredis';
import { type Answer, crc16, PARTS, type Part, PREFIX, type Skew, SLOTS } from './given';

/** The version for an interview. A slot that moves, or a master that is lost, fails the whole call. */
// #region core
export function slotOf(key: string): number {
  const tag = /^[^{]*\{([^}]+)\}/s.exec(key)?.[1] ?? key;
  return crc16(Buffer.from(tag)) % SLOTS;
}

export const partKey = (id: string, part: Part): string => `${PREFIX}{${id}}:${part}`;

export function createPageCache({ client }: { client: Cluster }) {
  return {
    async read(keys: readonly string[]): Promise<Answer[]> {
      const slots = new Map<number, string[]>();
      for (const key of keys) slots.set(slotOf(key), [...(slots.get(slotOf(key)) ?? []), key]);
      const found = new Map<string, Buffer>();
      await Promise.all(
        [...slots.values()].map(async (group) => {
          const values = await client.mgetBuffer(group);
          for (const [at, key] of group.entries()) {
            const bytes = values[at];
            if (bytes) found.set(key, bytes);
          }
        }),
      );
      return keys.map((key) => {
        const bytes = found.get(key);
        return bytes ? { kind: 'hit', bytes } : { kind: 'miss' };
      });
    },

    async invalidate(id: string): Promise<void> {
      await client.del(PARTS.map((part) => partKey(id, part)));
    },

    async purge(): Promise<void> {
      await Promise.all(
        client.nodes('master').map(async (node) => {
          for await (const keys of node.scanStream({ match: `${PREFIX}*`, count: 500 })) {
            await Promise.all(keys.map((key: string) => node.del(key)));
          }
        }),
      );
    },
  };
}
// #endregion

export async function skewOf(client: Cluster): Promise<Skew> {
  const masters = await Promise.all(
    client.nodes('master').map(async (node) => ({
      address: `${node.options.host}:${node.options.port}`,
      keys: await node.dbsize(),
    })),
  );
  const counts = masters.map(({ keys }) => keys);
  return { masters, ratio: (Math.max(...counts) * counts.length) / counts.reduce((sum, n) => sum + n) };
}
