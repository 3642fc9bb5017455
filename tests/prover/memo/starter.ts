/** Remembers what was loaded for each key. */
export class Memo {
  constructor(load: (key: string) => Promise<string>) {}

  async get(key: string): Promise<string> {
    throw new Error('not implemented');
  }
}
