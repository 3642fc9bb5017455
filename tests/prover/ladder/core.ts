import type { Load } from './given';

export class Memo {
  readonly #values = new Map<string, string>();
  readonly #load: Load;

  constructor(load: Load) {
    this.#load = load;
  }

  // #region get
  async get(key: string): Promise<string> {
    const known = this.#values.get(key);
    if (known !== undefined) return known;

    const value = await this.#load(key);
    this.#values.set(key, value);
    return value;
  }
  // #endregion
}
