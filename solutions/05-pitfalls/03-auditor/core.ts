import type { Redis } from 'ioredis';
import {
  type Clock,
  decode,
  FIELDS,
  idOf,
  KEY_PATTERN,
  mostExpected,
  type ReadUsers,
  type User,
} from './given';

interface Options {
  readonly redis: Redis;
  readonly primary: ReadUsers;
  readonly graceMs: number;
  readonly clock: Clock;
  readonly onStale: (finding: {
    key: string;
    entryVersion: number | null;
    rowVersion: number | null;
  }) => void;
}

/** Looks at the first keys of a SCAN, one after the other, and waits for each that differs. */
// #region core
export function createAuditor({ redis, primary, graceMs, clock, onStale }: Options) {
  async function lookAt(key: string, id: number) {
    const bytes = await redis.getBuffer(key);
    if (bytes === null) return undefined;
    const entry = decode(bytes);
    const row = (await primary([id])).get(id) ?? null;
    return { entry, row, isSame: isSame(entry, row) };
  }

  async function isStale(key: string, id: number): Promise<boolean> {
    const first = await lookAt(key, id);
    if (!first || first.isSame) return false;
    await clock.sleep(graceMs);
    const second = await lookAt(key, id);
    if (!second || second.isSame) return false;
    onStale({
      key,
      entryVersion: second.entry?.version ?? null,
      rowVersion: second.row?.version ?? null,
    });
    return true;
  }

  return {
    async audit(samples: number) {
      let [taken, stale, cursor] = [0, 0, '0'];
      do {
        const [next, keys] = await redis.scan(cursor, 'MATCH', KEY_PATTERN);
        cursor = next;
        for (const key of keys) {
          const id = idOf(key);
          if (id === null || taken === samples) continue;
          taken++;
          if (await isStale(key, id)) stale++;
        }
      } while (cursor !== '0' && taken < samples);
      return {
        samples: taken,
        stale,
        rate: taken > 0 ? stale / taken : null,
        atMost: taken > 0 ? Math.min(1, mostExpected(stale) / taken) : 1,
      };
    },
  };
}

function isSame(entry: User | null, row: User | null): boolean {
  if (entry === null || row === null) return entry === row;
  return FIELDS.every((field) => entry[field].valueOf() === row[field].valueOf());
}
// #endregion
