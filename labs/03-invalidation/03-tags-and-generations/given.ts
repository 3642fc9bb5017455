/** The fields of a question, by name: `{ text: 'mug', page: 1 }`. */
export type Question = Readonly<Record<string, string | number | boolean>>;

/** Asks the source. In production: `signal` is aborted when the load has taken too long. */
export type Load<V> = (signal?: AbortSignal) => Promise<V>;

/** The key of a tag's generation. The braces keep all generations of a cache in one cluster slot: MGET needs that. */
export const generationKey = (name: string, tag: string): string => `{${name}}:generation:${tag}`;

/** The JSON text of a value. @throws TypeError for a value that JSON cannot hold, such as undefined or a bigint */
export function encode(value: unknown): string {
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`JSON cannot hold a value of type ${typeof value}`);
  return text;
}

export class LoadTimeoutError extends Error {
  override readonly name = 'LoadTimeoutError';

  constructor(ms: number) {
    super(`the load took longer than ${ms} ms`);
  }
}
