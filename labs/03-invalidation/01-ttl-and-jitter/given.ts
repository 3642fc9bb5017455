/** A value in a layer. The layer keeps it as text: {@link encode}, {@link decode}. */
export interface Entry<V = unknown> {
  /** JSON data. */
  readonly value: V;
  /** When it ends, in whole ms since the epoch. It travels with the value. */
  readonly deadline: number;
}

export interface Draw {
  /** How far a lifetime may differ from its base, as a share of it: 0.1 is ±10 %. */
  readonly spread: number;
  /** In production: when the load began, in whole ms since the epoch. Default: now. */
  readonly since?: number;
}

/** A cache in the process: a Map, or the LRU of lesson 1.4. It holds texts. */
export type Local = Pick<Map<string, string>, 'get' | 'set' | 'delete'>;

export interface Options {
  /** Evenly spread, from 0 to below 1. */
  readonly random?: () => number;
  /** Whole ms since the epoch. The clock of Redis need not agree. */
  readonly now?: () => number;
  /** In production: called with the error of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
}

/** What a client makes of bytes that are not UTF-8. */
const NOT_UTF_8 = '\uFFFD';

/** The text of an entry, in Redis and in the process. */
export const encode = (entry: Entry): string => JSON.stringify(entry).replaceAll(NOT_UTF_8, '\\ufffd');

/** The reverse of `encode`. @throws TypeError or SyntaxError when the text is not an entry */
export function decode<V>(text: string): Entry<V> {
  const entry: Partial<Entry<V>> | null = JSON.parse(text);
  const { value, deadline } = entry ?? {};
  if (value === undefined || !Number.isFinite(deadline) || text.includes(NOT_UTF_8)) {
    throw new TypeError('not an entry');
  }
  return { value, deadline: Number(deadline) };
}
