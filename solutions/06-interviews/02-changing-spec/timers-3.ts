import { withDeadline } from '#kit/given';
import { type Load, LoadTimeoutError } from './given';

interface Options {
  readonly ttlMs: number;
  readonly maxEntries: number;
  readonly staleMs?: number;
  readonly retryMs?: number;
  readonly timeoutMs?: number;
  readonly onError?: (error: unknown) => void;
}

/** Step 3 with timers: one says that a value has expired, another one removes it. For the measure only. */
export function createCache({
  ttlMs,
  maxEntries,
  staleMs = 0,
  retryMs = 1_000,
  timeoutMs = 10_000,
  onError = () => {},
}: Options) {
  const values = new Map<string, unknown>();
  const expired = new Set<string>();
  const inFlight = new Map<string, Promise<unknown>>();
  const timers = new Map<string, { expiry?: NodeJS.Timeout; end?: NodeJS.Timeout }>();

  function remove(key: string): void {
    clearTimeout(timers.get(key)?.expiry);
    clearTimeout(timers.get(key)?.end);
    timers.delete(key);
    expired.delete(key);
    values.delete(key);
  }

  function expireAfter(key: string, ms: number): NodeJS.Timeout {
    return setTimeout(() => expired.add(key), ms).unref();
  }

  function fetch(key: string, load: Load<unknown>): Promise<unknown> {
    const running = inFlight.get(key);
    if (running) return running;
    const started: Promise<unknown> = Promise.resolve()
      .then(() => loadWithin(timeoutMs, key, load))
      .then((value) => {
        if (inFlight.get(key) !== started) return value;
        remove(key);
        values.set(key, value);
        const end = setTimeout(() => remove(key), ttlMs + staleMs).unref();
        timers.set(key, { expiry: expireAfter(key, ttlMs), end });
        const [oldest] = values.keys();
        if (values.size > maxEntries && oldest !== undefined) remove(oldest);
        return value;
      })
      .finally(() => {
        if (inFlight.get(key) === started) inFlight.delete(key);
      });
    inFlight.set(key, started);
    return started;
  }

  function refresh(key: string, load: Load<unknown>): void {
    if (inFlight.has(key)) return;
    fetch(key, load).catch((error: unknown) => {
      onError(error);
      const known = timers.get(key);
      if (!known) return;
      expired.delete(key);
      known.expiry = expireAfter(key, retryMs);
    });
  }

  return {
    async get<V>(key: string, load: Load<V>): Promise<V> {
      if (!values.has(key)) return (await fetch(key, load)) as V;
      const value = values.get(key);
      values.delete(key);
      values.set(key, value);
      if (expired.has(key)) refresh(key, load);
      return value as V;
    },

    async invalidate(key: string): Promise<void> {
      remove(key);
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
