import { type Entry, isValue } from './entry';

export type Local = ReturnType<typeof createLocal>;

/** `value` is missing while it is being read. `until` is by performance.now(). */
type Slot = { readonly tags: readonly string[]; value?: unknown; until: number; used: boolean };

/** L1, bounded by SIEVE (lesson 1.5): a hand walks from the oldest slot on, and passes over those that were used. */
export function createLocal(maxKeys: number) {
  const slots = new Map<string, Slot>();
  // Keep one iterator: a new one would walk over all deleted slots. It also reaches slots that are added later.
  let hand = slots.entries();

  function evict(): void {
    const { done, value: [key = '', slot] = [] } = hand.next();
    if (done) hand = slots.entries();
    else if (slot?.used) slot.used = false;
    else slots.delete(key);
  }

  return {
    /** undefined is not cached. */
    get(value: string): unknown {
      const slot = slots.get(value);
      if (!slot || slot.until <= performance.now()) return undefined;
      slot.used = true;
      return slot.value;
    },
    /** A read begins. @returns a function that keeps the value, unless it was dropped meanwhile or a later read has begun */
    begin({ value: key, tags }: Entry) {
      const slot: Slot = { tags, until: 0, used: false };
      slots.delete(key);
      while (slots.size >= maxKeys) evict();
      slots.set(key, slot);
      return (value: unknown, until: number): void => {
        if (slots.get(key) === slot) Object.assign(slot, { value, until });
      };
    },
    /** The value with this key in Redis, or all values with this tag. */
    drop(redisKey: string): void {
      if (slots.delete(redisKey) || isValue(redisKey)) return;
      for (const [key, { tags }] of slots) if (tags.includes(redisKey)) slots.delete(key);
    },
    clear: () => slots.clear(),
  };
}
