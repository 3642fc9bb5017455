import type { Cluster } from 'ioredis';
import { DeadlineError, withDeadline } from '#kit/given';
import {
  type Answer,
  crc16,
  type Master,
  mastersOf,
  PARTS,
  type Part,
  PREFIX,
  type Skew,
  SLOTS,
} from './given';

// #region keys
/** The slot of a key, as Redis Cluster computes it. */
export function slotOf(key: string): number {
  // The text between the first { and the first } after it, unless there is none.
  const tag = /^[^{]*\{([^}]+)\}/s.exec(key)?.[1] ?? key;
  return crc16(Buffer.from(tag)) % SLOTS;
}

/**
 * The key of a part of a page; it begins with PREFIX. All parts of a product share a slot. Products are spread over all
 * slots. In production: an id may be any text.
 */
export function partKey(id: string, part: Part): string {
  // The brace of an id would end the tag, and an empty tag counts as none.
  return `${PREFIX}{id:${encodeURIComponent(id)}}:${part}`;
}
// #endregion

export interface PageCache {
  /** One answer for each key, in the order of the keys. */
  read(keys: readonly string[]): Promise<Answer[]>;
  /**
   * Deletes all parts of a product in one step.
   * @throws unless Redis confirms it
   */
  invalidate(id: string): Promise<void>;
  /**
   * Deletes the keys that begin with PREFIX, on every master, and no other key. No command blocks a master.
   * @throws unless every master confirms it
   */
  purge(): Promise<void>;
}

export interface Options {
  readonly client: Cluster;
  /** In production: how long a call may take; for a purge, each of its steps (ms). */
  readonly deadlineMs?: number;
}

export function createPageCache({ client, deadlineMs = 250 }: Options): PageCache {
  const endOfCall = () => performance.now() + deadlineMs;
  const inTime = <T>(answer: Promise<T>, end = endOfCall()) =>
    withDeadline(answer, Math.max(0, end - performance.now()));

  // #region read
  async function read(keys: readonly string[]): Promise<Answer[]> {
    const end = endOfCall();
    const answers = new Map<string, Answer>();
    await Promise.all(
      bySlot(keys).map(async (group) => {
        for (const [at, answer] of (await readSlot(group, end)).entries()) {
          answers.set(group[at] ?? '', answer);
        }
      }),
    );
    return keys.map((key) => answers.get(key) ?? { kind: 'unknown' });
  }

  async function readSlot(keys: readonly string[], end: number): Promise<Answer[]> {
    try {
      return (await inTime(client.mgetBuffer([...keys]), end)).map(answerFor);
    } catch (error) {
      if (error instanceof DeadlineError) return keys.map(() => ({ kind: 'unknown' }));
    }
    // Between two masters, only a command of one key is sure to be answered: by the one that has it, or by the new one.
    return Promise.all(
      keys.map((key) =>
        inTime(client.getBuffer(key), end).then(answerFor, (): Answer => ({ kind: 'unknown' })),
      ),
    );
  }
  // #endregion

  // #region delete
  async function invalidate(id: string): Promise<void> {
    const end = endOfCall();
    const keys = PARTS.map((part) => partKey(id, part));
    try {
      await inTime(client.unlink(keys), end);
    } catch (error) {
      if (error instanceof DeadlineError) throw error;
      // Not in one step any more, while the slot moves; but all of them, and confirmed.
      await Promise.all(keys.map((key) => inTime(client.unlink(key), end)));
    }
  }

  async function purge(): Promise<void> {
    const masters = await mastersOf(client, deadlineMs);
    const ends = await Promise.allSettled(masters.map(purgeMaster));
    const errors = ends.flatMap((end) => (end.status === 'rejected' ? [end.reason] : []));
    if (errors.length > 0) {
      throw new AggregateError(
        errors,
        `${errors.length} of ${masters.length} masters did not confirm the purge`,
      );
    }
  }

  async function purgeMaster({ address, node }: Master): Promise<void> {
    if (!node) throw new Error(`${address} does not answer`);
    let cursor = '0';
    do {
      const [next, keys] = await inTime(node.scan(cursor, 'MATCH', `${PREFIX}*`, 'COUNT', 500));
      // By the client and one by one: it follows a key to another master.
      await inTime(Promise.all(keys.map((key) => client.unlink(key))));
      cursor = next;
    } while (cursor !== '0');
  }
  // #endregion

  return { read, invalidate, purge };
}

/** Each key once. */
function bySlot(keys: readonly string[]): string[][] {
  const groups = new Map<number, string[]>();
  for (const key of new Set(keys)) {
    const slot = slotOf(key);
    const group = groups.get(slot);
    if (group) group.push(key);
    else groups.set(slot, [key]);
  }
  return [...groups.values()];
}

const answerFor = (bytes: Buffer | null): Answer => (bytes ? { kind: 'hit', bytes } : { kind: 'miss' });

// #region skew
/** In production: how unevenly the masters are filled. A master that does not answer costs deadlineMs. */
export async function skewOf(client: Cluster, deadlineMs = 250): Promise<Skew> {
  const masters = await Promise.all(
    (await mastersOf(client, deadlineMs)).map(async ({ address, node }) => {
      const asked = node && withDeadline(node.dbsize(), deadlineMs).catch(() => undefined);
      return { address, keys: await asked };
    }),
  );
  const counts = masters.flatMap(({ keys }) => keys ?? []);
  const mean = counts.reduce((sum, keys) => sum + keys, 0) / counts.length;
  return { masters, ratio: mean > 0 ? Math.max(...counts) / mean : 1 };
}
// #endregion
