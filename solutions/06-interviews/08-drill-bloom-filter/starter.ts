import { type Digest, digest } from './given';

/** A set of strings whose "no" is certain, and whose "yes" may be wrong. */
export class BloomFilter {
  /** Its bits, which are all that it knows of its items. */
  readonly bytes: Uint8Array;

  /**
   * @param items how many it is made for
   * @param falsePositiveRate the share of wrong answers among strings that were not added, when it holds `items`
   * @param hash 16 bytes of a string; each call takes time that grows with the string
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
