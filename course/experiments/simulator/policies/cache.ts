/**
 * A cache of a fixed size that is shown requests. Here a key is a number from 0 to `distinct` − 1, and all state is in
 * typed arrays: several times faster than the policies of `#kit/policies`, which take any key and name what they evict.
 */
export interface Cache {
  /** Shows it the next requests of the trace. @returns how many of them were misses; the first use of a key is one */
  replay(keys: Int32Array): number;
}
