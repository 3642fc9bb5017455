import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';

/** The Redis Stream of invalidations. Each entry is one event: the field `key` names what has changed. */
export const STREAM = 'invalidations';

/** The place of a listener that has read nothing: before the first id. */
export const BEGINNING = '0-0';

/** How many events one XREAD asks for (COUNT). */
export const BATCH = 100;

/** How long one XREAD of `run` waits in Redis for an event (BLOCK, ms). */
export const BLOCK_MS = 100;

/** The longest pause after a failed read (ms). */
export const RETRY_AT_MOST_MS = 1_000;

/** The publisher: one event for each key, after the commit. Redis keeps about `maxLen` events and trims older ones. */
export async function publish(redis: Redis, keys: readonly string[], maxLen = 10_000): Promise<void> {
  for (const key of keys) await redis.xadd(STREAM, 'MAXLEN', '~', maxLen, '*', 'key', key);
}

export interface Event {
  readonly id: string;
  /** In production: undefined where the entry has no key, or one that is not UTF-8. */
  readonly key: string | undefined;
}

type Entry = readonly [id: string, fields: readonly string[]];

/** The events of an XREAD's reply; none where it is null. */
export function eventsOf(reply: unknown): Event[] {
  const list = (reply ?? []) as unknown[];
  // `xread` answers a list of streams, a script only the stream.
  const [, entries = []] = (Array.isArray(list[0]) ? list[0] : list) as [string?, Entry[]?];
  return eventsIn(entries);
}

/** In production: the events of an XRANGE's reply. */
export const eventsIn = (entries: readonly Entry[]): Event[] =>
  entries.map(([id, fields]) => ({ id, key: keyIn(fields) }));

function keyIn(fields: readonly string[]): string | undefined {
  for (let at = 0; at + 1 < fields.length; at += 2) {
    const value = fields[at + 1];
    // The client puts U+FFFD where the bytes are not UTF-8.
    if (fields[at] === 'key') return value?.includes('\uFFFD') ? undefined : value;
  }
  return undefined;
}

/** The time, and a pause that the signal ends early, both in ms. */
export interface Clock {
  now(): number;
  sleep(ms: number, signal: AbortSignal): Promise<unknown>;
}

export const systemClock: Clock = {
  now: () => performance.now(),
  sleep: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => {}),
};
