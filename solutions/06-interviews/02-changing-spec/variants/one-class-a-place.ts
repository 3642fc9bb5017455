import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { InFlight } from '#kit/given';
import { type Answer, type Load, LoadTimeoutError, openLeases } from '../given';

interface Options {
  readonly ttlMs: number;
  readonly maxEntries: number;
  readonly now?: () => number;
  readonly staleMs?: number;
  readonly retryMs?: number;
  readonly timeoutMs?: number;
  readonly onError?: (error: unknown) => void;
  readonly redis?: Redis;
  readonly syncMs?: number;
}

type Settings = Required<Omit<Options, 'redis'>>;

/** Two classes with the same two methods. Each read of the shared one asks Redis; it falls back on the local one. */
export function createCache({ redis, ...options }: Options): LocalCache | SharedCache {
  const settings: Settings = {
    now: () => performance.now(),
    staleMs: 0,
    retryMs: 1_000,
    timeoutMs: 10_000,
    syncMs: 1_000,
    onError: () => {},
    ...options,
  };
  return redis ? new SharedCache(redis, settings) : new LocalCache(settings);
}

/** An age instead of two ends; the TTL counts from the begin of the load. */
class LocalCache {
  readonly #settings: Settings;
  readonly #values = new Map<string, { readonly value: unknown; readonly bornAt: number }>();
  readonly #triedAt = new WeakMap<object, number>();
  #inFlight = new InFlight<unknown>();
  /** Raised by each invalidation: of any key, so that nothing is kept of a key. */
  #epoch = 0;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  async get<V>(key: string, load: Load<V>): Promise<V> {
    const { now, ttlMs, staleMs, retryMs, onError } = this.#settings;
    const known = this.#values.get(key);
    const age = known ? now() - known.bornAt : Number.POSITIVE_INFINITY;
    if (!known || age >= ttlMs + staleMs) return (await this.#fill(key, load)) as V;
    this.#values.delete(key);
    this.#values.set(key, known);
    const pauseIsOver = now() - (this.#triedAt.get(known) ?? Number.NEGATIVE_INFINITY) >= retryMs;
    if (age >= ttlMs && pauseIsOver && !this.#inFlight.has(key)) {
      this.#fill(key, load).catch((error: unknown) => {
        this.#triedAt.set(known, now());
        onError(error);
      });
    }
    return known.value as V;
  }

  async invalidate(key: string): Promise<void> {
    this.#epoch++;
    this.#values.delete(key);
    // Loads of other keys end as before, for those who wait already.
    this.#inFlight = new InFlight();
  }

  #fill(key: string, load: Load<unknown>): Promise<unknown> {
    return this.#inFlight.run(key, async () => {
      const epoch = this.#epoch;
      const bornAt = this.#settings.now();
      const value = await loadWithin(this.#settings.timeoutMs, key, load);
      if (epoch !== this.#epoch) return value;
      this.#values.delete(key);
      this.#values.set(key, { value, bornAt });
      const [oldest] = this.#values.keys();
      if (this.#values.size > this.#settings.maxEntries && oldest !== undefined) this.#values.delete(oldest);
      return value;
    });
  }
}

class SharedCache {
  readonly #settings: Settings;
  readonly #leases: ReturnType<typeof openLeases>;
  readonly #alone: LocalCache;

  constructor(redis: Redis, settings: Settings) {
    this.#settings = settings;
    this.#leases = openLeases(redis, settings.onError);
    this.#alone = new LocalCache({ ...settings, ttlMs: settings.syncMs, staleMs: 0 });
  }

  async get<V>(key: string, load: Load<V>): Promise<V> {
    const { onError } = this.#settings;
    const token = randomUUID();
    const answer = await this.#ask(key, token).catch((error: unknown) => {
      onError(error);
      return undefined;
    });
    if (answer?.found) {
      if (answer.granted) this.#loadUnder(token, key, load, this.#settings.retryMs).catch(onError);
      return answer.found.value as V;
    }
    return answer?.granted ? this.#loadUnder(token, key, load) : this.#alone.get(key, load);
  }

  async invalidate(key: string): Promise<void> {
    await this.#alone.invalidate(key);
    await this.#leases.drop(key);
  }

  async #ask(key: string, token: string): Promise<Answer> {
    const { timeoutMs, staleMs } = this.#settings;
    const end = performance.now() + timeoutMs;
    while (true) {
      const answer = await this.#leases.ask(key, token, timeoutMs, staleMs);
      const leftMs = end - performance.now();
      if (answer.found || answer.granted || leftMs <= 0) return answer;
      await sleep(Math.min(leftMs, 5 + 20 * Math.random()));
    }
  }

  async #loadUnder<V>(token: string, key: string, load: Load<V>, pauseMs = 0): Promise<V> {
    const { timeoutMs, ttlMs, staleMs, onError } = this.#settings;
    try {
      const value = await loadWithin(timeoutMs, key, load);
      await this.#leases.fill(key, token, value, ttlMs + staleMs).catch(onError);
      return value;
    } catch (error) {
      await this.#leases.release(key, token, pauseMs).catch(onError);
      throw error;
    }
  }
}

async function loadWithin<V>(ms: number, key: string, load: Load<V>): Promise<V> {
  const abort = new AbortController();
  const { promise, end } = timer(ms);
  try {
    return await Promise.race([
      load(abort.signal),
      promise.then(() => Promise.reject(new LoadTimeoutError(key, ms))),
    ]);
  } catch (error) {
    abort.abort(error);
    throw error;
  } finally {
    end();
  }
}

function timer(ms: number) {
  let end = () => {};
  const promise = new Promise<void>((resolve) => {
    const timeout = setTimeout(resolve, ms);
    end = () => clearTimeout(timeout);
  });
  return { promise, end };
}
