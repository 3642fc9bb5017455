export interface SingleFlight<V> {
  /**
   * What `load(key)` gives. Callers that come while it is under way share its result; its end forgets it.
   * `signal` ends the wait of this caller only, with its reason.
   */
  run(key: string, signal?: AbortSignal): Promise<V>;
  /** The callers that wait keep their load. The next caller starts a new one. */
  forget(key: string): void;
  /** The number of keys with a load that the next caller would join. */
  readonly size: number;
}

/** A load that takes longer than `deadlineMs` is given up: its callers get an error, and the next one starts a new load. */
export function singleFlight<V>(load: (key: string) => Promise<V>, deadlineMs: number): SingleFlight<V> {
  throw new Error('not implemented');
}
