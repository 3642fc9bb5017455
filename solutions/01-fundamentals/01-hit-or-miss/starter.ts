import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { Profile, Stats } from './given';

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
  throw new Error('not implemented');
}
