import { LIMIT, type Load } from './given';

/** Remembers what was loaded for each key. In production: of `LIMIT` keys. */
export class Memo {
  readonly #values = new Map<string, Promise<string>>();
  readonly #load: Load;

  constructor(load: Load) {
    this.#load = load;
  }

  // #region get
  /** The value of a key: loaded once, and then remembered. @throws what the load rejects with */
  get(key: string): Promise<string> {
    const known = this.#values.get(key);
    if (known) return known;

    const [oldest = ''] = this.#values.keys();
    if (this.#values.size >= LIMIT) this.#values.delete(oldest);
    const value = this.#load(key);
    this.#values.set(key, value);
    value.catch(() => this.#values.delete(key));
    return value;
  }
  // #endregion
}
