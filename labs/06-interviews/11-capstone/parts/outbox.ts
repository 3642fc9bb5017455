import type { Settings } from './api';
import { everything } from './entry';

/** The invalidation is not lost: it is tried again until Redis has confirmed it. */
export class PendingInvalidationError extends Error {
  override readonly name = 'PendingInvalidationError';
}

/** Invalidations that Redis has not confirmed. Until then, this process does not trust the entries that they name. */
export function createOutbox(remove: (key: string) => Promise<unknown>, { name, onError }: Settings) {
  /** The last invalidation of each key: the answer to an earlier one does not confirm it. */
  const pending = new Map<string, symbol>();
  // One report for each try: a thousand pending keys fail for one reason.
  const timer = setInterval(() => Promise.all(attemptAll()).catch(onError), 100).unref();

  const attemptAll = () => Array.from(pending, ([redisKey, invalidation]) => attempt(redisKey, invalidation));

  async function attempt(redisKey: string, invalidation: symbol): Promise<void> {
    await remove(redisKey).catch((cause: unknown) => {
      throw new PendingInvalidationError(`Redis has not confirmed that ${redisKey} is invalid`, { cause });
    });
    if (pending.get(redisKey) === invalidation) pending.delete(redisKey);
  }

  return {
    /** @throws PendingInvalidationError */
    async send(redisKey: string): Promise<void> {
      const isFull = pending.size >= 1_000;
      // Memory is bounded, and nothing is lost: all entries are invalidated instead.
      if (isFull) pending.clear();
      const target = isFull ? everything(name) : redisKey;
      const invalidation = Symbol();
      // Before the request: from now on no read may get the old value.
      pending.set(target, invalidation);
      await attempt(target, invalidation);
    },
    covers: (redisKeys: readonly string[]) => pending.size > 0 && redisKeys.some((key) => pending.has(key)),
    /** One last try. @throws PendingInvalidationError if an invalidation is lost */
    async close(): Promise<void> {
      clearInterval(timer);
      await Promise.all(attemptAll());
    },
  };
}
