import { blocksOf, type Trace } from './blocks';
import { finish, type Steps } from './steps';

/** The misses of a policy over the size of the cache. */
export interface MissCurve {
  /** Of the trace's requests, the share that a cache of `size` entries misses, 0…1. The first use of a key is a miss. */
  missRatioAt(size: number): number;
}

/**
 * LRU at every size, exactly, in one pass: a request hits in every cache that is at least as large as its stack distance,
 * which is the number of distinct keys since the last request for its key, its own included.
 *
 * R. L. Mattson et al., "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970.
 */
export class LruCurve implements MissCurve {
  readonly requests: number;
  readonly distinct: number;
  /** At each size; at 0 all requests. */
  readonly #misses: Float64Array;

  constructor({ requests, distinct }: Trace, misses: Float64Array) {
    this.requests = requests;
    this.distinct = distinct;
    this.#misses = misses;
  }

  missesAt(size: number): number {
    return this.#misses[Math.min(Math.floor(size), this.distinct)] as number;
  }

  missRatioAt(size: number): number {
    return this.requests === 0 ? 0 : this.missesAt(size) / this.requests;
  }
}

/** The exact miss-ratio curve of LRU. */
export const lruCurve = (trace: Trace): LruCurve => finish(lruCurveSteps(trace));

export function* lruCurveSteps(trace: Trace): Steps<LruCurve> {
  const hitsAt = new Float64Array(trace.distinct + 1);
  const distances = new StackDistances(trace.distinct);
  for (let block = 0; block < blocksOf(trace); block++) {
    for (const key of trace.keys.read(block)) {
      const distance = distances.next(key);
      if (distance > 0) hitsAt[distance] = (hitsAt[distance] as number) + 1;
    }
    yield;
  }
  let misses = trace.requests;
  const missesAt = hitsAt.map((hits) => {
    misses -= hits;
    return misses;
  });
  return new LruCurve(trace, missesAt);
}

/**
 * Each request gets the next slot, and only the last slot of a key is marked. A tree of sums (P. M. Fenwick, 1994) counts the
 * marks behind a slot. When the slots are used up, the marked ones are moved together: memory grows with the keys alone.
 */
class StackDistances {
  readonly #slots: number;
  /** Slots count from 1, as the tree's sums need it; 0: not seen yet. */
  readonly #slotOf: Int32Array;
  readonly #keyAt: Int32Array;
  readonly #sums: Int32Array;
  #used = 0;
  #seen = 0;

  constructor(distinct: number) {
    this.#slots = 2 * distinct + 1024;
    this.#slotOf = new Int32Array(distinct);
    this.#keyAt = new Int32Array(this.#slots + 1);
    this.#sums = new Int32Array(this.#slots + 1);
  }

  /** The stack distance of a request, 1 or more; 0 for the first one of its key. */
  next(key: number): number {
    if (this.#used === this.#slots) this.#moveTogether();
    const before = this.#slotOf[key] as number;
    const distance = before === 0 ? 0 : this.#seen - this.#marksUpTo(before) + 1;
    if (before === 0) this.#seen++;
    else this.#add(before, -1);
    this.#mark(++this.#used, key);
    this.#add(this.#used, 1);
    return distance;
  }

  #mark(slot: number, key: number): void {
    this.#slotOf[key] = slot;
    this.#keyAt[slot] = key;
  }

  #marksUpTo(slot: number): number {
    let marks = 0;
    for (let at = slot; at > 0; at &= at - 1) marks += this.#sums[at] as number;
    return marks;
  }

  #add(slot: number, mark: number): void {
    for (let at = slot; at <= this.#slots; at += at & -at) this.#sums[at] = (this.#sums[at] as number) + mark;
  }

  #moveTogether(): void {
    let to = 0;
    for (let slot = 1; slot <= this.#used; slot++) {
      const key = this.#keyAt[slot] as number;
      if (this.#slotOf[key] === slot) this.#mark(++to, key);
    }
    this.#used = to;
    // The sum at a slot is of as many slots as its lowest bit says; the first `to` are marked.
    for (let at = 1; at <= this.#slots; at++) {
      const first = at - (at & -at) + 1;
      this.#sums[at] = Math.max(0, Math.min(at, to) - first + 1);
    }
  }
}
