import type { Load, Options } from './given';

/** What one hit knows when it rolls. */
export interface Roll {
  readonly now: number;
  readonly expiresAt: number;
  readonly deltaMs: number;
  readonly beta: number;
  /** As Math.random: 0 is possible, 1 is not. */
  readonly random: () => number;
}

/**
 * XFetch: whether this hit fires, which means that it starts a refresh. At a gap of expiresAt − now it does so with
 * probability e^(−gap / (deltaMs · beta)).
 */
export function shouldRefresh(roll: Roll): boolean {
  throw new Error('not implemented');
}

export interface EarlyCache {
  /**
   * A hit returns the cached value at once. If it fires, it also starts a load in the background, which replaces the
   * entry. A miss waits for a load, which concurrent calls share. Each call gets its own copy of what JSON makes of the
   * value.
   * @throws on a miss: what `load` throws. In production: LoadTimeoutError
   */
  get<V>(key: string, load: Load<V>): Promise<V>;
}

/** A cache whose values are refreshed before they expire. Options, keys and the codec are in `given.ts`. */
export function createEarlyCache(options: Options): EarlyCache {
  throw new Error('not implemented');
}
