import { type Digest, digest } from '../given';

/** The two halves as 64-bit integers, which cannot be negative. Slower, and right for a filter of any size. */
export class BloomFilter {
  readonly bytes: Uint8Array;
  readonly #bits: bigint;
  readonly #probes: bigint;
  readonly #hash: Digest;

  constructor(items: number, falsePositiveRate: number, hash: Digest = digest) {
    const bitsPerItem = -Math.log(falsePositiveRate) / Math.LN2 ** 2;
    this.bytes = new Uint8Array(Math.ceil((items * bitsPerItem) / 8));
    this.#bits = BigInt(this.bytes.length * 8);
    this.#probes = BigInt(Math.max(1, Math.round(bitsPerItem * Math.LN2)));
    this.#hash = hash;
  }

  add(item: string): void {
    for (const [at, mask] of this.#places(item)) this.bytes[at] = Number(this.bytes[at]) | mask;
  }

  mightContain(item: string): boolean {
    for (const [at, mask] of this.#places(item)) if (!(Number(this.bytes[at]) & mask)) return false;
    return true;
  }

  *#places(item: string): Generator<[at: number, mask: number]> {
    const hashed = this.#hash(item);
    const [first, step] = [hashed.readBigUInt64BE(0), hashed.readBigUInt64BE(8)];
    for (let i = 0n; i < this.#probes; i++) {
      const place = (first + i * step) % this.#bits;
      yield [Number(place / 8n), 1 << Number(place % 8n)];
    }
  }
}
