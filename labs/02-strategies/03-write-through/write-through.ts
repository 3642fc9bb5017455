import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import type { User, UserData } from './given';

export interface Users {
  /**
   * The user, or null when there is none: from Redis, or on a miss from MySQL. An absence need not be cached.
   * @throws what the query of MySQL throws
   */
  find(id: number): Promise<User | null>;
  /** Inserts a user and stores its row in Redis. @throws what MySQL throws */
  create(data: UserData): Promise<User>;
  /**
   * Changes columns and stores the row in Redis, unless Redis has a newer version. Each update raises `version` by one,
   * also when `changes` is empty. Null when there is no such user.
   * @throws what MySQL throws
   */
  update(id: number, changes: Partial<UserData>): Promise<User | null>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** In production: how long one Redis command may take (ms). */
  readonly cacheDeadlineMs?: number;
  /** In production: called with each error of Redis and of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** Users by write-through: MySQL first, then Redis, in the order of the versions. */
export function createUsers({ redis, db }: Options): Users {
  throw new Error('not implemented');
}
