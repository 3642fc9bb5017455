import type { Redis } from 'ioredis';
import { type Draw, decode, type Entry, encode, type Local, type Options } from './given';

export interface TtlPolicy {
  /** The deadline of a value that is loaded now: in `baseMs`, ±spread. In production: @throws RangeError */
  deadline(baseMs: number, draw: Draw): number;
  /** The deadline of a value that is made of parts: that of the first one to end. In production: @throws RangeError */
  earliest(...deadlines: number[]): number;
  /**
   * Keeps the value and its deadline in Redis; what is left of its time is the TTL. Returns whether it was stored.
   * In production: rejects with a RangeError when the deadline is not finite, and returns false when no time is left.
   */
  store(redis: Redis, key: string, value: unknown, deadline: number): Promise<boolean>;
  /** The entry as it was stored, or undefined. */
  read<V>(redis: Redis, key: string): Promise<Entry<V> | undefined>;
  /** The same from `local`, else from Redis, and then keeps a copy in `local`. Removes a copy that has ended. */
  readNear<V>(local: Local, redis: Redis, key: string): Promise<Entry<V> | undefined>;
  /** In production: stores each entry with its own deadline. Rejects when Redis refuses one. */
  storeAll?(
    redis: Redis,
    entries: Iterable<readonly [key: string, value: unknown]>,
    baseMs: number,
    draw: Draw,
  ): Promise<void>;
}

/** Decides how long entries live, the same in each layer. The codec is in `given.ts`. */
export function createTtlPolicy({
  random = Math.random,
  now = Date.now,
  onCacheError = () => {},
}: Options = {}): TtlPolicy {
  // #region draw
  function deadline(baseMs: number, { spread, since = now() }: Draw): number {
    if (!Number.isSafeInteger(baseMs) || baseMs < 1) {
      throw new RangeError(`baseMs must be whole milliseconds from 1, not ${baseMs}`);
    }
    if (!(spread >= 0 && spread < 1)) {
      throw new RangeError(`spread must be a share from 0 to below 1, not ${spread}`);
    }
    const widthMs = Math.floor(baseMs * spread);
    return since + baseMs - widthMs + Math.floor(random() * (2 * widthMs + 1));
  }

  function earliest(...deadlines: number[]): number {
    // Of no parts it is Infinity: a page that never ends.
    const first = Math.min(...deadlines);
    requireDeadline(first);
    return first;
  }
  // #endregion

  // #region store
  /** Leaves the entry under the key with the time that it has left, or removes what is there. */
  function command(key: string, value: unknown, deadline: number): [string, ...(string | number)[]] {
    requireDeadline(deadline);
    const leftMs = deadline - now();
    return leftMs > 0 ? ['set', key, encode({ value, deadline }), 'PX', leftMs] : ['del', key];
  }

  async function store(redis: Redis, key: string, value: unknown, deadline: number): Promise<boolean> {
    const [name, ...args] = command(key, value, deadline);
    await redis.call(name, ...args);
    return name === 'set';
  }

  async function storeAll(
    redis: Redis,
    entries: Iterable<readonly [key: string, value: unknown]>,
    baseMs: number,
    draw: Draw,
  ): Promise<void> {
    const commands = Array.from(entries, ([key, value]) => command(key, value, deadline(baseMs, draw)));
    const replies = await redis.pipeline(commands).exec();
    // exec() resolves even when each of its commands has failed.
    for (const [error] of replies ?? []) if (error) throw error;
  }
  // #endregion

  // #region read
  /** The entry in a text, while its time lasts. */
  function live<V>(text: string | null | undefined): Entry<V> | undefined {
    if (text === null || text === undefined) return undefined;
    try {
      const entry = decode<V>(text);
      return entry.deadline > now() ? entry : undefined;
    } catch (error) {
      onCacheError(error);
      return undefined;
    }
  }

  async function read<V>(redis: Redis, key: string): Promise<Entry<V> | undefined> {
    const text = await redis.get(key);
    // The clock is read after the answer: the answer took time as well.
    return live(text);
  }

  async function readNear<V>(local: Local, redis: Redis, key: string): Promise<Entry<V> | undefined> {
    const near = live<V>(local.get(key));
    if (near) return near;
    local.delete(key);
    const entry = await read<V>(redis, key);
    if (entry) local.set(key, encode(entry));
    return entry;
  }
  // #endregion

  return { deadline, earliest, store, storeAll, read, readNear };
}

function requireDeadline(deadline: number): void {
  if (!Number.isFinite(deadline)) throw new RangeError(`not a deadline: ${deadline}`);
}
