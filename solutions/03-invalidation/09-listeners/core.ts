import type { Redis } from 'ioredis';
import { BATCH, BEGINNING, eventsOf, STREAM } from './given';

/** The version for an interview. It finds out that it was trimmed, and not that the stream was lost. */
// #region core
export function createLocalCache({ redis }: { redis: Redis }) {
  const kept = new Map<string, unknown>();
  let place = BEGINNING;

  async function read(...block: (string | number)[]): Promise<number> {
    const found = await redis.xrange(STREAM, place, place);
    const reply = await redis.call('XREAD', 'COUNT', BATCH, ...block, 'STREAMS', STREAM, place);
    const events = eventsOf(reply);
    if (events.length > 0 && found.length === 0) kept.clear();
    for (const { id, key } of events) {
      kept.delete(key ?? '');
      place = id;
    }
    return events.length;
  }

  return {
    async get<V>(key: string, load: () => Promise<V>): Promise<V> {
      if (!kept.has(key)) kept.set(key, await load());
      return kept.get(key) as V;
    },

    poll: () => read(),

    async run(signal: AbortSignal): Promise<void> {
      while (!signal.aborted) await read('BLOCK', 0);
    },
  };
}
// #endregion
