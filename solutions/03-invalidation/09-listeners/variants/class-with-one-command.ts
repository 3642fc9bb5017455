import type { Redis } from 'ioredis';
import { backoffMs } from '#kit/given';
import {
  BATCH,
  BEGINNING,
  BLOCK_MS,
  type Clock,
  eventsIn,
  RETRY_AT_MOST_MS,
  STREAM,
  systemClock,
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly maxSilenceMs?: number;
  readonly clock?: Clock;
  readonly onError?: (error: unknown) => void;
}

interface Entry {
  readonly value: unknown;
  /** What is loaded during a silence is current for maxSilenceMs too. */
  readonly loadedAt: number;
}

/**
 * One XRANGE that begins at the place itself: where its first entry is another one, the place is gone. Nothing can be
 * trimmed between two commands. XREAD only waits.
 */
class LocalCache {
  readonly #redis: Redis;
  readonly #maxSilenceMs: number;
  readonly #clock: Clock;
  readonly #report: (error: unknown) => void;
  readonly #entries = new Map<string, Entry>();
  /** Grows with each event and each clear: what was being loaded meanwhile is not kept, whatever its key. */
  #reads = 0;
  #place = BEGINNING;
  #currentAt: number;

  constructor({ redis, maxSilenceMs = 5_000, clock = systemClock, onError = () => {} }: Options) {
    this.#redis = redis;
    this.#maxSilenceMs = maxSilenceMs;
    this.#clock = clock;
    this.#report = onError;
    this.#currentAt = clock.now();
  }

  async get<V>(key: string, load: () => Promise<V>): Promise<V> {
    const entry = this.#entries.get(key);
    if (entry && this.#clock.now() - Math.max(entry.loadedAt, this.#currentAt) <= this.#maxSilenceMs) {
      return entry.value as V;
    }
    const readsBefore = this.#reads;
    const loadedAt = this.#clock.now();
    const value = await load();
    if (this.#reads === readsBefore) this.#entries.set(key, { value, loadedAt });
    return value;
  }

  async poll(): Promise<number> {
    return this.#poll(this.#redis);
  }

  async run(signal: AbortSignal): Promise<void> {
    const timeout = (this.#redis.options.commandTimeout ?? 2_000) + BLOCK_MS * 2;
    const connection = this.#redis.duplicate({ commandTimeout: timeout, socketTimeout: timeout });
    connection.on('error', () => {});
    signal.addEventListener('abort', () => connection.disconnect(), { once: true });
    let failures = 0;
    while (!signal.aborted) {
      try {
        await connection.xread('COUNT', 1, 'BLOCK', BLOCK_MS, 'STREAMS', STREAM, this.#place);
        await this.#poll(connection);
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        this.#report(error);
        await this.#clock.sleep(backoffMs(failures++, { firstMs: 50, longestMs: RETRY_AT_MOST_MS }), signal);
      }
    }
    connection.disconnect();
  }

  async #poll(client: Redis): Promise<number> {
    const now = this.#clock.now();
    const isFirst = this.#place === BEGINNING;
    const found = await client.xrange(STREAM, isFirst ? '-' : this.#place, '+', 'COUNT', BATCH + 1);
    const isKnown = isFirst ? found.length === 0 : found[0]?.[0] === this.#place;
    const events = eventsIn(isKnown ? found.slice(1) : found);
    if (!isKnown || events.some(({ key }) => key === undefined)) this.#entries.clear();
    for (const { key = '' } of events) this.#entries.delete(key);
    if (!isKnown || events.length > 0) this.#reads++;
    if (!isKnown) this.#place = BEGINNING;
    this.#place = events.at(-1)?.id ?? this.#place;
    if (events.length < BATCH) this.#currentAt = now;
    return events.length;
  }
}

export const createLocalCache = (options: Options): LocalCache => new LocalCache(options);
