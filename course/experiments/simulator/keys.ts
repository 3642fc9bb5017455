import { Refusal } from '../../base/refusal';

/** What an offset of 32 bits can say. */
const BYTES_AT_MOST = 2 ** 32 - 1;

/**
 * Gives each distinct key a number: 0, 1, 2 … in the order in which they come. A key is bytes, and two keys are the same if
 * all of their bytes are: `1`, `01` and `1.0` are three keys. All bytes are in one buffer, and a hash table has the numbers.
 */
export class Keys {
  #size = 0;
  #bytes = new Uint8Array(1 << 16);
  #used = 0;
  /** Where the bytes of a key end; they begin where those of the key before it end. */
  #ends = new Uint32Array(1 << 10);
  #hashes = new Int32Array(1 << 10);
  /** Numbers plus 1; 0 is free. Never more than half full. */
  #table = new Int32Array(1 << 11);

  get size(): number {
    return this.#size;
  }

  /** Of all distinct keys together. */
  get bytes(): number {
    return this.#used;
  }

  /** @param source holds the key from `from` to before `to` */
  numberOf(source: Uint8Array, from: number, to: number): number {
    const hash = hashOf(source, from, to);
    const mask = this.#table.length - 1;
    let slot = hash & mask;
    for (let entry = this.#table[slot] as number; entry !== 0; entry = this.#table[slot] as number) {
      const number = entry - 1;
      if (this.#hashes[number] === hash && this.#isAt(number, source, from, to)) return number;
      slot = (slot + 1) & mask;
    }
    return this.#add(slot, hash, source.subarray(from, to));
  }

  #isAt(number: number, source: Uint8Array, from: number, to: number): boolean {
    const begin = number === 0 ? 0 : (this.#ends[number - 1] as number);
    if ((this.#ends[number] as number) - begin !== to - from) return false;
    for (let at = from; at < to; at++) if (this.#bytes[begin + at - from] !== source[at]) return false;
    return true;
  }

  #add(slot: number, hash: number, key: Uint8Array): number {
    const number = this.#size++;
    this.#table[slot] = number + 1;
    const end = this.#used + key.length;
    if (end > BYTES_AT_MOST) {
      throw new Refusal(
        'The distinct keys of the trace have more than 4 GB. Cut the trace into shorter ones.',
      );
    }
    if (end > this.#bytes.length) this.#bytes = grown(this.#bytes, Math.max(2 * this.#bytes.length, end));
    this.#bytes.set(key, this.#used);
    this.#used = end;
    if (number === this.#ends.length) {
      this.#ends = grown(this.#ends, 2 * number);
      this.#hashes = grown(this.#hashes, 2 * number);
    }
    this.#ends[number] = this.#used;
    this.#hashes[number] = hash;
    if (2 * this.#size > this.#table.length) this.#spread();
    return number;
  }

  #spread(): void {
    this.#table = new Int32Array(2 * this.#table.length);
    const mask = this.#table.length - 1;
    for (let number = 0; number < this.#size; number++) {
      let slot = (this.#hashes[number] as number) & mask;
      while (this.#table[slot] !== 0) slot = (slot + 1) & mask;
      this.#table[slot] = number + 1;
    }
  }
}

/** FNV-1a. */
function hashOf(source: Uint8Array, from: number, to: number): number {
  let hash = 0x811c9dc5 | 0;
  for (let at = from; at < to; at++) hash = Math.imul(hash ^ (source[at] as number), 0x01000193);
  return hash ^ (hash >>> 15);
}

function grown<A extends Uint8Array | Uint32Array | Int32Array>(array: A, length: number): A {
  const larger = new (array.constructor as new (length: number) => A)(length);
  larger.set(array);
  return larger;
}
