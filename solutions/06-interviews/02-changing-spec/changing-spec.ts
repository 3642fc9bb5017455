import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { backoffMs, withDeadline } from '#kit/given';
import { type Answer, type Load, LoadTimeoutError, openLeases } from './given';

export interface Cache {
  /**
   * The cached value of the key, else the result of `load`. null is a value.
   * @throws the error of `load`
   */
  get<V>(key: string, load: Load<V>): Promise<V>;
  /**
   * Removes the key from the cache, after its source has changed.
   * @throws In production: with `redis`, if Redis has not confirmed it
   */
  invalidate(key: string): Promise<void>;
}

export interface Options {
  /** How long a value is fresh, ms. */
  readonly ttlMs: number;
  /** How many values this process may keep. */
  readonly maxEntries: number;
  /** The clock, ms. */
  readonly now?: () => number;
  /** In production: how long an expired value may be served while it is refreshed, ms. */
  readonly staleMs?: number;
  /** In production: the pause after a refresh that failed, ms. */
  readonly retryMs?: number;
  /** In production: how long a load may take, and how long a caller waits for a load of another process, ms. */
  readonly timeoutMs?: number;
  /** In production: called with each error that reaches no caller. It never throws. */
  readonly onError?: (error: unknown) => void;
  /** In production: shared by all processes; values are JSON then. Each command resolves or rejects in bounded time. */
  readonly redis?: Redis;
  /** In production: how long this process may use a value without asking Redis, ms. */
  readonly syncMs?: number;
}

interface Entry {
  readonly value: unknown;
  readonly freshUntil: number;
  readonly usableUntil: number;
}

/** One cache, built in four steps. Read them in the lesson, one step at a time. */
export function createCache({
  ttlMs,
  maxEntries,
  now = () => performance.now(),
  staleMs = 0,
  retryMs = 1_000,
  timeoutMs = 10_000,
  onError = () => {},
  redis,
  syncMs = 1_000,
}: Options): Cache {
  const entries = new Map<string, Entry>();
  const inFlight = new Map<string, { readonly since: number; readonly value: Promise<unknown> }>();

  // #region store
  /** The only place that stores: the key becomes the most recently used, and the oldest one leaves. */
  function store(key: string, entry: Entry): void {
    entries.delete(key);
    entries.set(key, entry);
    for (const oldest of entries.keys()) {
      if (entries.size <= maxEntries) return;
      entries.delete(oldest);
    }
  }

  // #endregion

  // #region fetch
  /** One at a time for each key; an invalidation ends its right to store. */
  function fetch(key: string, load: Load<unknown>): Promise<unknown> {
    const running = inFlight.get(key);
    // Another process may have invalidated: that is not seen before Redis is asked again.
    if (running && (!redis || now() - running.since < syncMs)) return running.value;
    const loadInTime = () => loadWithin(timeoutMs, key, load);
    const value: Promise<unknown> = Promise.resolve()
      .then(() => (shared ? shared.produce(key, loadInTime) : produce(loadInTime)))
      .then((entry) => {
        if (inFlight.get(key) === flight) store(key, entry);
        return entry.value;
      })
      .finally(() => {
        if (inFlight.get(key) === flight) inFlight.delete(key);
      });
    const flight = { since: now(), value };
    inFlight.set(key, flight);
    return value;
  }

  async function produce(load: () => Promise<unknown>): Promise<Entry> {
    const value = await load();
    const freshUntil = now() + ttlMs;
    return { value, freshUntil, usableUntil: freshUntil + staleMs };
  }

  function refresh(key: string, old: Entry, load: Load<unknown>): void {
    if (inFlight.has(key)) return;
    fetch(key, load).catch((error: unknown) => {
      onError(error);
      // Not before a pause, and still within the bound. An invalidation may have removed the entry meanwhile.
      if (entries.get(key) === old) entries.set(key, { ...old, freshUntil: now() + retryMs });
    });
  }
  // #endregion

  const shared = redis && shareBy(redis);

  return {
    // #region get
    async get<V>(key: string, load: Load<V>): Promise<V> {
      const entry = entries.get(key);
      if (entry) store(key, entry);
      const time = now();
      if (!entry || time >= entry.usableUntil) return (await fetch(key, load)) as V;
      if (time >= entry.freshUntil) refresh(key, entry, load);
      return entry.value as V;
    },

    async invalidate(key: string): Promise<void> {
      entries.delete(key);
      inFlight.delete(key);
      await shared?.drop(key);
    },
    // #endregion
  };

  // #region shared
  /** Step 4: a fetch asks Redis, and what it keeps in this process is a copy for syncMs. */
  function shareBy(redis: Redis) {
    const leases = openLeases(redis, onError);
    const keptMs = ttlMs + staleMs;

    async function produce(key: string, load: () => Promise<unknown>): Promise<Entry> {
      const token = randomUUID();
      const { found, granted, askedAt } = await waitForAnswer(key, token);
      if (found) {
        if (granted) loadAndFill(key, load, token, retryMs).catch(onError);
        return copy(found.value, askedAt, found.livesMs);
      }
      if (granted) return loadAndFill(key, load, token);
      // Without a lease nothing is shared.
      const since = now();
      return copy(await load(), since, ttlMs);
    }

    /** Looks until there is a value or the lease is granted, for timeoutMs at most. */
    async function waitForAnswer(key: string, token: string): Promise<Answer & { askedAt: number }> {
      const end = performance.now() + timeoutMs;
      for (let attempt = 0; ; attempt++) {
        const askedAt = now();
        const asking = leases.ask(key, token, timeoutMs, staleMs);
        const answer = await asking.catch((error: unknown) => void onError(error));
        if (!answer) return { granted: false, askedAt };
        // Real time: a clock that a test holds would make this wait endless.
        const leftMs = end - performance.now();
        if (answer.found || answer.granted || leftMs <= 0) return { ...answer, askedAt };
        await sleep(Math.min(backoffMs(attempt), leftMs));
      }
    }

    async function loadAndFill(key: string, load: () => Promise<unknown>, token: string, pauseMs = 0) {
      const value = await load().catch(async (error: unknown) => {
        await leases.release(key, token, pauseMs).catch(onError);
        throw error;
      });
      const since = now();
      const isStored = await leases.fill(key, token, value, keptMs).catch(onError);
      return copy(value, since, isStored === true ? keptMs : 0);
    }

    /** Redis had it at `since`. */
    function copy(value: unknown, since: number, livesMs: number): Entry {
      const until = since + Math.min(livesMs, syncMs);
      return { value, freshUntil: until, usableUntil: until };
    }

    return { produce, drop: leases.drop };
  }
  // #endregion
}

// #region load
/** The signal tells the source to stop; the caller does not wait for that. */
function loadWithin(ms: number, key: string, load: Load<unknown>): Promise<unknown> {
  const abort = new AbortController();
  return withDeadline(Promise.resolve(load(abort.signal)), ms, () => {
    const error = new LoadTimeoutError(key, ms);
    abort.abort(error);
    return error;
  });
}
// #endregion
