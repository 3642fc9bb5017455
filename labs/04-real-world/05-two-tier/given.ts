/** Where Redis publishes the keys that have changed, to a connection that tracks them. */
export const INVALIDATIONS = '__redis__:invalidate';

/**
 * In production: the second argument of the event `messageBuffer` for such a message, although its type says otherwise:
 * the keys that have changed, or null when all keys are gone (FLUSHALL, FLUSHDB).
 */
export type ChangedKeys = readonly Buffer[] | null;

/** A bounded map. It drops the least recently used key first. */
export class Lru<V> {
  readonly #values = new Map<string, V>();
  readonly #maxKeys: number;

  constructor(maxKeys: number) {
    this.#maxKeys = maxKeys;
  }

  /** The value, or undefined; a key that is found becomes the most recently used. */
  get(key: string): V | undefined {
    const value = this.#values.get(key);
    if (value === undefined) return undefined;
    this.#values.delete(key);
    this.#values.set(key, value);
    return value;
  }

  set(key: string, value: V): void {
    this.#values.delete(key);
    this.#values.set(key, value);
    for (const oldest of this.#values.keys()) {
      if (this.#values.size <= this.#maxKeys) return;
      this.#values.delete(oldest);
    }
  }

  delete(key: string): void {
    this.#values.delete(key);
  }

  clear(): void {
    this.#values.clear();
  }
}
