import { type Digest, digest } from './given';

/** A set of strings: its "no" is certain, its "yes" may be wrong. */
export class BloomFilter {
  /** Its bits: all that it stores about its items. */
  readonly bytes: Uint8Array;

  /**
   * @param items the planned number of items
   * @param falsePositiveRate the share of wrong answers among strings that were not added, when it holds `items`
   * @param hash 16 bytes for a string; slow, and slower for longer strings
   */
  constructor(items: number, falsePositiveRate: number, hash: Digest = digest) {
    throw new Error('not implemented');
  }

  add(item: string): void {
    throw new Error('not implemented');
  }

  mightContain(item: string): boolean {
    throw new Error('not implemented');
  }
}
