/** Remembers what was loaded for each key. */
export class Memo {
  readonly #values = new Map<string, string>();
  readonly #load: (key: string) => Promise<string>;

  constructor(load: (key: string) => Promise<string>) {
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
