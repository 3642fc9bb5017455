import type { Redis } from 'ioredis';
import { backoffMs } from '#kit/given';
import {
  BATCH,
  BEGINNING,
  BLOCK_MS,
  type Clock,
  eventsOf,
  RETRY_AT_MOST_MS,
  STREAM,
  systemClock,
} from '../given';

/** KEYS: the stream. ARGV: the place, COUNT. @returns whether the place is in the stream, and what XREAD answers */
const READ = `
  local found = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])
  return {#found, redis.call('XREAD', 'COUNT', ARGV[2], 'STREAMS', KEYS[1], ARGV[1])}`;

interface Options {
  readonly redis: Redis;
  readonly maxSilenceMs?: number;
  readonly clock?: Clock;
  readonly onError?: (error: unknown) => void;
}

/**
 * The map holds promises: calls of one key share a load until it fails, or until an event takes it out of the map. What
 * is kept goes when the silence is too long, and nothing is kept before the first read. Each failure costs a connection.
 */
export function createLocalCache({
  redis,
  maxSilenceMs = 5_000,
  clock = systemClock,
  onError = () => {},
}: Options) {
  const loads = new Map<string, Promise<unknown>>();
  let place = BEGINNING;
  let validUntil = Number.NEGATIVE_INFINITY;

  async function read(client: Redis): Promise<number> {
    const until = clock.now() + maxSilenceMs;
    const [found, reply] = (await client.eval(READ, 1, STREAM, place, BATCH)) as [number, unknown];
    const events = eventsOf(reply);
    if (events.some(({ key }) => key === undefined) || (found === 0 && (place !== BEGINNING || events[0]))) {
      loads.clear();
    }
    for (const { key } of events) if (key !== undefined) loads.delete(key);
    const last = events.at(-1);
    if (last) place = last.id;
    else if (found === 0) place = BEGINNING;
    if (events.length < BATCH) {
      if (clock.now() > validUntil) loads.clear();
      validUntil = until;
    }
    return events.length;
  }

  async function readUntilItFails(connection: Redis, signal: AbortSignal, succeeded: () => void) {
    while (!signal.aborted) {
      if ((await read(connection)) === 0) {
        await connection.xread('COUNT', 1, 'BLOCK', BLOCK_MS, 'STREAMS', STREAM, place);
      }
      succeeded();
    }
  }

  return {
    get<V>(key: string, load: () => Promise<V>): Promise<V> {
      if (clock.now() > validUntil) return load();
      const kept = loads.get(key);
      if (kept) return kept as Promise<V>;
      const loading = (async () => load())();
      loads.set(key, loading);
      loading.catch(() => {
        if (loads.get(key) === loading) loads.delete(key);
      });
      return loading;
    },

    poll: () => read(redis),

    async run(signal: AbortSignal): Promise<void> {
      const waits = (redis.options.commandTimeout ?? 1_000) + 2 * BLOCK_MS;
      for (let failures = 0; !signal.aborted; failures++) {
        const connection = redis.duplicate({ commandTimeout: waits });
        connection.on('error', () => {});
        const end = () => connection.disconnect();
        signal.addEventListener('abort', end);
        try {
          await readUntilItFails(connection, signal, () => {
            failures = 0;
          });
        } catch (error) {
          if (!signal.aborted) onError(error);
        } finally {
          signal.removeEventListener('abort', end);
          end();
        }
        await clock.sleep(backoffMs(failures, { longestMs: RETRY_AT_MOST_MS }), signal);
      }
    },
  };
}
