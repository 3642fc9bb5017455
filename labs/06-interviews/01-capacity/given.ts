export interface Entries {
  readonly entries: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly ttl: boolean;
  /** Copies beside the primary. */
  readonly replicas: number;
}

export interface Traffic {
  readonly requestsPerDay: number;
  /** The busiest second divided by the average. */
  readonly peakToAverage: number;
}

export interface Node {
  readonly memoryBytes: number;
  readonly requestsPerSecond: number;
  /** In production: bits, as networks are sold: 10e9 is 10 Gbit/s. */
  readonly bitsPerSecond: number;
}

export interface Demand {
  /** For one copy. */
  readonly memoryBytes: number;
  readonly traffic: Traffic;
  readonly node: Node;
  /** In production: the share of each node's memory that stays free; 0 if absent. */
  readonly reserve?: number;
  /** In production: bytes of an average reply; 0 if absent. */
  readonly replyBytes?: number;
  /** In production: how many nodes may be lost at the peak; 0 if absent. */
  readonly spare?: number;
  /** In production: the share of all requests that ask for the hottest key; 0 if absent. */
  readonly hottestKeyShare?: number;
}

export type Resource = 'memory' | 'requests' | 'bandwidth';

export interface NodePlan {
  /** At least 1, without replicas. */
  readonly nodes: number;
  /** The resource that needs the most nodes. */
  readonly decidedBy: Resource;
}

export interface Misses {
  readonly traffic: Traffic;
  readonly hitRatio: number;
  /** They share the keys evenly, and have no replicas. */
  readonly nodes: number;
  /** In production: 1 if absent. */
  readonly queriesPerMiss?: number;
  /** In production: queries at the peak that no cache answers; 0 if absent. */
  readonly writesPerSecond?: number;
  /** In production: how many queries per second the database can do. */
  readonly limit?: number;
}

/** Queries per second at the peak. */
export interface DatabaseLoad {
  readonly steady: number;
  /** Just after a loss. */
  readonly nodeLoss: number;
  /** In production: all nodes are empty. */
  readonly coldStart?: number;
  /** In production: the loads above that are over the limit, in the order above. */
  readonly overloaded?: readonly ('steady' | 'nodeLoss' | 'coldStart')[];
}

export interface Curve {
  /** Of an LRU cache of this size. The first request of a key is a miss. */
  missRatio(entries: number): number;
  /** Of the smallest LRU cache with this hit ratio or a higher one; undefined if none has it. */
  entriesFor(hitRatio: number): number | undefined;
  /** In production: how many keys are behind the curve. */
  readonly sampledKeys?: number;
  /** In production: the curve comes from a sample, of fewer than MIN_SAMPLED_KEYS keys. */
  readonly tooFewKeys?: boolean;
}

export interface Sampling {
  /** The share of all keys that is sampled; 1 if absent. */
  readonly rate?: number;
  /** How many keys may be remembered: beyond that, the rate falls. */
  readonly maxKeys?: number;
}

/** In production. */
export const MIN_SAMPLED_KEYS = 500;

/** In production: thrown for an impossible input. */
export class InputError extends RangeError {
  override readonly name = 'InputError';

  /** @param field the name of the property */
  constructor(field: string, value: unknown) {
    super(`${field} cannot be ${value}`);
  }
}

/** In production. @throws {InputError} for the first field that is not a number from min to max, both included */
export function requireWithin(
  fields: Readonly<Record<string, number>>,
  { min = 0, max = Number.POSITIVE_INFINITY }: { readonly min?: number; readonly max?: number } = {},
): void {
  for (const [field, value] of Object.entries(fields)) {
    if (!(value >= min && value <= max)) throw new InputError(field, value);
  }
}

/** In production: thrown when no number of nodes is enough, because one node has the hottest key. */
export class HotKeyError extends Error {
  override readonly name = 'HotKeyError';

  constructor() {
    super('one node cannot carry the hottest key: copy it, or keep it in the processes');
  }
}

/** In production: 0 up to 1, always the same for a key, and spread evenly over keys. */
export function hash(key: string): number {
  let mixed = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) mixed = Math.imul(mixed ^ key.charCodeAt(at), 0x01000193);
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 16)) >>> 0) / 2 ** 32;
}

export class StackDistances {
  // In order of use. Each use takes the next slot; `#used` counts the slots of keys, as a Fenwick tree.
  readonly #slots = new Map<string, number>();
  #used = new Int32Array(1025);
  #next = 1;

  get size(): number {
    return this.#slots.size;
  }

  /**
   * How many keys were used since the last use of this key, itself included: the smallest LRU cache that still has
   * it. undefined at the first use.
   */
  access(key: string): number | undefined {
    const slot = this.#slots.get(key);
    const distance = slot === undefined ? undefined : this.size - this.#keysBefore(slot);
    if (slot !== undefined) this.forget(key);
    if (this.#next === this.#used.length) this.#renumber();
    this.#add(this.#next, 1);
    this.#slots.set(key, this.#next++);
    return distance;
  }

  forget(key: string): void {
    const slot = this.#slots.get(key);
    if (slot !== undefined) this.#add(slot, -1);
    this.#slots.delete(key);
  }

  keys(): Iterable<string> {
    return this.#slots.keys();
  }

  #renumber(): void {
    this.#used = new Int32Array(Math.max(1024, 2 * this.size) + 1);
    this.#next = 1;
    for (const key of this.#slots.keys()) {
      this.#add(this.#next, 1);
      this.#slots.set(key, this.#next++);
    }
  }

  #keysBefore(slot: number): number {
    let sum = 0;
    for (let at = slot - 1; at > 0; at -= at & -at) sum += this.#used[at] ?? 0;
    return sum;
  }

  #add(slot: number, amount: number): void {
    for (let at = slot; at < this.#used.length; at += at & -at)
      this.#used[at] = (this.#used[at] ?? 0) + amount;
  }
}
