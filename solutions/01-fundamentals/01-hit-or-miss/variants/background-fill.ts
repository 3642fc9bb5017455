import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  ABSENT_TTL_MS,
  decode,
  encode,
  InvalidIdError,
  type Outcome,
  type Percentiles,
  PROFILE_TTL_MS,
  type Profile,
  type ProfileRow,
  profileKey,
  type Stats,
  WINDOW,
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  readonly now?: () => number;
}

/** A latency, and the number of its lookup. */
interface Timed {
  readonly ms: number;
  readonly number: number;
}

/**
 * The caller does not wait for the SET, and a Redis that fails sends the lookup to MySQL. Each failure of Redis is counted
 * as an error beside the outcome of the lookup.
 */
export function createProfileCache({ redis, db, now = () => performance.now() }: Options) {
  const counts = { hit: 0, negative: 0, miss: 0, error: 0 };
  const kept: Record<Outcome, Timed[]> = { hit: [], negative: [], miss: [], error: [] };
  let [lookups, loads, loadedMs, spentMs, damaged] = [0, 0, 0, 0, 0];

  async function get(id: number): Promise<Profile | null> {
    if (!(Number.isSafeInteger(id) && id > 0)) throw new InvalidIdError(id);
    const start = now();
    const cached = await fromRedis(id);
    if (cached !== undefined) return finish(cached ? 'hit' : 'negative', start, cached);
    const asked = now();
    try {
      const [rows] = await db.query<ProfileRow[]>('SELECT id, email, name, locale FROM users WHERE id = ?', [
        id,
      ]);
      const profile = rows[0] ?? null;
      loads++;
      loadedMs += now() - asked;
      const ttlMs = profile ? PROFILE_TTL_MS : ABSENT_TTL_MS;
      void redis.psetex(profileKey(id), ttlMs, encode(profile)).catch(countError);
      return finish('miss', start, profile);
    } catch (error) {
      finish('error', start, null);
      throw error;
    }
  }

  async function fromRedis(id: number): Promise<Profile | null | undefined> {
    const text = await redis.get(profileKey(id)).catch(countError);
    if (typeof text !== 'string') return undefined;
    try {
      return decode(text);
    } catch {
      damaged++;
      return undefined;
    }
  }

  function countError(): void {
    counts.error++;
  }

  function finish(outcome: Outcome, start: number, profile: Profile | null): Profile | null {
    const ms = now() - start;
    counts[outcome]++;
    if (outcome !== 'error') spentMs += ms;
    kept[outcome] = [...kept[outcome].slice(1 - WINDOW), { ms, number: lookups++ }];
    return profile;
  }

  function percentiles(latencies: readonly Timed[]): Percentiles {
    const sorted = latencies.map(({ ms }) => ms).sort((one, other) => one - other);
    const nearest = (share: number) => sorted[Math.ceil(share * sorted.length) - 1];
    return { p50Ms: nearest(0.5), p99Ms: nearest(0.99) };
  }

  function stats(): Stats {
    // The last lookups of all are among the last ones of each outcome.
    const all = Object.values(kept)
      .flat()
      .sort((one, other) => one.number - other.number)
      .slice(-WINDOW);
    const answered = counts.hit + counts.negative + counts.miss;
    return {
      ...counts,
      latencies: {
        hit: percentiles(kept.hit),
        negative: percentiles(kept.negative),
        miss: percentiles(kept.miss),
        error: percentiles(kept.error),
        all: percentiles(all),
      },
      savedMs: loads === 0 ? 0 : answered * (loadedMs / loads) - spentMs,
      damaged,
    };
  }

  return { get, stats };
}
