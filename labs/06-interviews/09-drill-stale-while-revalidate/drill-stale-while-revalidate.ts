import type { Options } from './given';

/** Values of a slow source, in the memory of this process. A value that is no longer fresh is refreshed in the background. */
export class StaleCache<V> {
  constructor(options: Options<V>) {
    throw new Error('not implemented');
  }

  /** @throws the error of the load, when there is no value that may be served */
  get(key: string): Promise<V> {
    throw new Error('not implemented');
  }

  /** The value has changed: later readers get neither the stored value nor that of a running load. */
  invalidate(key: string): void {
    throw new Error('not implemented');
  }
}
