import { type Digest, digest } from './given';

/** A set of strings: its "no" is certain, its "yes" may be wrong. */
export class BloomFilter {
  /** Its bits: all that it stores about its items. */
  readonly bytes: Uint8Array;
  readonly #bits: number;
  readonly #probes: number;
  readonly #hash: Digest;

  /**
   * @param items the planned number of items
   * @param falsePositiveRate the share of wrong answers among strings that were not added, when it holds `items`
   * @param hash 16 bytes for a string; slow, and slower for longer strings
   */
  constructor(items: number, falsePositiveRate: number, hash: Digest = digest) {
    this.#bits = Math.ceil((-items * Math.log(falsePositiveRate)) / Math.LN2 ** 2);
    this.#probes = Math.max(1, Math.round((this.#bits / items) * Math.LN2));
    this.bytes = new Uint8Array(Math.ceil(this.#bits / 8));
    this.#hash = hash;
  }

  add(item: string): void {
    for (const bit of this.#places(item)) this.bytes[bit >>> 3] = this.#byte(bit) | (1 << (bit & 7));
  }

  mightContain(item: string): boolean {
    return this.#places(item).every((bit) => (this.#byte(bit) & (1 << (bit & 7))) !== 0);
  }

  #byte(bit: number): number {
    return this.bytes[bit >>> 3] ?? 0;
  }

  /** Double hashing: two halves of one hash make as many places as are needed. */
  #places(item: string): number[] {
    const bytes = this.#hash(item);
    // Unsigned: a negative place is outside of the filter.
    const [first, step] = [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
    return Array.from({ length: this.#probes }, (_, i) => (first + i * step) % this.#bits);
  }
}
