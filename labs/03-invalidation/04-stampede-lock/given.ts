import { setTimeout as sleep } from 'node:timers/promises';

/** The Redis key of a value, which is stored as JSON. The braces keep it in one cluster slot with its lock. */
export const entryKey = (key: string): string => `locked:entry:{${key}}`;

/** Holds the token of the caller that loads the value of a key. */
export const lockKey = (key: string): string => `locked:lock:{${key}}`;

/** All in whole milliseconds. */
export interface Times {
  /** How long a stored value is fresh. */
  readonly freshMs: number;
  /** How long the lock lives. In production: how long a load may take, too. */
  readonly lockMs: number;
  /** How long a call waits for another holder of the lock. 0: not at all. */
  readonly waitMs: number;
  /** In production: for how long after freshMs the value is kept, and returned while one caller refreshes it. 0 by default. */
  readonly staleMs?: number;
}

/** Asks the source. In production: `signal` is aborted when the load has taken too long. */
export type Load<V> = (signal?: AbortSignal) => Promise<V>;

/** The JSON text of a value. @throws TypeError for a value that JSON cannot hold, such as undefined or a bigint */
export function encode(value: unknown): string {
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`JSON cannot hold a value of type ${typeof value}`);
  return text;
}

export class WaitTimeoutError extends Error {
  override readonly name = 'WaitTimeoutError';

  constructor(key: string, ms: number) {
    super(`no value of ${key} within ${ms} ms: another caller is loading it`);
  }
}

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than its lock lives, ${ms} ms`);
  }
}

/** The time, and a pause, both in ms. */
export interface Clock {
  now(): number;
  sleep(ms: number): Promise<unknown>;
}

export const systemClock: Clock = { now: () => performance.now(), sleep: (ms) => sleep(ms) };
