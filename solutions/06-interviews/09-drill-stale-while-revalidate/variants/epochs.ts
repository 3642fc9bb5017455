import { type Options, withDeadline } from '../given';

/** Each load takes a number when it begins. Its value is stored if no invalidation and no later load came in between. */
export class StaleCache<V> {
  readonly #options: Options<V>;
  readonly #values = new Map<string, { value: V; at: number }>();
  readonly #running = new Map<string, { number: number; promise: Promise<V> }>();
  readonly #pausedUntil = new Map<string, number>();
  #numbers = 0;

  constructor(options: Options<V>) {
    this.#options = options;
  }

  async get(key: string): Promise<V> {
    const { freshMs, staleMs, now = Date.now } = this.#options;
    const known = this.#values.get(key);
    if (known === undefined || now() - known.at > freshMs + staleMs) return this.#join(key);
    const isPaused = (this.#pausedUntil.get(key) ?? 0) > now();
    if (now() - known.at > freshMs && !isPaused) void this.#join(key).catch(() => {});
    return known.value;
  }

  invalidate(key: string): void {
    this.#forget(key);
    this.#running.delete(key);
  }

  #join(key: string): Promise<V> {
    const running = this.#running.get(key);
    if (running) return running.promise;
    const number = ++this.#numbers;
    const promise = this.#run(key, number);
    this.#running.set(key, { number, promise });
    return promise;
  }

  async #run(key: string, number: number): Promise<V> {
    const { load, loadDeadlineMs, retryMs, maxEntries, now = Date.now } = this.#options;
    // Not before #join has noted the number.
    await null;
    const finish = (): boolean => {
      const isCurrent = this.#running.get(key)?.number === number;
      if (isCurrent) this.#running.delete(key);
      return isCurrent;
    };
    try {
      const value = await withDeadline(load(key), loadDeadlineMs);
      if (finish()) {
        this.#forget(key);
        this.#values.set(key, { value, at: now() });
        for (const oldest of this.#values.keys()) if (this.#values.size > maxEntries) this.#forget(oldest);
      }
      return value;
    } catch (error) {
      if (finish() && this.#values.has(key)) this.#pausedUntil.set(key, now() + retryMs);
      throw error;
    }
  }

  #forget(key: string): void {
    this.#values.delete(key);
    this.#pausedUntil.delete(key);
  }
}
