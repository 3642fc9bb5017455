import type { Redis } from 'ioredis';
import { type Draw, decode, type Entry, encode, type Local, type Options } from '../given';

/** Stores or removes each entry, by the milliseconds that are left: all of a batch, or an error. */
const STORE = `
  for at = 1, #KEYS do
    if tonumber(ARGV[2 * at]) > 0 then
      redis.call('SET', KEYS[at], ARGV[2 * at - 1], 'PX', ARGV[2 * at])
    else
      redis.call('DEL', KEYS[at])
    end
  end`;

export const createTtlPolicy = (options: Options = {}) => new TtlPolicy(options);

/** A class, and one Lua script for one entry and for a batch. */
class TtlPolicy {
  readonly #random: () => number;
  readonly #now: () => number;
  readonly #onCacheError: (error: unknown) => void;

  constructor({ random = Math.random, now = Date.now, onCacheError = () => {} }: Options) {
    this.#random = random;
    this.#now = now;
    this.#onCacheError = onCacheError;
  }

  deadline(baseMs: number, { spread, since }: Draw): number {
    if (!Number.isInteger(baseMs) || baseMs <= 0) throw new RangeError(`base: ${baseMs} ms`);
    if (Number.isNaN(spread) || spread < 0 || spread >= 1) throw new RangeError(`spread: ${spread}`);
    const jitter = baseMs * spread * (2 * this.#random() - 1);
    return (since ?? this.#now()) + baseMs + Math.trunc(jitter);
  }

  earliest(...deadlines: number[]): number {
    const first = deadlines.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
    for (const deadline of [first, ...deadlines]) this.#check(deadline);
    return first;
  }

  async store(redis: Redis, key: string, value: unknown, deadline: number): Promise<boolean> {
    this.#check(deadline);
    const leftMs = deadline - this.#now();
    await redis.eval(STORE, 1, key, encode({ value, deadline }), leftMs);
    return leftMs > 0;
  }

  async storeAll(
    redis: Redis,
    entries: Iterable<readonly [key: string, value: unknown]>,
    baseMs: number,
    draw: Draw,
  ): Promise<void> {
    const keys: string[] = [];
    const args: (string | number)[] = [];
    for (const [key, value] of entries) {
      const deadline = this.deadline(baseMs, draw);
      keys.push(key);
      args.push(encode({ value, deadline }), deadline - this.#now());
    }
    await redis.eval(STORE, keys.length, ...keys, ...args);
  }

  async read<V>(redis: Redis, key: string): Promise<Entry<V> | undefined> {
    return this.#live(await redis.get(key));
  }

  async readNear<V>(local: Local, redis: Redis, key: string): Promise<Entry<V> | undefined> {
    const near = this.#live<V>(local.get(key) ?? null);
    if (near) return near;
    local.delete(key);
    const entry = await this.read<V>(redis, key);
    if (entry) local.set(key, encode(entry));
    return entry;
  }

  #live<V>(text: string | null): Entry<V> | undefined {
    if (text === null) return undefined;
    let entry: Entry<V>;
    try {
      entry = decode(text);
    } catch (error) {
      this.#onCacheError(error);
      return undefined;
    }
    return this.#now() < entry.deadline ? entry : undefined;
  }

  #check(deadline: number): void {
    if (!Number.isFinite(deadline)) throw new RangeError(`deadline: ${deadline}`);
  }
}
