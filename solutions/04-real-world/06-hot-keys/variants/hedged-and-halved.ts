import type { Cluster } from 'ioredis';
import { withDeadline } from '#kit/given';
import { baseKey, type Counted, copyKey, type SlotMap, slotMapOf, slotOf, TTL_MS } from '../given';

interface Counter {
  count: number;
  error: number;
}

/** Space-saving with a search for the rarest key; each window halves all counts. */
export class HalvingDetector {
  readonly #counters = new Map<string, Counter>();
  readonly #options: { counters: number; hotReads: number; windowMs: number; now: () => number };
  #window: number;

  constructor(options: { counters: number; hotReads: number; windowMs?: number; now?: () => number }) {
    this.#options = { windowMs: 10_000, now: Date.now, ...options };
    this.#window = this.#currentWindow();
  }

  record(key: string): void {
    this.#age();
    const own = this.#counters.get(key);
    if (own) own.count++;
    else if (this.#counters.size < this.#options.counters) this.#counters.set(key, { count: 1, error: 0 });
    else this.#replaceRarest(key);
  }

  top(n: number): Counted[] {
    this.#age();
    const all = [...this.#counters].map(([key, counter]) => ({ key, ...counter }));
    return all.sort((a, b) => b.count - a.count).slice(0, n);
  }

  isHot(key: string): boolean {
    this.#age();
    const counter = this.#counters.get(key);
    return counter !== undefined && counter.count - counter.error >= this.#options.hotReads;
  }

  #replaceRarest(key: string): void {
    let rarest: [string, Counter] | undefined;
    for (const each of this.#counters) if (!rarest || each[1].count < rarest[1].count) rarest = each;
    if (!rarest) return;
    this.#counters.delete(rarest[0]);
    this.#counters.set(key, { count: rarest[1].count + 1, error: rarest[1].count });
  }

  #age(): void {
    const window = this.#currentWindow();
    const passed = Math.min(window - this.#window, 53);
    this.#window = window;
    if (passed === 0) return;
    for (const [key, { count, error }] of this.#counters) {
      const half = { count: Math.floor(count / 2 ** passed), error: Math.floor(error / 2 ** passed) };
      if (half.count > 0) this.#counters.set(key, half);
      else this.#counters.delete(key);
    }
  }

  #currentWindow(): number {
    return Math.floor(this.#options.now() / this.#options.windowMs);
  }
}

export const createDetector = (options: ConstructorParameters<typeof HalvingDetector>[0]) =>
  new HalvingDetector(options);

export function copyKeys(key: string, { masters, ownerOf }: SlotMap): string[] {
  const free = new Set(masters);
  const found: string[] = [];
  for (let n = 0; n < 500 && free.size > 0; n++) {
    const copy = copyKey(key, n);
    if (free.delete(ownerOf(slotOf(copy)) ?? '')) found.push(copy);
  }
  return found;
}

interface Options {
  readonly client: Cluster;
  readonly detector: { record(key: string): void; isHot(key: string): boolean };
  readonly copyTtlMs?: number;
  readonly deadlineMs?: number;
}

/** A hot key is asked for at two masters at once: twice the commands, and a lost master costs no time. */
export function createHotCache({ client, detector, copyTtlMs = 1000, deadlineMs = 100 }: Options) {
  const inTime = <T>(promise: Promise<T>) => withDeadline(promise, deadlineMs);
  const fills = new Map<string, { value: Promise<Buffer>; valid: boolean }>();

  async function fill(key: string, load: () => Promise<Buffer>, mine: { valid: boolean }, hot: string[]) {
    let value = await inTime(client.getBuffer(baseKey(key))).catch(() => null);
    const stores: [string, number][] = hot.map((copy) => [copy, copyTtlMs]);
    if (!value) stores.push([baseKey(key), TTL_MS]);
    value ??= await load();
    const text = value;
    const store = ([name, ms]: [string, number]) => inTime(client.set(name, text, 'PX', ms)).catch(() => {});
    if (mine.valid) void Promise.all(stores.map(store));
    return value;
  }

  return {
    async get(key: string, load: () => Promise<Buffer>): Promise<Buffer> {
      detector.record(key);
      const copies = detector.isHot(key) ? copyKeys(key, await inTime(slotMapOf(client))) : [];
      const [at, step] = [Math.floor(Math.random() * copies.length), 1 + Math.floor(Math.random() * 2)];
      const asked = [copies[at], copies[(at + step) % copies.length]].filter((copy) => copy !== undefined);
      const copied = await Promise.any(
        asked.map(async (copy) => {
          const bytes = await inTime(client.getBuffer(copy));
          if (!bytes) throw new Error(`${copy} is not there`);
          return bytes;
        }),
      ).catch(() => undefined);
      if (copied) return copied;
      const running = fills.get(key);
      if (running?.valid) return running.value;
      const mine: { valid: boolean; value: Promise<Buffer> } = {
        valid: true,
        value: Promise.resolve(Buffer.alloc(0)),
      };
      mine.value = fill(key, load, mine, copies);
      fills.set(key, mine);
      try {
        return await mine.value;
      } finally {
        if (fills.get(key) === mine) fills.delete(key);
      }
    },

    async invalidate(key: string): Promise<void> {
      const running = fills.get(key);
      if (running) running.valid = false;
      const failures: unknown[] = [];
      const remove = (name: string) => inTime(client.del(name)).catch((error) => failures.push(error));
      await remove(baseKey(key));
      await Promise.all(copyKeys(key, await inTime(slotMapOf(client))).map(remove));
      if (failures.length > 0) throw new Error(`${key} may still be cached`, { cause: failures });
    },
  };
}
