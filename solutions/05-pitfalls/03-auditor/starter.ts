import type { Redis } from 'ioredis';
import type { Clock, ReadUsers } from './given';

/** A stale entry. */
export interface Finding {
  /** In production: its fingerprint. */
  readonly key: string;
  /** Null: the entry says "there is no such user". */
  readonly entryVersion: number | null;
  /** Null: there is no row. */
  readonly rowVersion: number | null;
}

export interface Report {
  readonly samples: number;
  readonly stale: number;
  /** `stale / samples`; null without samples. */
  readonly rate: number | null;
  /** The rate of the whole cache is at most this (95 % confidence): see `mostExpected`. 1 without samples. */
  readonly atMost: number;
  /** In production: suspects without a second look. Not counted in `samples`; `atMost` counts them as stale. */
  readonly undecided?: number;
  /** In production: for how long the oldest stale entry is known to be stale (ms); null if there is none. */
  readonly oldestMs?: number | null;
}

export interface Options {
  readonly redis: Redis;
  /** Reads the primary, which gets all writes. */
  readonly primary: ReadUsers;
  /** Reads a replica, which may lag by minutes. */
  readonly replica: ReadUsers;
  /** How long an entry may lag behind its row (ms). */
  readonly graceMs: number;
  readonly clock: Clock;
  /** It never throws. */
  readonly onStale: (finding: Finding) => void;
  /** In production: how many rows per second you may read from the primary; ROWS_PER_SECOND if absent. */
  readonly rowsPerSecond?: number;
  /** In production: how long Redis or the primary may take (ms of real time); DEADLINE_MS if absent. */
  readonly deadlineMs?: number;
  /** In production: the text to report in place of a key; the key itself if absent. */
  readonly fingerprint?: (key: string) => string;
  /** In production: called with each failure of a server, and for each entry that cannot be decoded. It never throws. */
  readonly onError?: (error: unknown) => void;
}

export interface Auditor {
  /**
   * Compares the entries of users in Redis with their rows.
   * @param samples how many entries; fewer if there are fewer. An entry may come twice
   * @param signal in production: ends the audit, which then reports what it has
   */
  audit(samples: number, signal?: AbortSignal): Promise<Report>;
}

export function createAuditor({ redis, primary, replica, graceMs, clock, onStale }: Options): Auditor {
  throw new Error('not implemented');
}
