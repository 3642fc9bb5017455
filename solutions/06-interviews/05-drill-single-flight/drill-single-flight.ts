import { withDeadline } from '#kit/given';

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

  function start(key: string): Promise<V> {
    // In the next turn: a load that throws at once rejects, and one that asks for its own key finds it.
    const flight = withDeadline(Promise.resolve(key).then(load), deadlineMs).finally(() => {
      // After a forget, a later flight may have its place.
      if (flights.get(key) === flight) flights.delete(key);
    });
    flights.set(key, flight);
    return flight;
  }

  return {
    async run(key, signal) {
      signal?.throwIfAborted();
      const flight = flights.get(key) ?? start(key);
      return signal ? orAbort(flight, signal) : flight;
    },
    forget(key) {
      flights.delete(key);
    },
    get size() {
      return flights.size;
    },
  };
}

/** The promise; or, if `signal` aborts first, its reason. Leaves no listener on a signal that lives longer. */
function orAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
