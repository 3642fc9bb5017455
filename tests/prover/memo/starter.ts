/** Remembers what was loaded for each key. */
export class Memo {
  constructor(_load: (key: string) => Promise<string>) {}

  async get(_key: string): Promise<string> {
    throw new Error('not implemented');
  }
}
