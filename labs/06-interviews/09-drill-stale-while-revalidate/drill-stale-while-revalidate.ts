import type { Options } from './given';

/** Values of a slow source, in the memory of this process. A value that is no longer fresh is refreshed behind its readers. */
export class StaleCache<V> {
  constructor(options: Options<V>) {
    throw new Error('not implemented');
  }

  /** @throws what the load throws, when there is no value that may be served */
  get(key: string): Promise<V> {
    throw new Error('not implemented');
  }

  /** The value has changed: what was loaded before, or is being loaded now, is served to no later reader. */
  invalidate(key: string): void {
    throw new Error('not implemented');
  }
}
