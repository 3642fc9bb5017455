import { LIMIT, type Load } from '../given';

export class Memo {
  readonly #values = new Map<string, string>();
  readonly #inFlight = new Map<string, Promise<string>>();

  constructor(private readonly load: Load) {}

  async get(key: string): Promise<string> {
    const known = this.#values.get(key) ?? this.#inFlight.get(key);
    if (known !== undefined) return known;
    const loading = this.load(key).finally(() => this.#inFlight.delete(key));
    this.#inFlight.set(key, loading);
    const value = await loading;
    this.#values.set(key, value);
    for (const oldest of this.#values.keys()) {
      if (this.#values.size > LIMIT) this.#values.delete(oldest);
    }
    return value;
  }
}
