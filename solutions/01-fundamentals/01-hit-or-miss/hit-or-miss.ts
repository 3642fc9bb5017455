import { inspect } from 'node:util';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';

/** How long a profile is served from Redis (ms). */
export const PROFILE_TTL_MS = 10 * 60_000;

/** How long "there is no such user" is served from Redis (ms): short, because a sign-up ends it. */
export const ABSENT_TTL_MS = 30_000;

/** Percentiles are taken over this many of the latest latencies: what bounds the memory of the statistics. */
export const WINDOW = 1000;

/** The Redis key of a profile, and of the absence of one. */
export const profileKey = (id: number): string => `profile:${id}`;

/** One row of the table `users`, without its date: lesson 1.3 is about values that JSON does not keep. */
export interface Profile {
  readonly id: number;
  readonly email: string;
  readonly name: string;
  readonly locale: string;
}

/**
 * How a lookup ended:
 * - `hit`: Redis had the profile;
 * - `negative`: Redis had the knowledge that there is no such user;
 * - `miss`: Redis had nothing, and MySQL answered, with a row or with none;
 * - `error`: Redis or MySQL failed, and so did the lookup.
 */
export type Outcome = 'hit' | 'negative' | 'miss' | 'error';

/** A latency runs from the call of `get` until its promise settles. */
export interface Latency {
  /** Lookups since the cache was created. */
  readonly count: number;
  /** Median of the last {@link WINDOW} of them, by nearest rank (ms); undefined while there is none. */
  readonly p50Ms: number | undefined;
  /** 99th percentile of the same lookups, by nearest rank (ms); undefined while there is none. */
  readonly p99Ms: number | undefined;
}

export interface Stats extends Readonly<Record<Outcome, Latency>> {
  /** Every lookup, whatever its outcome: the percentiles of the last {@link WINDOW} lookups. */
  readonly all: Latency;
  /**
   * What the cache has saved since it was created (ms): the time that the hits, negatives and misses would have
   * taken straight from MySQL, at the mean time of the loads so far, minus the time they did take. A load is a query
   * that MySQL answered, with a row or with none, and without the storing after it; a query that failed is none.
   * Errors are left out on both sides. Below zero the cache costs more time than it saves. 0 before the first load.
   */
  readonly savedMs: number;
}

export interface ProfileCache {
  /**
   * The profile, or null when there is no such user. One query on a miss, none when Redis knows the answer.
   * What MySQL answered is stored before `get` resolves, by one command that sets the TTL as well
   * ({@link PROFILE_TTL_MS} or {@link ABSENT_TTL_MS}); being read does not prolong it.
   * When the query fails, rejects with its error and leaves nothing in Redis. When Redis fails, to read or to store,
   * rejects with its error too: going on without the cache is lesson 2.1.
   * @param id rejects with {@link InvalidIdError} unless a number that is a positive safe integer; nothing is sent or counted then
   */
  get(id: number): Promise<Profile | null>;
  stats(): Stats;
}

export interface ProfileCacheOptions {
  readonly redis: Redis;
  readonly db: Pool;
  /** Milliseconds from any origin; it must never step back. */
  readonly now?: () => number;
}

export class InvalidIdError extends TypeError {
  override readonly name = 'InvalidIdError';

  constructor(id: unknown) {
    super(`a user id is a positive safe integer, not ${inspect(id)}`);
  }
}

/** User profiles from Redis, else from MySQL, with a record of how each lookup ended and how long it took. */
export function createProfileCache({
  redis,
  db,
  now = () => performance.now(),
}: ProfileCacheOptions): ProfileCache {
  const latencies = {
    hit: new Latencies(),
    negative: new Latencies(),
    miss: new Latencies(),
    error: new Latencies(),
    all: new Latencies(),
  };
  const loads = { count: 0, totalMs: 0 };

  // #region lookup
  async function lookUp(id: number): Promise<{ outcome: Outcome; profile: Profile | null }> {
    const cached = await redis.get(profileKey(id));
    // Redis answers null for "nothing here"; the four characters `null` are a stored absence.
    if (cached !== null) {
      const profile = JSON.parse(cached) as Profile | null;
      return { outcome: profile === null ? 'negative' : 'hit', profile };
    }
    const profile = await load(id);
    const ttlMs = profile === null ? ABSENT_TTL_MS : PROFILE_TTL_MS;
    await redis.set(profileKey(id), JSON.stringify(profile), 'PX', ttlMs);
    return { outcome: 'miss', profile };
  }

  async function load(id: number): Promise<Profile | null> {
    const start = now();
    const [rows] = await db.execute<(Profile & RowDataPacket)[]>(
      'SELECT id, email, name, locale FROM users WHERE id = ?',
      [id],
    );
    loads.count += 1;
    loads.totalMs += now() - start;
    return rows[0] ?? null;
  }
  // #endregion

  return {
    // #region get
    async get(id) {
      // Bound or not: MySQL reads '1 OR 1=1' as 1, and each such string would be one more key in Redis.
      if (!Number.isSafeInteger(id) || id < 1) throw new InvalidIdError(id);
      const start = now();
      let outcome: Outcome = 'error';
      try {
        const found = await lookUp(id);
        outcome = found.outcome;
        return found.profile;
      } finally {
        const ms = now() - start;
        latencies[outcome].add(ms);
        latencies.all.add(ms);
      }
    },
    // #endregion
    // #region stats
    stats() {
      const { hit, negative, miss, error, all } = latencies;
      const answered = hit.count + negative.count + miss.count;
      const tookMs = hit.totalMs + negative.totalMs + miss.totalMs;
      return {
        hit: hit.summary(),
        negative: negative.summary(),
        miss: miss.summary(),
        error: error.summary(),
        all: all.summary(),
        savedMs: loads.count === 0 ? 0 : answered * (loads.totalMs / loads.count) - tookMs,
      };
    },
    // #endregion
  };
}

// #region latencies
/** Count and total of all latencies; the last WINDOW of them themselves, in a ring. */
class Latencies {
  count = 0;
  totalMs = 0;
  readonly #ring = new Float64Array(WINDOW);

  add(ms: number): void {
    this.#ring[this.count % WINDOW] = ms;
    this.count += 1;
    this.totalMs += ms;
  }

  summary(): Latency {
    const sorted = this.#ring.slice(0, Math.min(this.count, WINDOW)).sort();
    // Nearest rank: the smallest latency that at least `percent` % of them do not exceed.
    const percentile = (percent: number) => sorted[Math.ceil((percent * sorted.length) / 100) - 1];
    return { count: this.count, p50Ms: percentile(50), p99Ms: percentile(99) };
  }
}
// #endregion
