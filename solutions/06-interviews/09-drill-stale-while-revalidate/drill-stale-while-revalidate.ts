import { type Options, withDeadline } from './given';

interface Entry<V> {
  readonly value: V;
  readonly storedAt: number;
  /** No refresh begins before. */
  refreshAt: number;
}

/** Values of a slow source, in the memory of this process. A value that is no longer fresh is refreshed in the background. */
export class StaleCache<V> {
  readonly #options: Options<V>;
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry<V>>();
  readonly #loading = new Map<string, Promise<V>>();

  constructor(options: Options<V>) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** @throws the error of the load, when there is no value that may be served */
  async get(key: string): Promise<V> {
    const { freshMs, staleMs } = this.#options;
    const entry = this.#entries.get(key);
    if (!entry || this.#now() >= entry.storedAt + freshMs + staleMs) return this.#load(key);
    if (this.#now() >= entry.refreshAt) this.#refresh(key, entry);
    return entry.value;
  }

  /** The value has changed: later readers get neither the stored value nor that of a running load. */
  invalidate(key: string): void {
    this.#entries.delete(key);
    this.#loading.delete(key);
  }

  #refresh(key: string, entry: Entry<V>): void {
    this.#load(key).catch(() => {
      entry.refreshAt = this.#now() + this.#options.retryMs;
    });
  }

  /** One at a time for a key. A load that is no longer the current one stores nothing. */
  #load(key: string): Promise<V> {
    const running = this.#loading.get(key);
    if (running) return running;
    const isCurrent = () => this.#loading.get(key) === loading;
    const load = async () => this.#options.load(key);
    const loading = withDeadline(load(), this.#options.loadDeadlineMs)
      .then((value) => {
        if (isCurrent()) this.#store(key, value);
        return value;
      })
      .finally(() => {
        if (isCurrent()) this.#loading.delete(key);
      });
    this.#loading.set(key, loading);
    return loading;
  }

  #store(key: string, value: V): void {
    const storedAt = this.#now();
    this.#entries.delete(key);
    this.#entries.set(key, { value, storedAt, refreshAt: storedAt + this.#options.freshMs });
    const [oldest] = this.#entries.keys();
    if (oldest !== undefined && this.#entries.size > this.#options.maxEntries) this.#entries.delete(oldest);
  }
}
