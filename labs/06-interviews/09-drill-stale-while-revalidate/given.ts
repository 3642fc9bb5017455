/** A promise with a deadline, by a real timer: `withDeadline(load(key), ms)` rejects after `ms`. */
export { withDeadline } from '#kit/given';

/** All times in ms. */
export interface Options<V> {
  readonly load: (key: string) => Promise<V>;
  /** How long a value is fresh. */
  readonly freshMs: number;
  /** How long after that it may still be served. */
  readonly staleMs: number;
  /** A load that takes longer, by a real timer, has failed. */
  readonly loadDeadlineMs: number;
  /** The pause between a failed refresh and the next one of the same key. */
  readonly retryMs: number;
  readonly maxEntries: number;
  /** The clock for the age of values and for the pause. */
  readonly now?: () => number;
}
