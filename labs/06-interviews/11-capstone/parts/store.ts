import { randomUUID } from 'node:crypto';
import { withDeadline } from '#kit/given';
import type { Settings } from './api';
import { decode } from './codec';
import type { Entry } from './entry';

/**
 * What Redis has for an entry. `fresh`, `stale` and `refresh` have a value. With `refresh` and `granted` the lease is
 * yours: load, then finish. With `held`, another call has the lease, here or in another process.
 */
export type Found =
  | { readonly kind: 'fresh'; readonly value: unknown; readonly freshMs: number }
  | {
      readonly kind: 'stale' | 'refresh' | 'granted' | 'held';
      readonly value: unknown;
      readonly lease: string;
    }
  /** Redis has failed, or was too slow: nothing may be stored. */
  | { readonly kind: 'unanswered' };

/**
 * The stamp holds the generations of all tags. A value and a lease keep the stamp of the time when they were made.
 * KEYS: value, lease, tags… ARGV: token, leaseMs, staleMs, lifeMs, bytes that count as nothing.
 */
const LOOK = `
  local stamp = ''
  for at = 3, #KEYS do
    -- After a deletion or an eviction it is another: no token comes twice.
    local generation = redis.call('GET', KEYS[at]) or ARGV[1]
    local lifeMs = redis.call('PTTL', KEYS[at])
    if lifeMs < tonumber(ARGV[4]) then redis.call('SET', KEYS[at], generation, 'PX', 2 * ARGV[4]) end
    stamp = stamp .. ' ' .. generation
  end
  local text = redis.call('GET', KEYS[1])
  local line = text and string.find(text, '\\n', 1, true)
  if line then text = string.sub(text, 1, line - 1) == stamp and string.sub(text, line + 1) end
  if text == ARGV[5] then text = false end
  local freshMs = redis.call('PTTL', KEYS[1]) - ARGV[3]
  if text and freshMs > 0 then return {'fresh', text, '', freshMs} end
  local lease = redis.call('GET', KEYS[2])
  -- What the holder of a lease of other generations loads is refused: nobody waits for it.
  if lease and string.sub(lease, #ARGV[1] + 1) == stamp then return {text and 'stale' or 'held', text, lease} end
  lease = ARGV[1] .. stamp
  redis.call('SET', KEYS[2], lease, 'PX', ARGV[2])
  return {text and 'refresh' or 'granted', text, lease}`;

/** KEYS: value, lease, tags… ARGV: lease, where its stamp begins, PX, text. */
const FINISH = `
  if redis.call('GET', KEYS[2]) ~= ARGV[1] then return end
  redis.call('DEL', KEYS[2])
  local stamp = ''
  for at = 3, #KEYS do stamp = stamp .. ' ' .. (redis.call('GET', KEYS[at]) or '') end
  if not ARGV[4] or string.sub(ARGV[1], ARGV[2]) ~= stamp then return end
  redis.call('SET', KEYS[1], stamp .. '\\n' .. ARGV[4], 'PX', ARGV[3])`;

const leaseKey = (value: string): string => `lease:${value}`;

/** L2: values, leases and the generations of tags, in Redis. A failure is reported; `remove` alone rejects. */
export function openStore({ connect, loadDeadlineMs, redisDeadlineMs, onError }: Settings) {
  // No command waits for a connection, and none is sent twice.
  const options = { enableOfflineQueue: false, maxRetriesPerRequest: 0, socketTimeout: 5_000 };
  const redis = connect({ ...options, connectionName: 'store' }).on('error', onError);
  const leaseMs = loadDeadlineMs + 2 * redisDeadlineMs; // longer than a load and its fill
  const inTime = <T>(command: Promise<T>) => withDeadline(command, redisDeadlineMs);

  function run(script: string, { value, tags }: Entry, ...args: (string | number | Buffer)[]) {
    const keys = [value, leaseKey(value), ...tags];
    return redis.callBuffer('EVAL', script, keys.length, ...keys, ...args) as Promise<unknown>;
  }

  async function look(entry: Entry, ...damaged: Buffer[]): Promise<Found> {
    const { ttlMs, staleMs } = entry;
    const asked = run(LOOK, entry, randomUUID(), leaseMs, staleMs, ttlMs + staleMs + leaseMs, ...damaged);
    try {
      const { text, ...found } = parse(await inTime(asked));
      if (!text || found.value !== undefined) return found as Found;
      onError(new TypeError(`${entry.value} is not JSON`));
      return found.kind === 'refresh' ? ({ ...found, kind: 'granted' } as Found) : look(entry, text);
    } catch (error) {
      onError(error);
      asked.then((late) => giveBack(entry, late)).catch(() => {});
      return { kind: 'unanswered' };
    }
  }

  /** Others would wait for a lease that is granted too late, and nobody would use it. Only our own lease is given back. */
  async function giveBack(entry: Entry, late: unknown): Promise<void> {
    const { kind, lease } = parse(late);
    if (kind === 'granted' || kind === 'refresh') await finish(entry, lease);
  }

  /** Gives the lease back. Stores the bytes, unless the lease was lost, or a tag has a new generation. */
  async function finish(entry: Entry, lease: string, ...bytes: Buffer[]): Promise<void> {
    // Up to a tenth earlier: what was filled together does not expire together.
    const px = Math.ceil(entry.ttlMs * (1 - Math.random() / 10)) + entry.staleMs;
    await inTime(run(FINISH, entry, lease, lease.indexOf(' ') + 1, px, ...bytes)).catch(onError);
  }

  /** Hides a value, or all values with a tag. A running load loses its lease, or its generation. */
  const remove = (redisKey: string) => inTime(redis.del(redisKey, leaseKey(redisKey)));

  return { look, finish, remove, close: () => redis.disconnect() };
}

function parse(answer: unknown) {
  const [kind, text, lease, freshMs] = answer as [Buffer, Buffer | null, Buffer, number?];
  return { kind: String(kind), text, value: text ? decode(text) : undefined, lease: String(lease), freshMs };
}
