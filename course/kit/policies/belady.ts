import { MaxHeap } from 'mnemonist';
import { requireCapacity } from './policy';
import { count, type Replay } from './replay';

/**
 * The ceiling: no policy that must put in every key it misses has more hits. It evicts the key whose next use is
 * furthest away, so it needs the whole trace beforehand and is no `Policy`.
 *
 * L. A. Belady, "A study of replacement algorithms for a virtual-storage computer", IBM Systems Journal 5(2), 1966.
 */
export function belady<K>(trace: readonly K[], capacity: number): Replay {
  requireCapacity(capacity);
  const nextUse = nextUses(trace);
  const held = new Set<K>();
  /** Held keys that are never used again: any of them goes first. */
  const useless: K[] = [];
  /**
   * Next uses of the held keys. A use that has passed stays in it, but below all that are still to come:
   * it is never on top when a key is evicted.
   */
  const upcoming = new MaxHeap<number>();
  let hits = 0;

  trace.forEach((key, i) => {
    if (held.has(key)) hits++;
    else {
      if (held.size === capacity) held.delete(useless.pop() ?? (trace[upcoming.pop() as number] as K));
      held.add(key);
    }
    const next = nextUse[i] as number;
    if (next < trace.length) upcoming.push(next);
    else useless.push(key);
  });
  return count(trace.length, hits);
}

/** For each position of the trace, where its key comes next; the trace's length if it does not. */
function nextUses<K>(trace: readonly K[]): Uint32Array {
  const nextUse = new Uint32Array(trace.length);
  const seenAt = new Map<K, number>();
  for (let i = trace.length - 1; i >= 0; i--) {
    const key = trace[i] as K;
    nextUse[i] = seenAt.get(key) ?? trace.length;
    seenAt.set(key, i);
  }
  return nextUse;
}
