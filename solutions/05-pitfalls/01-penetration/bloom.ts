/** How a filter makes its positions from the hash of a code. */
export interface Shape {
  readonly bits: number;
  readonly hashes: number;
  /** As JavaScript gives the result of `|`: half of the steps are negative. */
  readonly signed?: boolean;
}

/** The same filter in memory, for any number of bits and hashes. Positions by double hashing. */
export class Bloom {
  readonly #bytes: Uint8Array;
  readonly #shape: Shape;

  constructor(shape: Shape) {
    this.#shape = shape;
    this.#bytes = new Uint8Array(Math.ceil(shape.bits / 8));
  }

  /** @param hash of a code */
  add(hash: Buffer): void {
    for (const position of this.#positions(hash)) {
      const byte = position >> 3;
      // As in JavaScript: what is written outside of the array is lost.
      this.#bytes[byte] = (this.#bytes[byte] ?? 0) | (1 << (position & 7));
    }
  }

  mayHave(hash: Buffer): boolean {
    return this.#positions(hash).every(
      (position) => ((this.#bytes[position >> 3] ?? 0) & (1 << (position & 7))) !== 0,
    );
  }

  #positions(hash: Buffer): number[] {
    const start = hash.readUInt32LE(0);
    const odd = hash.readUInt32LE(4) | 1;
    const step = this.#shape.signed ? odd : odd >>> 0;
    return Array.from({ length: this.#shape.hashes }, (_, nth) => (start + nth * step) % this.#shape.bits);
  }
}

/** The share of codes that pass although they were never added, by theory. */
export const theory = (bitsPerCode: number, hashes: number): number =>
  (1 - Math.exp(-hashes / bitsPerCode)) ** hashes;

export const bestHashes = (bitsPerCode: number): number => Math.round(bitsPerCode * Math.LN2);
