import { BLOCK, type Blocks, blocksOf, type Trace } from './blocks';
import { NEVER } from './policies/belady';
import type { Steps } from './steps';

/** For each request the position at which its key comes again: from the last to the first. */
export function* writeNextUses(trace: Trace, into: Blocks): Steps<void> {
  const seenAt = new Int32Array(trace.distinct).fill(NEVER);
  for (let block = blocksOf(trace) - 1; block >= 0; block--) {
    const keys = trace.keys.read(block);
    const nextUses = new Int32Array(keys.length);
    for (let at = keys.length - 1; at >= 0; at--) {
      const key = keys[at] as number;
      nextUses[at] = seenAt[key] as number;
      seenAt[key] = block * BLOCK + at;
    }
    into.write(block, nextUses);
    yield;
  }
}
