import type { Cluster } from 'ioredis';
import type { Answer, Part, Skew } from './given';

/** The slot of a key, as Redis Cluster computes it. */
export function slotOf(key: string): number {
  throw new Error('not implemented');
}

/**
 * The key of a part of a page; it begins with PREFIX. All parts of a product share a slot. Products are spread over all
 * slots. In production: an id may be any text.
 */
export function partKey(id: string, part: Part): string {
  throw new Error('not implemented');
}

export interface PageCache {
  /** One answer for each key, in the order of the keys. */
  read(keys: readonly string[]): Promise<Answer[]>;
  /**
   * Deletes all parts of a product in one step.
   * @throws unless Redis confirms it
   */
  invalidate(id: string): Promise<void>;
  /**
   * Deletes the keys that begin with PREFIX, on every master, and no other key. No command blocks a master.
   * @throws unless every master confirms it
   */
  purge(): Promise<void>;
}

export interface Options {
  readonly client: Cluster;
  /** In production: how long a call may take; for a purge, each of its steps (ms). */
  readonly deadlineMs?: number;
}

export function createPageCache({ client, deadlineMs = 250 }: Options): PageCache {
  throw new Error('not implemented');
}

/** In production: how unevenly the masters are filled. A master that does not answer costs deadlineMs. */
export async function skewOf(client: Cluster, deadlineMs = 250): Promise<Skew> {
  throw new Error('not implemented');
}
