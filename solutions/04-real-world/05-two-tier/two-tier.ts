import type { Redis, RedisOptions } from 'ioredis';
import { type ChangedKeys, INVALIDATIONS, Lru } from './given';

export interface TwoTier {
  /** The text that Redis holds for the key, or null: from L1, else from Redis. @throws the error of Redis */
  get(key: string): Promise<string | null>;
  /** Ends the channel and all timers. After that, `get` asks Redis. */
  close(): void;
}

export interface Options {
  /** The client of the application. Send all reads through it. */
  readonly redis: Redis;
  /** Opens a second connection to the same Redis, for the channel. */
  readonly connect: (options: RedisOptions) => Redis;
  /** L1 keeps only keys that begin with this prefix. */
  readonly prefix: string;
  /** How many keys L1 keeps at most. */
  readonly maxKeys: number;
  /** In production: `get` does not use L1 when the channel has been silent for longer than this (ms). */
  readonly maxSilenceMs?: number;
  /** In production: the clock (ms) for this silence and for TTLs. */
  readonly now?: () => number;
  /** In production: called with each failure of the channel. It never throws. */
  readonly onError?: (error: unknown) => void;
}

interface Kept {
  readonly text: string | null;
  /** When the key expires in Redis. */
  readonly until: number;
}

// #region read
/** The text and what is left of its TTL, read in one step. KEYS: key. */
const READ = `return {redis.call('GET', KEYS[1]), redis.call('PTTL', KEYS[1])}`;
const NO_TTL = -1;
const NO_KEY = -2;
// #endregion

/**
 * L1 in the memory of this process, before Redis. Redis tells the channel which keys have changed, by any writer. Until
 * the channel is tracked, `get` asks Redis.
 */
export function createTwoTier({
  redis,
  connect,
  prefix,
  maxKeys,
  maxSilenceMs = 1_000,
  now = () => performance.now(),
  onError = () => {},
}: Options): TwoTier {
  const kept = new Lru<Kept>(maxKeys);
  /** The last read under way of each key; a message about the key removes it. */
  const reading = new Map<string, symbol>();

  // #region channel
  const channel = connect({
    protocol: 2,
    autoResubscribe: false,
    // A command that the connection took down fails at once: sent again, it would reach the next connection.
    maxRetriesPerRequest: 0,
    // An unanswered command for this long: the connection is replaced.
    socketTimeout: maxSilenceMs,
  });
  let tracked = false;
  let heardAt = now();
  let checking = false;

  channel.on('messageBuffer', (_channel: Buffer, message: unknown) => {
    const keys = message as ChangedKeys;
    if (keys === null) return forgetAll();
    for (const bytes of keys) {
      const key = String(bytes);
      kept.delete(key);
      reading.delete(key);
    }
  });
  channel.on('ready', check);
  channel.on('close', () => {
    tracked = false;
    forgetAll();
  });
  channel.on('error', onError);
  const watchdog = setInterval(check, maxSilenceMs / 4).unref();

  /** Asks for a sign of life; a channel that is not tracked (yet, or again) is tracked. */
  async function check(): Promise<void> {
    if (checking || channel.status !== 'ready') return;
    checking = true;
    const askedAt = now();
    try {
      if (tracked) await channel.ping();
      else await track();
      // One socket keeps its order: all that was sent to us before this answer has been handled.
      heardAt = askedAt;
    } catch (error) {
      onError(error);
    } finally {
      checking = false;
    }
  }

  async function track(): Promise<void> {
    const id = await channel.client('ID');
    await channel.client('TRACKING', 'ON', 'REDIRECT', id, 'BCAST', 'PREFIX', prefix);
    await channel.subscribe(INVALIDATIONS);
    tracked = true;
  }

  const isLive = () => tracked && now() - heardAt <= maxSilenceMs;

  function forgetAll(): void {
    kept.clear();
    reading.clear();
  }
  // #endregion

  // #region get
  async function readAndKeep(key: string): Promise<string | null> {
    const mark = Symbol();
    reading.set(key, mark);
    const askedAt = now();
    try {
      const [text, ttlMs] = (await redis.eval(READ, 1, key)) as [string | null, number];
      if (reading.get(key) === mark) {
        const forever = ttlMs === NO_TTL || ttlMs === NO_KEY;
        kept.set(key, { text, until: forever ? Number.POSITIVE_INFINITY : askedAt + ttlMs });
      }
      return text;
    } finally {
      if (reading.get(key) === mark) reading.delete(key);
    }
  }

  return {
    async get(key) {
      if (!key.startsWith(prefix) || !isLive()) return redis.get(key);
      const known = kept.get(key);
      return known && now() < known.until ? known.text : readAndKeep(key);
    },
    // #endregion

    close() {
      clearInterval(watchdog);
      tracked = false;
      forgetAll();
      channel.disconnect();
    },
  };
}
