/** In production: no key is longer than this (bytes). */
export const MAX_KEY_BYTES = 200;

/**
 * In production: the characters that a key may hold. Printable ASCII without blanks and quotes, without `* ? [ ] \`, which
 * are a pattern to SCAN, KEYS and ACL rules, and without `{ }`, which choose the slot in a cluster.
 */
export const SAFE_KEY = /^[!#-&()+->@-Z^_a-z|~]+$/;

/** `1`, `'1'` and `true` are three different arguments; so are `null`, `'null'`, `''` and an absent one. Numbers are finite. */
export type KeyArgument = string | number | boolean | null;

export interface KeyParts {
  /** Names the kind of entry: `product`, `search`. */
  readonly namespace: string;
  /** Names the customer whose data it is. */
  readonly tenant: string;
  readonly locale: string;
  /** The arguments of the read, by name. An argument that is `undefined` counts as absent. */
  readonly args?: Readonly<Record<string, KeyArgument | undefined>>;
}

/** In production: a part of the key is missing, empty, or not of its type. */
export class InvalidKeyError extends TypeError {
  override readonly name = 'InvalidKeyError';

  constructor(part: string) {
    super(`the key cannot be built: check its part "${part}"`);
  }
}

/** A codec keeps these. A field that is `undefined` counts as absent, and -0 may come out as 0. */
export type Value =
  | null
  | boolean
  | number
  | bigint
  | string
  | Date
  | readonly Value[]
  | { readonly [field: string]: Value | undefined };

/** In production: the value cannot come back as it is. */
export class UnsupportedValueError extends TypeError {
  override readonly name = 'UnsupportedValueError';

  constructor(value: unknown) {
    super(`the codec cannot keep ${described(value)}`);
  }
}

/** An object by its class: its own text may be all that it holds. */
function described(value: unknown): string {
  if (typeof value === 'function') return 'a function';
  if (typeof value !== 'object' || value === null) return String(value);
  return `an instance of ${value.constructor?.name || 'a class without a name'}`;
}

/** In production: also `other-version` and `corrupt`. */
export type Decoded<T> =
  | { readonly kind: 'value'; readonly value: T }
  /** Written by another version of the shape, older or newer. */
  | { readonly kind: 'other-version' }
  /** Bytes that `encode` would not write. */
  | { readonly kind: 'corrupt' };

export interface Codec<T> {
  /** The bytes to store. In production: throws an {@link UnsupportedValueError} when the value would not come back equal. */
  encode(value: T): Buffer;
  /** The value that was encoded. In production: never throws. */
  decode(bytes: Buffer): Decoded<T>;
}

/** In production: a miss says why, so that it can be counted. */
export type Lookup<T> =
  | { readonly hit: true; readonly value: T }
  | { readonly hit: false; readonly why: 'absent' | 'other-version' | 'corrupt' };
