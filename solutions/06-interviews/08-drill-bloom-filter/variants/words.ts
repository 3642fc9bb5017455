import { type Digest, digest } from '../given';

/** Words of 32 bits, and enhanced double hashing: the step grows, so that a step of 0 does not stay at one place. */
export class BloomFilter {
  readonly bytes: Uint8Array;
  private readonly words: Uint32Array;
  private readonly probes: number;

  constructor(
    items: number,
    falsePositiveRate: number,
    private readonly hash: Digest = digest,
  ) {
    this.probes = Math.max(1, Math.ceil(-Math.log2(falsePositiveRate)));
    this.words = new Uint32Array(Math.ceil((items * -Math.log2(falsePositiveRate)) / Math.LN2 / 32));
    this.bytes = new Uint8Array(this.words.buffer);
  }

  add(item: string): void {
    this.walk(item, (word, mask) => {
      this.words[word] = Number(this.words[word]) | mask;
      return true;
    });
  }

  mightContain(item: string): boolean {
    return this.walk(item, (word, mask) => (Number(this.words[word]) & mask) !== 0);
  }

  private walk(item: string, visit: (word: number, mask: number) => boolean): boolean {
    const bits = this.words.length * 32;
    const bytes = this.hash(item);
    let place = bytes.readUInt32BE(8) % bits;
    let step = bytes.readUInt32BE(12) % bits;
    for (let i = 1; i <= this.probes; i++) {
      if (!visit(place >>> 5, 1 << (place & 31))) return false;
      place = (place + step) % bits;
      step = (step + i) % bits;
    }
    return true;
  }
}
