import type { Policy } from './policy';

export interface Replay {
  readonly requests: number;
  readonly hits: number;
  /** The first request for a key is a miss too: no warm-up is left out. */
  readonly misses: number;
  /** Hits of all requests, 0…1; 0 for an empty trace. */
  readonly hitRatio: number;
}

/** Sends every key of `trace` through `policy`. */
export function replay<K>(policy: Policy<K>, trace: Iterable<K>): Replay {
  let requests = 0;
  let hits = 0;
  for (const key of trace) {
    requests++;
    if (policy.access(key).hit) hits++;
  }
  return count(requests, hits);
}

export function count(requests: number, hits: number): Replay {
  return { requests, hits, misses: requests - hits, hitRatio: requests === 0 ? 0 : hits / requests };
}
