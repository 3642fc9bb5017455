import type { Cluster } from 'ioredis';
import { InFlight, withDeadline } from '#kit/given';
import { baseKey, type Counted, copyKey, type SlotMap, slotMapOf, slotOf, TTL_MS } from '../given';

interface DetectorOptions {
  readonly counters: number;
  readonly hotReads: number;
  readonly windowMs?: number;
  readonly now?: () => number;
}

/**
 * Misra-Gries: where no counter is free, all go down by one. What was taken from a key is its error at most. All is halved
 * at the end of each window.
 */
export function createDetector({ counters, hotReads, windowMs = 10_000, now = Date.now }: DetectorOptions) {
  const left = new Map<string, number>();
  let taken = 0;
  let windowEnds = now() + windowMs;

  const lower = (by: (count: number) => number) => {
    for (const [key, count] of left) {
      if (by(count) > 0) left.set(key, by(count));
      else left.delete(key);
    }
  };
  const age = () => {
    for (; now() >= windowEnds; windowEnds += windowMs) {
      lower((count) => count >> 1);
      taken = Math.ceil(taken / 2);
    }
  };

  return {
    record(key: string): void {
      age();
      const count = left.get(key);
      if (count !== undefined || left.size < counters) left.set(key, (count ?? 0) + 1);
      else {
        taken++;
        lower((other) => other - 1);
      }
    },
    top(n: number): Counted[] {
      age();
      return [...left]
        .map(([key, count]) => ({ key, count: count + taken, error: taken }))
        .sort((a, b) => b.count - a.count)
        .slice(0, n);
    },
    isHot(key: string): boolean {
      age();
      return (left.get(key) ?? 0) >= hotReads;
    },
  };
}

const TRIES = 200;

/** The copies in the order of the masters. */
export function copyKeys(key: string, { masters, ownerOf }: SlotMap): string[] {
  const candidates = Array.from({ length: TRIES }, (_, n) => copyKey(key, n));
  const owners = candidates.map((candidate) => ownerOf(slotOf(candidate)));
  return masters.flatMap((master) => candidates[owners.indexOf(master)] ?? []);
}

interface Options {
  readonly client: Cluster;
  readonly detector: { record(key: string): void; isHot(key: string): boolean };
  readonly copyTtlMs?: number;
  readonly deadlineMs?: number;
}

/** Deletes everything twice rather than in order. Each reader fills the copy that it has missed, and waits for that. */
class HotCache {
  readonly #options: Required<Options>;
  readonly #loads = new InFlight<Buffer>();
  /** An invalidation of any key ends all loads under way: they are not shared or stored any more. */
  #generation = 0;

  constructor(options: Options) {
    this.#options = { copyTtlMs: 1000, deadlineMs: 100, ...options };
  }

  async get(key: string, load: () => Promise<Buffer>): Promise<Buffer> {
    const { detector, client, copyTtlMs } = this.#options;
    detector.record(key);
    if (!detector.isHot(key)) return this.#fromBase(key, load, []);
    const copies = copyKeys(key, await this.#inTime(slotMapOf(client)));
    const at = Math.floor(Math.random() * copies.length);
    const copy = copies[at];
    const copied = await this.#read(copy);
    if (copied) return copied;
    const second = copied === undefined && (await this.#read(copies[(at + 1) % copies.length]));
    if (second) return second;
    return this.#fromBase(key, load, copy && copied === null ? [[copy, copyTtlMs]] : []);
  }

  async invalidate(key: string): Promise<void> {
    const { client } = this.#options;
    this.#generation++;
    const names = [baseKey(key), ...copyKeys(key, await this.#inTime(slotMapOf(client)))];
    const deleteAll = () => Promise.allSettled(names.map((name) => this.#inTime(client.del(name))));
    const ends = [...(await deleteAll()), ...(await deleteAll())];
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** undefined: no answer. */
  async #read(name: string | undefined): Promise<Buffer | null | undefined> {
    if (name === undefined) return undefined;
    return this.#inTime(this.#options.client.getBuffer(name)).catch(() => undefined);
  }

  #fromBase(key: string, load: () => Promise<Buffer>, copies: [string, number][]): Promise<Buffer> {
    const generation = this.#generation;
    return this.#loads.run(`${generation} ${key}`, async () => {
      const found = await this.#read(baseKey(key));
      const value = found ?? (await load());
      if (this.#generation === generation) {
        const all = found ? copies : [[baseKey(key), TTL_MS] as const, ...copies];
        const stores = all.map(([name, ms]) => this.#inTime(this.#options.client.set(name, value, 'PX', ms)));
        await Promise.allSettled(stores);
      }
      return value;
    });
  }

  #inTime<T>(promise: Promise<T>): Promise<T> {
    return withDeadline(promise, this.#options.deadlineMs);
  }
}

export const createHotCache = (options: Options): HotCache => new HotCache(options);
