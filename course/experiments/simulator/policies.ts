import { type Blocks, blocksOf, type Trace } from './blocks';
import { Belady } from './policies/belady';
import type { Cache } from './policies/cache';
import { Fifo } from './policies/fifo';
import { Lfu } from './policies/lfu';
import { Lru } from './policies/lru';
import { S3Fifo } from './policies/s3-fifo';
import { Sieve } from './policies/sieve';
import { WTinyLfu } from './policies/w-tinylfu';
import type { Steps } from './steps';

export interface Policy {
  readonly name: string;
  /** @param distinct the keys of the trace: 0 to `distinct` − 1 */
  make(capacity: number, distinct: number): Cache;
}

/** In the order in which they are drawn. */
export const POLICIES: readonly Policy[] = [
  { name: 'LRU', make: (capacity, distinct) => new Lru(capacity, distinct) },
  { name: 'FIFO', make: (capacity, distinct) => new Fifo(capacity, distinct) },
  { name: 'LFU', make: (capacity, distinct) => new Lfu(capacity, distinct) },
  { name: 'SIEVE', make: (capacity, distinct) => new Sieve(capacity, distinct) },
  { name: 'S3-FIFO', make: (capacity, distinct) => new S3Fifo(capacity, distinct) },
  { name: 'W-TinyLFU', make: (capacity, distinct) => new WTinyLfu(capacity, distinct) },
];

export const BELADY = 'Belady';

/** The misses of a whole trace. */
export function* misses({ make }: Policy, capacity: number, trace: Trace): Steps<number> {
  const cache = make(capacity, trace.distinct);
  let total = 0;
  for (let block = 0; block < blocksOf(trace); block++) {
    total += cache.replay(trace.keys.read(block));
    yield;
  }
  return total;
}

/** The same for the ceiling. @param nextUses as `writeNextUses` leaves them */
export function* beladyMisses(capacity: number, trace: Trace, nextUses: Blocks): Steps<number> {
  const cache = new Belady(capacity, trace.distinct);
  let total = 0;
  for (let block = 0; block < blocksOf(trace); block++) {
    total += cache.replay(trace.keys.read(block), nextUses.read(block));
    yield;
  }
  return total;
}
