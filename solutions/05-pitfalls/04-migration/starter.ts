import type { Redis } from 'ioredis';
import { type Codec, DEADLINE_MS, type Mode, type Outcome, RECHECK_MS, type Settings } from './given';

export interface Rollout<T> {
  /**
   * The value of `id` for this user: from `load`, or from Redis. Rejects with what `load` rejects with.
   * In production: a comparison may call `load` again, even after the call has ended, so `load` must only read.
   */
  get(id: string, user: string, load: () => Promise<T>): Promise<T>;
  /**
   * Called after a write of `id` has committed: deletes its entries.
   * In production: if Redis has not confirmed the deletes, it rejects with a CacheError in mode `on`, and resolves in other modes.
   */
  invalidate(id: string): Promise<void>;
}

export interface Options<T> {
  readonly redis: Redis;
  readonly name: string;
  readonly codec: Codec<T>;
  /** In production: the codec versions of other deployed releases, older or newer. */
  readonly otherVersions?: readonly string[];
  /** How long an entry lives (ms). */
  readonly ttlMs: number;
  /** Read at each call. In production: it may throw, or return anything. */
  readonly settings: () => Settings;
  /** In production: DEADLINE_MS if absent. */
  readonly deadlineMs?: number;
  /** In production: RECHECK_MS if absent. */
  readonly recheckMs?: number;
  /** Called once for each call in mode `shadow`, or `on` inside the ramp; not when Redis fails. Never throws. */
  readonly onOutcome?: (mode: Mode, outcome: Outcome) => void;
  /** In production: called with a CacheError for each failure. Never throws. */
  readonly onError?: (error: unknown) => void;
}

/** A cache around a read that can be rolled out, and removed, in steps. Keys and codec are in `given.ts`. */
export function createRollout<T>({
  redis,
  name,
  codec,
  otherVersions = [],
  ttlMs,
  settings,
  deadlineMs = DEADLINE_MS,
  recheckMs = RECHECK_MS,
  onOutcome = () => {},
  onError = () => {},
}: Options<T>): Rollout<T> {
  throw new Error('not implemented');
}
