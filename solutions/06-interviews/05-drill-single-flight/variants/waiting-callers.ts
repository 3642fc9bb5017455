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

interface Caller<V> {
  readonly resolve: (value: V) => void;
  readonly reject: (reason: unknown) => void;
}

interface Flight<V> {
  readonly callers: Set<Caller<V>>;
  readonly timer: NodeJS.Timeout;
}

/** Each flight knows who waits for it. A caller that gives up is taken off its list. */
class Flights<V> implements SingleFlight<V> {
  readonly #load: (key: string) => Promise<V>;
  readonly #deadlineMs: number;
  readonly #flights = new Map<string, Flight<V>>();

  constructor(load: (key: string) => Promise<V>, deadlineMs: number) {
    this.#load = load;
    this.#deadlineMs = deadlineMs;
  }

  get size(): number {
    return this.#flights.size;
  }

  run(key: string, signal?: AbortSignal): Promise<V> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const { callers } = this.#flights.get(key) ?? this.#start(key);
    return new Promise((resolve, reject) => {
      const leave = () => {
        callers.delete(caller);
        reject(signal?.reason);
      };
      const stay = () => signal?.removeEventListener('abort', leave);
      const caller: Caller<V> = {
        resolve: (value) => {
          stay();
          resolve(value);
        },
        reject: (reason) => {
          stay();
          reject(reason);
        },
      };
      callers.add(caller);
      signal?.addEventListener('abort', leave, { once: true });
    });
  }

  forget(key: string): void {
    this.#flights.delete(key);
  }

  #start(key: string): Flight<V> {
    const end = (tell: (caller: Caller<V>) => void) => {
      clearTimeout(flight.timer);
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
      for (const caller of flight.callers) tell(caller);
      flight.callers.clear();
    };
    const giveUp = () =>
      end(({ reject }) => reject(new Error(`${key}: no answer in ${this.#deadlineMs} ms`)));
    const flight: Flight<V> = { callers: new Set(), timer: setTimeout(giveUp, this.#deadlineMs) };
    this.#flights.set(key, flight);
    Promise.resolve(key)
      .then(this.#load)
      .then(
        (value) => end(({ resolve }) => resolve(value)),
        (error: unknown) => end(({ reject }) => reject(error)),
      );
    return flight;
  }
}

export const singleFlight = <V>(load: (key: string) => Promise<V>, deadlineMs: number): SingleFlight<V> =>
  new Flights(load, deadlineMs);
