import { withDeadline } from '#kit/given';
import { type Load, LoadTimeoutError } from './given';

interface Entry {
  readonly value: unknown;
  readonly freshUntil: number;
  readonly usableUntil: number;
}

interface Options {
  readonly ttlMs: number;
  readonly maxEntries: number;
  readonly now?: () => number;
  readonly staleMs?: number;
  readonly retryMs?: number;
  readonly timeoutMs?: number;
  readonly onError?: (error: unknown) => void;
}

/** After step 3. For the measure only: how the cache grew. */
export function createCache({
  ttlMs,
  maxEntries,
  now = () => performance.now(),
  staleMs = 0,
  retryMs = 1_000,
  timeoutMs = 10_000,
  onError = () => {},
}: Options) {
  const entries = new Map<string, Entry>();
  const inFlight = new Map<string, Promise<unknown>>();

  /** The only place that stores: the key becomes the most recently used, and the oldest one leaves. */
  function store(key: string, entry: Entry): void {
    entries.delete(key);
    entries.set(key, entry);
    for (const oldest of entries.keys()) {
      if (entries.size <= maxEntries) return;
      entries.delete(oldest);
    }
  }

  function fetch(key: string, load: Load<unknown>): Promise<unknown> {
    const running = inFlight.get(key);
    if (running) return running;
    const started: Promise<unknown> = Promise.resolve()
      // In a callback: a load that throws rejects too.
      .then(() => loadWithin(timeoutMs, key, load))
      .then((value) => {
        const freshUntil = now() + ttlMs;
        if (inFlight.get(key) === started)
          store(key, { value, freshUntil, usableUntil: freshUntil + staleMs });
        return value;
      })
      .finally(() => {
        if (inFlight.get(key) === started) inFlight.delete(key);
      });
    inFlight.set(key, started);
    return started;
  }

  function refresh(key: string, old: Entry, load: Load<unknown>): void {
    if (inFlight.has(key)) return;
    fetch(key, load).catch((error: unknown) => {
      onError(error);
      if (entries.get(key) === old) entries.set(key, { ...old, freshUntil: now() + retryMs });
    });
  }

  return {
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
    },
  };
}

function loadWithin(ms: number, key: string, load: Load<unknown>): Promise<unknown> {
  const abort = new AbortController();
  return withDeadline(Promise.resolve(load(abort.signal)), ms, () => {
    const error = new LoadTimeoutError(key, ms);
    abort.abort(error);
    return error;
  });
}
