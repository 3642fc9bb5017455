import type { Cluster } from 'ioredis';
import { withDeadline } from '#kit/given';
import { type Answer, crc16, mastersOf, PARTS, type Part, PREFIX, type Skew, SLOTS } from '../given';

export function slotOf(key: string): number {
  const [, rest] = key.split(/\{(.*)/s);
  const tag = rest?.includes('}') ? rest.slice(0, rest.indexOf('}')) : '';
  return crc16(Buffer.from(tag || key)) % SLOTS;
}

export const partKey = (id: string, part: Part): string =>
  `${PREFIX}{#${id.replace(/[{}\\]/g, (c) => `\\${c.charCodeAt(0)}`)}}:${part}`;

interface Options {
  readonly client: Cluster;
  readonly deadlineMs?: number;
}

const DELETE = `for _, key in ipairs(KEYS) do redis.call('UNLINK', key) end`;

/** A pipeline for each slot. What it does not find is asked for again, alone. Deletes by one script. */
export function createPageCache({ client, deadlineMs = 250 }: Options) {
  const within = <T>(promise: Promise<T>) => withDeadline(promise, deadlineMs);

  async function read(keys: readonly string[]): Promise<Answer[]> {
    const groups: Record<number, string[]> = {};
    for (const key of keys) {
      const slot = slotOf(key);
      groups[slot] = [...(groups[slot] ?? []), key];
    }
    const answers = new Map<string, Answer>();
    const readGroup = async (group: readonly string[]) => {
      const pipeline = client.pipeline();
      for (const key of group) pipeline.getBuffer(key);
      const replies = (await pipeline.exec()) ?? [];
      const ask = async (key: string, at: number) => {
        const first = replies[at]?.[1];
        const bytes = Buffer.isBuffer(first) ? first : await client.getBuffer(key);
        answers.set(key, bytes ? { kind: 'hit', bytes } : { kind: 'miss' });
      };
      await Promise.allSettled(group.map(ask));
    };
    await Promise.allSettled(Object.values(groups).map((group) => within(readGroup(group))));
    return keys.map((key) => answers.get(key) ?? { kind: 'unknown' });
  }

  async function invalidate(id: string): Promise<void> {
    const keys = PARTS.map((part) => partKey(id, part));
    const deleting = client.eval(DELETE, keys.length, ...keys).catch(async (error: unknown) => {
      if (!/TRYAGAIN|ASK|MOVED/.test(String(error))) throw error;
      for (const key of keys) await client.unlink(key);
    });
    await within(deleting);
  }

  async function purge(): Promise<void> {
    const masters = await mastersOf(client, deadlineMs);
    const lost: unknown[] = [];
    const purgeMaster = async ({ node, address }: (typeof masters)[number]) => {
      if (!node) throw new Error(address);
      for (let cursor: string | undefined; cursor !== '0'; ) {
        const page = await within(node.scan(cursor ?? '0', 'MATCH', `${PREFIX}*`));
        cursor = page[0];
        await within(Promise.all(page[1].map((key) => client.unlink(key))));
      }
    };
    await Promise.all(masters.map((master) => purgeMaster(master).catch((error) => lost.push(error))));
    if (lost.length > 0) throw new AggregateError(lost, 'the purge is not complete');
  }

  return { read, invalidate, purge };
}

export async function skewOf(client: Cluster, deadlineMs = 250): Promise<Skew> {
  const masters: { address: string; keys: number | undefined }[] = [];
  for (const { address, node } of await mastersOf(client, deadlineMs)) {
    const info = await node?.info('keyspace');
    masters.push({
      address,
      keys: info === undefined ? undefined : Number(/keys=(\d+)/.exec(info)?.[1] ?? 0),
    });
  }
  const keys = masters.flatMap((master) => master.keys ?? []);
  const total = keys.reduce((sum, count) => sum + count, 0);
  return { masters, ratio: (Math.max(...keys) / total) * keys.length || 1 };
}
