import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { backoffMs, InFlight, parseJson, withDeadline } from '#kit/given';
import {
  type Clock,
  encode,
  entryKey,
  type Load,
  LoadTimeoutError,
  lockKey,
  systemClock,
  type Times,
  WaitTimeoutError,
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly clock?: Clock;
  readonly onCacheError?: (error: unknown) => void;
}

const IF_OURS = `
  if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('DEL', KEYS[1])
    if ARGV[2] then redis.call('PSETEX', KEYS[2], ARGV[3], ARGV[2]) end
  end`;

/** The calls of a process share each look, the load behind it and each pause: Redis sees one caller for each process. */
class LockedCache {
  readonly #redis: Redis;
  readonly #clock: Clock;
  readonly #report: (error: unknown) => void;
  /** The text of the value; undefined while another process loads. */
  readonly #looks = new InFlight<string | undefined>();
  readonly #pauses = new InFlight<unknown>();

  constructor({ redis, clock = systemClock, onCacheError = () => {} }: Options) {
    this.#redis = redis;
    this.#clock = clock;
    this.#report = onCacheError;
  }

  async getOrLoad<V>(key: string, load: Load<V>, times: Times): Promise<V> {
    const giveUpAt = this.#clock.now() + times.waitMs;
    for (let attempt = 0; ; attempt++) {
      const text = await this.#looks.run(key, () => this.#lookOrLoad(key, load, times));
      if (text !== undefined) return JSON.parse(text);
      const leftMs = giveUpAt - this.#clock.now();
      if (leftMs <= 0) throw new WaitTimeoutError(key, times.waitMs);
      const pause = this.#pauses.run(key, () => this.#clock.sleep(Math.min(backoffMs(attempt), leftMs)));
      // The shared pause may be longer than this call can wait.
      await withDeadline(pause, leftMs).catch(() => {});
    }
  }

  async #lookOrLoad(key: string, load: Load<unknown>, times: Times): Promise<string | undefined> {
    const token = randomUUID();
    const hold = (endsAt: number) => this.#loadAndStore(key, load, token, times, endsAt);
    try {
      const before = await this.#read(key, times);
      if (before?.isFresh) return before.text;
      const endsAt = performance.now() + times.lockMs;
      if (!(await this.#redis.set(lockKey(key), token, 'PX', times.lockMs, 'NX'))) return before?.text;
      const entry = await this.#read(key, times);
      if (entry?.isFresh) await this.#finish(key, token);
      else if (entry) hold(endsAt).catch(this.#report);
      else {
        // Not awaited in here: its error is that of the load.
        return hold(endsAt).catch(async (error: unknown) => {
          if (!(error instanceof LoadTimeoutError)) await this.#finish(key, token);
          throw error;
        });
      }
      return entry.text;
    } catch (error) {
      this.#report(error);
      return this.#load(key, load, times.lockMs, performance.now() + times.lockMs);
    }
  }

  async #read(key: string, { staleMs = 0 }: Times) {
    const [[, bytes] = [], [, ttl] = []] =
      (await this.#redis.multi().getBuffer(entryKey(key)).pttl(entryKey(key)).exec()) ?? [];
    if (!Buffer.isBuffer(bytes)) return undefined;
    if (parseJson(bytes) !== undefined) return { text: bytes.toString(), isFresh: Number(ttl) > staleMs };
    this.#report(new Error(`${key}: the value cannot be decoded`));
    return undefined;
  }

  async #loadAndStore(key: string, load: Load<unknown>, token: string, times: Times, endsAt: number) {
    const text = await this.#load(key, load, times.lockMs, endsAt);
    await this.#finish(key, token, text, times.freshMs + (times.staleMs ?? 0));
    return text;
  }

  async #load(key: string, load: Load<unknown>, lockMs: number, endsAt: number): Promise<string> {
    const abort = new AbortController();
    const loading = new Promise((resolve) => resolve(load(abort.signal)));
    const late = () => new LoadTimeoutError(key, lockMs);
    try {
      return encode(await withDeadline(loading, endsAt - performance.now(), late));
    } catch (error) {
      abort.abort(error);
      throw error;
    }
  }

  async #finish(key: string, token: string, ...entry: (string | number)[]): Promise<void> {
    await this.#redis.eval(IF_OURS, 2, lockKey(key), entryKey(key), token, ...entry).catch(this.#report);
  }
}

export const createLockedCache = (options: Options): LockedCache => new LockedCache(options);
