import type { Redis } from 'ioredis';
import { BATCH, BEGINNING, eventsOf, STREAM } from './given';

/** The version for an interview. It finds out that it was trimmed, and not that the stream was lost. */
// #region core
export function createLocalCache({ redis }: { redis: Redis }) {
  const kept = new Map<string, unknown>();
  let place = BEGINNING;

  /** Ids are two numbers: as text, 9-0 would come after 10-0. */
  const isBefore = (a: string, b: string) => a.localeCompare(b, 'en', { numeric: true }) < 0;

  async function read(...block: (string | number)[]): Promise<number> {
    const [oldest] = await redis.xrange(STREAM, '-', '+', 'COUNT', 1);
    const reply = await redis.call('XREAD', 'COUNT', BATCH, ...block, 'STREAMS', STREAM, place);
    const events = eventsOf(reply);
    if (oldest && isBefore(place, oldest[0])) kept.clear();
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
