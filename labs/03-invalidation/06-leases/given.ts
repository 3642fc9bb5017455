import { setTimeout as sleep } from 'node:timers/promises';

/** The Redis key of a value, which is stored as JSON. The braces keep it in one cluster slot with its lease. */
export const valueKey = (key: string): string => `leased:value:{${key}}`;

/** Holds the token of the caller that may store the value of a key. */
export const leaseKey = (key: string): string => `leased:lease:{${key}}`;

/** All in whole milliseconds. */
export interface Times {
  /** How long a stored value lives. */
  readonly ttlMs: number;
  /** How long a lease lives. In production: how long any load may take, too. */
  readonly leaseMs: number;
  /** How long a call waits for a value that another caller loads. 0: not at all. */
  readonly waitMs: number;
}

/** Asks the source. In production: `signal` is aborted when the load has taken too long. */
export type Load<V> = (signal?: AbortSignal) => Promise<V>;

/** The JSON text of a value. @throws TypeError for a value that JSON cannot hold, such as undefined or a bigint */
export function encode(value: unknown): string {
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`JSON cannot hold a value of type ${typeof value}`);
  return text;
}

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(key: string, ms: number) {
    super(`the load of ${key} took longer than ${ms} ms`);
  }
}

/** The time, and a pause, both in ms. */
export interface Clock {
  now(): number;
  sleep(ms: number): Promise<unknown>;
}

export const systemClock: Clock = { now: () => performance.now(), sleep: (ms) => sleep(ms) };
