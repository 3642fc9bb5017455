import type { Redis, RedisOptions } from 'ioredis';
import { withDeadline } from '#kit/given';
import { INVALIDATIONS, Lru } from '../given';

interface Options {
  readonly redis: Redis;
  readonly connect: (options: RedisOptions) => Redis;
  readonly prefix: string;
  readonly maxKeys: number;
  readonly maxSilenceMs?: number;
  readonly now?: () => number;
  readonly onError?: (error: unknown) => void;
}

export const createTwoTier = (options: Options) => new TwoTier(options);

/** A class. One number for all keys: each message raises it, and a read that saw another number is not kept. */
class TwoTier {
  readonly #options: Required<Options>;
  readonly #channel: Redis;
  readonly #kept: Lru<{ text: string | null; until: number }>;
  readonly #timer: NodeJS.Timeout;
  #epoch = 0;
  #tracked = false;
  #heardAt = Number.NEGATIVE_INFINITY;

  constructor(options: Options) {
    this.#options = {
      maxSilenceMs: 1_000,
      now: () => performance.now(),
      onError: () => {},
      ...options,
    };
    const { connect, maxKeys, maxSilenceMs } = this.#options;
    this.#kept = new Lru(maxKeys);
    this.#channel = connect({ protocol: 2, autoResubscribe: false, maxRetriesPerRequest: 0 });
    this.#channel.on('messageBuffer', (_channel: Buffer, keys: unknown) => this.#onMessage(keys));
    this.#channel.on('ready', () => void this.#track());
    this.#channel.on('close', () => this.#lose());
    this.#channel.on('error', this.#options.onError);
    this.#timer = setInterval(() => void this.#check(), maxSilenceMs / 3).unref();
  }

  async get(key: string): Promise<string | null> {
    const { redis, prefix, now } = this.#options;
    if (!this.#isLive() || !key.startsWith(prefix)) return redis.get(key);
    const known = this.#kept.get(key);
    if (known && now() < known.until) return known.text;

    const epoch = this.#epoch;
    const askedAt = now();
    const answers = await redis.multi().pttl(key).get(key).exec();
    const [[ttlError, ttl] = [], [textError, text] = []] = answers ?? [];
    if (ttlError || textError) throw ttlError ?? textError;
    if (epoch === this.#epoch) {
      const until = Number(ttl) < 0 ? Number.POSITIVE_INFINITY : askedAt + Number(ttl);
      this.#kept.set(key, { text: text as string | null, until });
    }
    return text as string | null;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#lose();
    this.#channel.disconnect();
  }

  #isLive(): boolean {
    const { now, maxSilenceMs } = this.#options;
    return this.#tracked && now() - this.#heardAt <= maxSilenceMs;
  }

  #onMessage(keys: unknown): void {
    this.#epoch++;
    if (Array.isArray(keys)) for (const key of keys) this.#kept.delete(String(key));
    else this.#kept.clear();
  }

  #lose(): void {
    this.#tracked = false;
    this.#epoch++;
    this.#kept.clear();
  }

  async #track(): Promise<void> {
    const askedAt = this.#options.now();
    try {
      const id = await this.#channel.client('ID');
      await this.#channel.client('TRACKING', 'ON', 'BCAST', 'PREFIX', this.#options.prefix, 'REDIRECT', id);
      await this.#channel.subscribe(INVALIDATIONS);
      this.#tracked = true;
      this.#heardAt = askedAt;
    } catch (error) {
      this.#options.onError(error);
    }
  }

  async #check(): Promise<void> {
    if (this.#channel.status !== 'ready') return;
    if (!this.#tracked) return this.#track();
    const askedAt = this.#options.now();
    try {
      await withDeadline(this.#channel.ping(), this.#options.maxSilenceMs);
      this.#heardAt = askedAt;
    } catch (error) {
      this.#options.onError(error);
      this.#channel.stream.destroy();
    }
  }
}
