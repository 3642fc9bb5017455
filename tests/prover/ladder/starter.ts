import type { Load } from './given';

/** Remembers what was loaded for each key. In production: of `LIMIT` keys. */
export class Memo {
  constructor(load: Load) {}

  /** The value of a key: loaded once, and then remembered. @throws what the load rejects with */
  async get(key: string): Promise<string> {
    throw new Error('not implemented');
  }
}
