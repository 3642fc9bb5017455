import type { Options } from '../given';

interface Slot<V> {
  found: { readonly value: V; readonly at: number } | undefined;
  loading: { readonly promise: Promise<V> } | undefined;
  failedAt: number;
}

/**
 * One slot for a key holds all that is known of it. An invalidation throws the slot away: a load that is under way writes
 * into a slot that nobody reads any more.
 */
export class StaleCache<V> {
  private readonly slots = new Map<string, Slot<V>>();
  private readonly now: () => number;

  constructor(private readonly options: Options<V>) {
    this.now = options.now ?? Date.now;
  }

  get(key: string): Promise<V> {
    const { freshMs, staleMs, retryMs } = this.options;
    const slot = this.slotOf(key);
    const age = slot.found ? this.now() - slot.found.at : Number.POSITIVE_INFINITY;
    if (!slot.found || age > freshMs + staleMs) return this.load(key, slot);
    if (age > freshMs && this.now() >= slot.failedAt + retryMs) {
      void this.load(key, slot).catch(() => {});
    }
    return Promise.resolve(slot.found.value);
  }

  invalidate(key: string): void {
    this.slots.delete(key);
  }

  private slotOf(key: string): Slot<V> {
    const slot: Slot<V> = this.slots.get(key) ?? {
      found: undefined,
      loading: undefined,
      failedAt: Number.NEGATIVE_INFINITY,
    };
    // The one that was used last stands last.
    this.slots.delete(key);
    this.slots.set(key, slot);
    for (const first of this.slots.keys()) {
      if (this.slots.size <= this.options.maxEntries) break;
      this.slots.delete(first);
    }
    return slot;
  }

  private load(key: string, slot: Slot<V>): Promise<V> {
    if (slot.loading) return slot.loading.promise;
    const loading = { promise: this.loadInTime(key) };
    slot.loading = loading;
    loading.promise
      .then(
        (value) => {
          slot.found = { value, at: this.now() };
        },
        () => {
          slot.failedAt = this.now();
        },
      )
      .finally(() => {
        slot.loading = undefined;
      });
    return loading.promise;
  }

  private async loadInTime(key: string): Promise<V> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${key} took too long`)), this.options.loadDeadlineMs);
    });
    try {
      return await Promise.race([this.options.load(key), late]);
    } finally {
      clearTimeout(timer);
    }
  }
}
