import type { Redis } from 'ioredis';
import {
  type Entry,
  type Found,
  type Layer,
  type LayerStats,
  LayerTimeoutError,
  type Lookup,
  type Prediction,
  type Share,
  type Source,
} from '../given';

interface LookupOptions {
  readonly now?: () => number;
  readonly onFailure?: (layer: string, error: unknown) => void;
}

export function createLookup(caches: readonly Layer[], source: Source, options: LookupOptions = {}): Lookup {
  const layers = new Layers(caches, source, options);
  return (key) => layers.lookUp(key);
}

/** A class whose reader waits until all fills have ended, each within its timeout. */
class Layers {
  readonly #caches: readonly Layer[];
  readonly #source: Source;
  readonly #now: () => number;
  readonly #onFailure: (layer: string, error: unknown) => void;

  constructor(caches: readonly Layer[], source: Source, { now, onFailure }: LookupOptions) {
    this.#caches = caches;
    this.#source = source;
    this.#now = now ?? Date.now;
    this.#onFailure = onFailure ?? (() => {});
  }

  async lookUp(key: string): Promise<Found | undefined> {
    const missed = new Set<Layer>();
    for (const cache of this.#caches) {
      let entry: Entry | undefined;
      try {
        entry = await this.#inTime(cache, () => cache.get(key));
      } catch (error) {
        this.#onFailure(cache.name, error);
        continue;
      }
      if (entry === undefined || entry.expiresAt <= this.#now()) {
        missed.add(cache);
        continue;
      }
      return this.#answer(missed, key, entry, cache.name);
    }
    const entry = await this.#inTime(this.#source, () => this.#source.get(key));
    return entry ? this.#answer(missed, key, entry, this.#source.name) : undefined;
  }

  async #answer(missed: ReadonlySet<Layer>, key: string, entry: Entry, layer: string): Promise<Found> {
    await Promise.all(
      Array.from(missed, async (cache) => {
        try {
          await this.#inTime(cache, () => cache.set(key, entry));
        } catch (error) {
          this.#onFailure(cache.name, error);
        }
      }),
    );
    return { ...entry, layer };
  }

  async #inTime<T>(layer: Source, request: () => Promise<T>): Promise<T> {
    const { promise, reject } = deferred<never>();
    const timer = setTimeout(() => reject(new LayerTimeoutError(layer)), layer.timeoutMs);
    try {
      return await Promise.race([request(), promise]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function deferred<T>() {
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((_, refuse) => {
    reject = refuse;
  });
  return { promise, reject: (error: Error) => reject(error) };
}

/** Value and time left in one transaction. One that was aborted is tried once more. */
class RedisLayer implements Layer {
  readonly name = 'redis';
  readonly timeoutMs: number;
  readonly #redis: Redis;
  readonly #now: () => number;

  constructor({ redis, timeoutMs, now = Date.now }: { redis: Redis; timeoutMs: number; now?: () => number }) {
    this.#redis = redis;
    this.timeoutMs = timeoutMs;
    this.#now = now;
  }

  async get(key: string): Promise<Entry | undefined> {
    const asked = this.#now();
    const replies = (await this.#read(key)) ?? (await this.#read(key));
    if (!replies) throw new Error('the transaction was aborted twice');
    const [[valueError, value] = [null, null], [timeError, leftMs] = [null, null]] = replies;
    if (valueError ?? timeError) throw valueError ?? timeError;
    return typeof value === 'string' ? { value, expiresAt: asked + Number(leftMs) } : undefined;
  }

  async set(key: string, { value, expiresAt }: Entry): Promise<void> {
    const leftMs = Math.trunc(expiresAt - this.#now());
    if (leftMs >= 1) await this.#redis.psetex(key, leftMs, value);
  }

  #read(key: string) {
    return this.#redis.multi().get(key).pttl(key).exec();
  }
}

export const redisLayer = (options: { redis: Redis; timeoutMs: number; now?: () => number }): Layer =>
  new RedisLayer(options);

export function predict(layers: readonly LayerStats[]): Prediction {
  for (const { name, hitRate, latencyMs } of layers) {
    const isRate = Number.isFinite(hitRate) && hitRate >= 0 && hitRate <= 1;
    const isLatency = Number.isFinite(latencyMs) && latencyMs >= 0;
    if (!isRate || !isLatency) throw new RangeError(`${name}: a rate is 0 to 1, a latency 0 ms or more`);
  }
  const start = { effectiveMs: 0, absent: 1, funnel: [] as Share[] };
  return layers.reduce(
    ({ effectiveMs, absent, funnel }, { name, hitRate, latencyMs }) => ({
      effectiveMs: effectiveMs + absent * latencyMs,
      absent: absent * (1 - hitRate),
      funnel: [...funnel, { name, reached: absent, served: absent * hitRate }],
    }),
    start,
  );
}
