import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { type Codec, entryKey, type Mode, type Outcome, type Settings, type Side } from './given';

interface Options<T> {
  readonly redis: Redis;
  readonly name: string;
  readonly codec: Codec<T>;
  readonly ttlMs: number;
  readonly settings: () => Settings;
  readonly onOutcome?: (mode: Mode, outcome: Outcome) => void;
}

/** The textbook version: right as long as Redis answers, nobody writes meanwhile, and nothing has to be undone. */
// #region core
export function createRollout<T>({ redis, name, codec, ttlMs, settings, onOutcome = () => {} }: Options<T>) {
  const keyOf = (side: Side, id: string) => entryKey(name, side, codec.version, id);
  const store = (side: Side, id: string, value: T) =>
    redis.set(keyOf(side, id), codec.encode(value), 'PX', ttlMs);

  async function serve(id: string, load: () => Promise<T>): Promise<T> {
    const bytes = await redis.getBuffer(keyOf('live', id));
    onOutcome('on', bytes ? 'hit' : 'miss');
    if (bytes) return codec.decode(bytes);
    const value = await load();
    await store('live', id, value);
    return value;
  }

  async function shadow(id: string, load: () => Promise<T>): Promise<T> {
    const value = await load();
    const bytes = await redis.getBuffer(keyOf('shadow', id));
    if (!bytes) await store('shadow', id, value);
    const result = bytes && (codec.equal(codec.decode(bytes), value) ? 'hit' : 'mismatch');
    onOutcome('shadow', result ?? 'miss');
    return value;
  }

  return {
    async get(id: string, user: string, load: () => Promise<T>): Promise<T> {
      const { mode, rampPercent } = settings();
      if (mode === 'shadow') return shadow(id, load);
      return mode === 'on' && placeOf(name, user) < rampPercent ? serve(id, load) : load();
    },

    async invalidate(id: string): Promise<void> {
      await redis.del(keyOf('live', id), keyOf('shadow', id));
    },
  };
}

/** From 0 to 100, the same each time. */
function placeOf(name: string, user: string): number {
  const hash = createHash('sha256').update(`${name}/${user}`).digest();
  return (hash.readUInt32BE() / 2 ** 32) * 100;
}
// #endregion
