import type { Cluster } from 'ioredis';
import { withDeadline } from '#kit/given';
import { type Answer, crc16, mastersOf, PARTS, type Part, PREFIX, type Skew, SLOTS } from '../given';

export function slotOf(key: string): number {
  const open = key.indexOf('{');
  const close = key.indexOf('}', open + 1);
  const tag = open >= 0 && close > open + 1 ? key.slice(open + 1, close) : key;
  return crc16(new TextEncoder().encode(tag)) & (SLOTS - 1);
}

export const partKey = (id: string, part: Part): string =>
  `${PREFIX}${part}{p${Buffer.from(id).toString('base64url')}}`;

interface Options {
  readonly client: Cluster;
  readonly deadlineMs?: number;
}

/**
 * One GET a key: ioredis sends them all before the first answer comes, and follows MOVED and ASK for each. It costs more
 * commands than MGET, and needs no second way for a slot that moves.
 */
class PageCache {
  readonly #client: Cluster;
  readonly #deadlineMs: number;

  constructor({ client, deadlineMs = 250 }: Options) {
    this.#client = client;
    this.#deadlineMs = deadlineMs;
  }

  read(keys: readonly string[]): Promise<Answer[]> {
    return Promise.all(keys.map((key) => this.#answerFor(key)));
  }

  /** A transaction is refused as a whole while its slot moves. */
  async invalidate(id: string): Promise<void> {
    const keys = PARTS.map((part) => partKey(id, part));
    const together = this.#client.multi();
    for (const key of keys) together.del(key);
    const deleting = together.exec().catch(() => Promise.all(keys.map((key) => this.#client.del(key))));
    await this.#inTime(deleting);
  }

  async purge(): Promise<void> {
    const failed: string[] = [];
    for (const { address } of await mastersOf(this.#client, this.#deadlineMs)) {
      await this.#purgeMaster(address).catch(() => failed.push(address));
    }
    if (failed.length > 0) throw new Error(`not purged: ${failed.join(', ')}`);
  }

  async #purgeMaster(address: string): Promise<void> {
    const masters = await mastersOf(this.#client, this.#deadlineMs);
    const node = masters.find((master) => master.address === address)?.node;
    if (!node) throw new Error(`${address} does not answer`);
    const stream = node.scanStream({ match: `${PREFIX}*`, count: 200 });
    for await (const keys of stream) {
      await this.#inTime(Promise.all(keys.map((key: string) => this.#client.del(key))));
    }
  }

  async #answerFor(key: string): Promise<Answer> {
    try {
      const bytes = await this.#inTime(this.#client.getBuffer(key));
      return bytes === null ? { kind: 'miss' } : { kind: 'hit', bytes };
    } catch {
      return { kind: 'unknown' };
    }
  }

  #inTime<T>(promise: Promise<T>): Promise<T> {
    return withDeadline(promise, this.#deadlineMs);
  }
}

export const createPageCache = (options: Options): PageCache => new PageCache(options);

export async function skewOf(client: Cluster, deadlineMs = 250): Promise<Skew> {
  const masters = await mastersOf(client, deadlineMs);
  const keys = await Promise.allSettled(
    masters.map(async ({ node }) => (node ? withDeadline(node.dbsize(), deadlineMs) : undefined)),
  );
  const counted = keys.map((count) => (count.status === 'fulfilled' ? count.value : undefined));
  const known = counted.filter((count) => count !== undefined);
  const total = known.reduce((sum, count) => sum + count, 0);
  return {
    masters: masters.map(({ address }, at) => ({ address, keys: counted[at] })),
    ratio: total === 0 ? 1 : (known.length * Math.max(...known)) / total,
  };
}
