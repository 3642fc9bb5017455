/** How many numbers are read or written at once. */
export const BLOCK = 65_536;

/** Whole numbers below 2^31, too many to be in memory at once: written and read in blocks. */
export interface Blocks {
  /** @returns up to BLOCK numbers, good until the next call */
  read(index: number): Int32Array;
  /** @param numbers BLOCK of them, or fewer in the last block */
  write(index: number, numbers: Int32Array): void;
}

/** The requests for keys in their order. A key is a number from 0 to `distinct` − 1, in the order of first use. */
export interface Trace {
  readonly requests: number;
  readonly distinct: number;
  readonly keys: Blocks;
}

export const blocksOf = (trace: Trace): number => Math.ceil(trace.requests / BLOCK);

export class MemoryBlocks implements Blocks {
  readonly #blocks: Int32Array[] = [];

  read(index: number): Int32Array {
    return this.#blocks[index] ?? new Int32Array();
  }

  write(index: number, numbers: Int32Array): void {
    this.#blocks[index] = numbers.slice();
  }
}

/** A trace that is in memory: of any keys that a Map tells apart. */
export function traceOf(requests: Iterable<unknown>): Trace {
  const ids = new Map<unknown, number>();
  const numbers: number[] = [];
  for (const key of requests) {
    const id = ids.get(key) ?? ids.size;
    ids.set(key, id);
    numbers.push(id);
  }
  const keys = new MemoryBlocks();
  for (let from = 0; from < numbers.length; from += BLOCK) {
    keys.write(from / BLOCK, Int32Array.from(numbers.slice(from, from + BLOCK)));
  }
  return { requests: numbers.length, distinct: ids.size, keys };
}
