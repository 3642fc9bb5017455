import type { Cache, Options } from './given';

/** One cache for all processes: L1 in each process, L2 in Redis. Begin with `{ ...DEFAULTS, ...options }`. */
export function createCache(options: Options): Cache {
  throw new Error('not implemented');
}
