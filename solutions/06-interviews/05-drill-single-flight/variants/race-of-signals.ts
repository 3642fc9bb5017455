export interface SingleFlight<V> {
  /**
   * The result of `load(key)`. Callers that come while the load runs share its result; after that it is forgotten.
   * `signal` ends the wait of this caller only, with its reason.
   */
  run(key: string, signal?: AbortSignal): Promise<V>;
  /** Callers that wait already keep their load. The next caller starts a new load. */
  forget(key: string): void;
  /** The number of keys with a load that the next caller would join. */
  readonly size: number;
}

/** A load that takes longer than `deadlineMs` is given up: its callers get an error, and the next one starts a new load. */
export function singleFlight<V>(load: (key: string) => Promise<V>, deadlineMs: number): SingleFlight<V> {
  const flights = new Map<string, Promise<V>>();

  /** The deadline is a signal too: one that the callers of a flight share. */
  async function fly(key: string): Promise<V> {
    return raced(
      Promise.resolve().then(() => load(key)),
      AbortSignal.timeout(deadlineMs),
    );
  }

  const forget = (key: string, flight = flights.get(key)) => {
    if (flights.get(key) === flight) flights.delete(key);
  };

  return {
    run(key, signal) {
      let flight = flights.get(key);
      if (!flight) {
        const started = fly(key);
        flight = started;
        flights.set(key, started);
        const end = () => forget(key, started);
        started.then(end, end);
      }
      return signal ? raced(flight, signal) : flight;
    },
    forget: (key) => forget(key),
    get size() {
      return flights.size;
    },
  };
}

/** The first of both to come. At the end, the listener goes: `ended` is the signal that takes it away. */
async function raced<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const ended = new AbortController();
  const aborted = new Promise<never>((_, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { signal: ended.signal });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    ended.abort();
  }
}
