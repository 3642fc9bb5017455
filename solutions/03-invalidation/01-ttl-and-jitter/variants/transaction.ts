import type { ChainableCommander, Redis } from 'ioredis';
import { type Draw, decode, type Entry, encode, type Local, type Options } from '../given';

/** MULTI for a batch: all of it, or nothing. */
export function createTtlPolicy({
  random = Math.random,
  now = Date.now,
  onCacheError = () => {},
}: Options = {}) {
  const checked = (what: string, value: number, isValid: boolean): number => {
    if (!isValid) throw new RangeError(`${what} cannot be ${value}`);
    return value;
  };

  function deadline(baseMs: number, draw: Draw): number {
    const base = checked('the base', baseMs, baseMs >= 1 && Number.isFinite(baseMs));
    const spread = checked('the spread', draw.spread, draw.spread >= 0 && draw.spread < 1);
    const [low, high] = [Math.ceil(base * (1 - spread)), Math.floor(base * (1 + spread))];
    return (draw.since ?? now()) + low + Math.floor((high - low + 1) * random());
  }

  const earliest = (...deadlines: number[]): number => {
    const first = Math.min(...deadlines);
    return checked('the deadline of no parts', first, Number.isFinite(first));
  };

  function add(to: ChainableCommander, key: string, value: unknown, ends: number): boolean {
    checked('a deadline', ends, Number.isFinite(ends));
    const leftMs = ends - now();
    if (leftMs > 0) to.psetex(key, leftMs, encode({ value, deadline: ends }));
    else to.unlink(key);
    return leftMs > 0;
  }

  async function execute(commands: ChainableCommander): Promise<void> {
    for (const [error] of (await commands.exec()) ?? []) if (error) throw error;
  }

  async function store(redis: Redis, key: string, value: unknown, ends: number): Promise<boolean> {
    const commands = redis.multi();
    const isStored = add(commands, key, value, ends);
    await execute(commands);
    return isStored;
  }

  async function storeAll(
    redis: Redis,
    entries: Iterable<readonly [key: string, value: unknown]>,
    baseMs: number,
    draw: Draw,
  ): Promise<void> {
    const commands = redis.multi();
    for (const [key, value] of entries) add(commands, key, value, deadline(baseMs, draw));
    await execute(commands);
  }

  async function read<V>(redis: Redis, key: string): Promise<Entry<V> | undefined> {
    const bytes = await redis.getBuffer(key);
    return parsed(bytes?.toString());
  }

  function parsed<V>(text: string | undefined): Entry<V> | undefined {
    if (text === undefined) return undefined;
    try {
      const entry = decode<V>(text);
      return entry.deadline <= now() ? undefined : entry;
    } catch (error) {
      onCacheError(error);
      return undefined;
    }
  }

  async function readNear<V>(local: Local, redis: Redis, key: string): Promise<Entry<V> | undefined> {
    const near = parsed<V>(local.get(key));
    if (near) return near;
    local.delete(key);
    const entry = await read<V>(redis, key);
    if (entry) local.set(key, encode(entry));
    return entry;
  }

  return { deadline, earliest, store, storeAll, read, readNear };
}
