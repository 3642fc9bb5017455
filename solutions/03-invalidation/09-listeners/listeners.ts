import type { Redis } from 'ioredis';
import { backoffMs } from '#kit/given';
import {
  BATCH,
  BEGINNING,
  BLOCK_MS,
  type Clock,
  eventsOf,
  RETRY_AT_MOST_MS,
  STREAM,
  systemClock,
} from './given';

export interface LocalCache {
  /** The value of the key: kept in this process, else from `load`, and then kept. @throws what `load` throws */
  get<V>(key: string, load: () => Promise<V>): Promise<V>;
  /**
   * Reads up to BATCH events behind the place of this process, without waiting, and drops their keys.
   * @returns the number of events that it has read
   * @throws what Redis says; then the place is the same as before
   */
  poll(): Promise<number>;
  /** Polls until the signal aborts; each read waits in Redis for an event. In production: it never rejects. */
  run(signal: AbortSignal): Promise<void>;
}

export interface Options {
  /** The client of the application. In production: each of its commands settles within its `commandTimeout`. */
  readonly redis: Redis;
  /** In production: how long values are returned after the last successful read (ms). More than BLOCK_MS. */
  readonly maxSilenceMs?: number;
  /** In production: the clock and all pauses. */
  readonly clock?: Clock;
  /** In production: called with each failed read of `run`. It never throws. */
  readonly onError?: (error: unknown) => void;
}

/** A cache in the memory of this process, kept in step by the events of a stream. Each process reads all events. */
export function createLocalCache({
  redis,
  maxSilenceMs = 5_000,
  clock = systemClock,
  onError = () => {},
}: Options): LocalCache {
  const kept = new Map<string, unknown>();
  /** The newest load under way of each key. An event removes it, and its value is not kept. */
  const fills = new Map<string, symbol>();
  let place = BEGINNING;
  /** All events up to this moment have been read. */
  let currentAt = clock.now();

  // #region drop
  function drop(key: string): void {
    kept.delete(key);
    fills.delete(key);
  }

  function dropAll(): void {
    kept.clear();
    fills.clear();
  }
  // #endregion

  // #region read
  async function read(client: Redis, blockMs?: number): Promise<number> {
    const askedAt = clock.now();
    const events = await readBehind(client, place, blockMs);
    // After the read: if our place is in the stream now, nothing behind it had been trimmed then.
    const isKnown =
      place === BEGINNING ? events.length === 0 : (await client.xrange(STREAM, place, place)).length > 0;
    if (!isKnown || events.some(({ key }) => key === undefined)) dropAll();
    else for (const { key = '' } of events) drop(key);
    place = events.at(-1)?.id ?? (isKnown ? place : BEGINNING);
    if (events.length < BATCH) currentAt = askedAt;
    return events.length;
  }
  // #endregion

  return {
    // #region get
    async get<V>(key: string, load: () => Promise<V>): Promise<V> {
      const isCurrent = clock.now() - currentAt <= maxSilenceMs;
      if (isCurrent && kept.has(key)) return kept.get(key) as V;
      const fill = Symbol(key);
      fills.set(key, fill);
      try {
        const value = await load();
        if (fills.get(key) === fill) kept.set(key, value);
        return value;
      } finally {
        if (fills.get(key) === fill) fills.delete(key);
      }
    },
    // #endregion

    poll: () => read(redis),

    // #region run
    async run(signal: AbortSignal): Promise<void> {
      const answerMs = redis.options.commandTimeout ?? 1_000;
      // Redis ends a BLOCK up to 100 ms late.
      const longestMs = 2 * BLOCK_MS + answerMs;
      // A connection that is open and silent is replaced.
      const connection = redis.duplicate({ commandTimeout: longestMs, socketTimeout: longestMs });
      // The read that fails is reported.
      connection.on('error', () => {});
      const end = () => connection.disconnect();
      signal.addEventListener('abort', end);
      for (let failures = 0; !signal.aborted; ) {
        try {
          await read(connection, BLOCK_MS);
          failures = 0;
        } catch (error) {
          if (signal.aborted) break;
          onError(error);
          await clock.sleep(backoffMs(failures++, { longestMs: RETRY_AT_MOST_MS }), signal);
        }
      }
      signal.removeEventListener('abort', end);
      end();
    },
    // #endregion
  };
}

async function readBehind(client: Redis, place: string, blockMs?: number) {
  const from = ['STREAMS', STREAM, place] as const;
  return eventsOf(
    blockMs === undefined
      ? await client.xread('COUNT', BATCH, ...from)
      : await client.xread('COUNT', BATCH, 'BLOCK', blockMs, ...from),
  );
}
