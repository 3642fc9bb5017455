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

export const createProfileCache = (options: Options) => new ProfileCache(options);

/** SET and PEXPIRE in one script: Redis runs both, or neither. */
const STORE = "redis.call('SET', KEYS[1], ARGV[1]) redis.call('PEXPIRE', KEYS[1], ARGV[2])";

type Kind = Outcome | 'all';
const KINDS: readonly Kind[] = ['hit', 'negative', 'miss', 'error', 'all'];

/** A class. The latencies are lists whose oldest element goes when they are too long. */
class ProfileCache {
  readonly #redis: Redis;
  readonly #db: Pool;
  readonly #now: () => number;
  readonly #counts = new Map<Kind, number>();
  readonly #latencies = new Map<Kind, number[]>();
  #loads = 0;
  #loadedMs = 0;
  #answered = 0;
  #answeredMs = 0;
  #damaged = 0;

  constructor({ redis, db, now = () => performance.now() }: Options) {
    this.#redis = redis;
    this.#db = db;
    this.#now = now;
  }

  async get(id: number): Promise<Profile | null> {
    if (!Number.isSafeInteger(id) || id <= 0) throw new InvalidIdError(id);
    const start = this.#now();
    try {
      const [outcome, profile] = await this.#lookUp(id);
      this.#answered += 1;
      this.#answeredMs += this.#now() - start;
      this.#record(outcome, start);
      return profile;
    } catch (error) {
      this.#record('error', start);
      throw error;
    }
  }

  stats(): Stats {
    const count = (kind: Kind) => this.#counts.get(kind) ?? 0;
    return {
      hit: count('hit'),
      negative: count('negative'),
      miss: count('miss'),
      error: count('error'),
      latencies: {
        hit: this.#percentiles('hit'),
        negative: this.#percentiles('negative'),
        miss: this.#percentiles('miss'),
        error: this.#percentiles('error'),
        all: this.#percentiles('all'),
      },
      savedMs: this.#loads === 0 ? 0 : (this.#loadedMs / this.#loads) * this.#answered - this.#answeredMs,
      damaged: this.#damaged,
    };
  }

  async #lookUp(id: number): Promise<[Outcome, Profile | null]> {
    const bytes = await this.#redis.getBuffer(profileKey(id));
    if (bytes) {
      try {
        const profile = decode(bytes.toString('utf8'));
        return [profile ? 'hit' : 'negative', profile];
      } catch {
        this.#damaged += 1;
      }
    }
    const asked = this.#now();
    const [[row = null]] = await this.#db.query<ProfileRow[]>(
      'SELECT id, email, name, locale FROM users WHERE id = ?',
      [id],
    );
    this.#loads += 1;
    this.#loadedMs += this.#now() - asked;
    await this.#redis.eval(STORE, 1, profileKey(id), encode(row), row ? PROFILE_TTL_MS : ABSENT_TTL_MS);
    return ['miss', row];
  }

  #record(outcome: Outcome, start: number): void {
    for (const kind of KINDS) {
      if (kind !== outcome && kind !== 'all') continue;
      this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + 1);
      const latencies = this.#latencies.get(kind) ?? [];
      latencies.push(this.#now() - start);
      if (latencies.length > WINDOW) latencies.shift();
      this.#latencies.set(kind, latencies);
    }
  }

  #percentiles(kind: Kind): Percentiles {
    const sorted = (this.#latencies.get(kind) ?? []).toSorted((a, b) => a - b);
    return {
      p50Ms: sorted[Math.ceil(0.5 * sorted.length) - 1],
      p99Ms: sorted[Math.ceil(0.99 * sorted.length) - 1],
    };
  }
}
