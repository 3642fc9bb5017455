import { parseJson } from '#kit/given';

/** What JSON makes of a V, and nobody can change: a Date has become a string, in the type too. */
export type Cached<V> = V extends string | number | boolean | null
  ? V
  : V extends { toJSON(): infer J }
    ? Cached<J>
    : V extends object
      ? { readonly [K in keyof V]: Cached<V[K]> }
      : never;

/** The value, frozen: all callers may share it. undefined for bytes that are not JSON in UTF-8. */
export const decode = (bytes: Uint8Array): unknown => freeze(parseJson(bytes));

function freeze(value: unknown): unknown {
  if (typeof value === 'object' && value !== null) Object.values(Object.freeze(value)).forEach(freeze);
  return value;
}
