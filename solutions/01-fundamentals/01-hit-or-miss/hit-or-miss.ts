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
} from './given';

export interface ProfileCache {
  /**
   * The profile, or null when there is no such user: from Redis, or on a miss from MySQL.
   * @throws what the query of MySQL throws
   */
  get(id: number): Promise<Profile | null>;
  /** How all lookups so far have ended. */
  stats(): Stats;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** In production: the clock, in ms. It never steps back. */
  readonly now?: () => number;
}

/** User profiles, cached in Redis. TTLs, the key and the codec are in `given.ts`. */
export function createProfileCache({ redis, db, now = () => performance.now() }: Options): ProfileCache {
  const latencies = {
    hit: new Latencies(),
    negative: new Latencies(),
    miss: new Latencies(),
    error: new Latencies(),
    all: new Latencies(),
  };
  const loads = { count: 0, totalMs: 0 };
  let damaged = 0;

  // #region get
  async function get(id: number): Promise<Profile | null> {
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
  }

  async function lookUp(id: number): Promise<{ outcome: Outcome; profile: Profile | null }> {
    const cached = read(await redis.get(profileKey(id)));
    if (cached !== undefined) return { outcome: cached === null ? 'negative' : 'hit', profile: cached };
    const profile = await load(id);
    const ttlMs = profile === null ? ABSENT_TTL_MS : PROFILE_TTL_MS;
    await redis.set(profileKey(id), encode(profile), 'PX', ttlMs);
    return { outcome: 'miss', profile };
  }

  /** Undefined where there is no entry, or none that can be used. */
  function read(text: string | null): Profile | null | undefined {
    if (text === null) return undefined;
    try {
      return decode(text);
    } catch {
      damaged += 1;
      return undefined;
    }
  }

  async function load(id: number): Promise<Profile | null> {
    const start = now();
    const byId = 'SELECT id, email, name, locale FROM users WHERE id = ?';
    const [rows] = await db.execute<ProfileRow[]>(byId, [id]);
    loads.count += 1;
    loads.totalMs += now() - start;
    return rows[0] ?? null;
  }
  // #endregion

  // #region stats
  function stats(): Stats {
    const { hit, negative, miss, error, all } = latencies;
    const answered = hit.count + negative.count + miss.count;
    const tookMs = hit.totalMs + negative.totalMs + miss.totalMs;
    return {
      hit: hit.count,
      negative: negative.count,
      miss: miss.count,
      error: error.count,
      latencies: {
        hit: hit.percentiles(),
        negative: negative.percentiles(),
        miss: miss.percentiles(),
        error: error.percentiles(),
        all: all.percentiles(),
      },
      savedMs: loads.count === 0 ? 0 : answered * (loads.totalMs / loads.count) - tookMs,
      damaged,
    };
  }
  // #endregion

  return { get, stats };
}

// #region latencies
/** Count and total of all latencies, and the last WINDOW of them in a ring: a slice ends where the ring does. */
class Latencies {
  count = 0;
  totalMs = 0;
  readonly #ring = new Float64Array(WINDOW);

  add(ms: number): void {
    this.#ring[this.count % WINDOW] = ms;
    this.count += 1;
    this.totalMs += ms;
  }

  percentiles(): Percentiles {
    const sorted = this.#ring.slice(0, this.count).sort();
    const rank = (percent: number) => sorted[Math.ceil((percent * sorted.length) / 100) - 1];
    return { p50Ms: rank(50), p99Ms: rank(99) };
  }
}
// #endregion
