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
  throw new Error('not implemented');
}
