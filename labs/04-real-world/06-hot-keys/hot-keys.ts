import type { Cluster } from 'ioredis';
import type { Counted, SlotMap } from './given';

/** Which keys this process reads most, in memory for `counters` keys. */
export interface Detector {
  /** Called for each read. */
  record(key: string): void;
  /** The n highest counts, highest first. In production: of the last windows only. */
  top(n: number): Counted[];
  /** Whether the key was read at least `hotReads` times. In production: recently, and certainly. */
  isHot(key: string): boolean;
}

export interface DetectorOptions {
  readonly counters: number;
  readonly hotReads: number;
  /** In production: the length of a window (ms). Reads of many windows ago do not count. */
  readonly windowMs?: number;
  /** In production: the time (ms). */
  readonly now?: () => number;
}

export function createDetector({
  counters,
  hotReads,
  windowMs = 10_000,
  now = () => performance.now(),
}: DetectorOptions): Detector {
  throw new Error('not implemented');
}

/** Keys made by `copyKey`: one for each master. In production: a master with very few slots may go without. */
export function copyKeys(key: string, { masters, ownerOf }: SlotMap): string[] {
  throw new Error('not implemented');
}

export interface HotCache {
  /**
   * The value: of a cold key from its base key, of a hot one from a random copy, on a miss from `load`, stored for TTL_MS.
   * @throws what `load` throws
   */
  get(key: string, load: () => Promise<Buffer>): Promise<Buffer>;
  /**
   * Called after the commit: deletes the base key and all copies.
   * @throws unless Redis has confirmed each of them
   */
  invalidate(key: string): Promise<void>;
}

export interface Options {
  readonly client: Cluster;
  readonly detector: Pick<Detector, 'record' | 'isHot'>;
  /** In production: the longest life of a copy (ms). */
  readonly copyTtlMs?: number;
  /** In production: how long a command may take (ms). */
  readonly deadlineMs?: number;
}

export function createHotCache({ client, detector, copyTtlMs = 1000, deadlineMs = 100 }: Options): HotCache {
  throw new Error('not implemented');
}
