import { randomBytes } from 'node:crypto';
import { decode, encode, entryKey, LoadTimeoutError, lockKey, lockTtlMs, type Options } from '../given';

/** Takes the lock only if the entry is still the one that was read: no second look is needed. */
const LOCK = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  return redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3], 'NX') and 1 or 0`;

const STORE = `
  if redis.call('GET', KEYS[2]) == ARGV[1] then
    redis.call('PSETEX', KEYS[1], ARGV[2], ARGV[3])
    redis.call('DEL', KEYS[2])
  end`;

const REMOVE = `
  if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[1], KEYS[2]) end`;

export const createSwr = <V>(options: Options<V>) => new Swr(options);

/** A class with private methods. The fill after a miss is not awaited. */
class Swr<V> {
  readonly #options: Options<V>;
  readonly #background = new Set<Promise<unknown>>();
  readonly #refreshing = new Set<string>();
  readonly #loading = new Map<string, Promise<Buffer | null>>();

  constructor(options: Options<V>) {
    this.#options = options;
  }

  async get(key: string): Promise<V | undefined> {
    const { softTtlMs, now = Date.now } = this.#options;
    let bytes: Buffer | null;
    try {
      bytes = await this.#soon(this.#options.redis.getBuffer(entryKey(key)));
    } catch (error) {
      this.#report(error);
      return this.#join(key, false);
    }
    if (bytes === null) return this.#join(key, true);
    try {
      const { value, storedAt } = decode<V>(bytes);
      if (now() - storedAt >= softTtlMs) this.#startRefresh(key, bytes);
      return value;
    } catch (error) {
      this.#report(error);
      return this.#join(key, true);
    }
  }

  async onIdle(): Promise<void> {
    for (;;) {
      const [next] = this.#background;
      if (!next) return;
      await next;
    }
  }

  async #join(key: string, isStored: boolean): Promise<V | undefined> {
    const place = `${isStored} ${key}`;
    let loading = this.#loading.get(place);
    if (!loading) {
      loading = this.#load(key);
      this.#loading.set(place, loading);
      if (isStored) this.#inBackground(loading.then((bytes) => this.#fill(key, bytes)));
      const end = () => this.#loading.delete(place);
      loading.then(end, end);
    }
    const bytes = await loading;
    return bytes === null ? undefined : decode<V>(bytes).value;
  }

  async #fill(key: string, bytes: Buffer | null): Promise<void> {
    const { redis, hardTtlMs } = this.#options;
    if (bytes) await this.#soon(redis.psetex(entryKey(key), hardTtlMs, bytes)).catch(this.#report);
  }

  #startRefresh(key: string, stale: Buffer): void {
    if (this.#refreshing.has(key)) return;
    this.#refreshing.add(key);
    const refreshed = this.#refresh(key, stale).catch(this.#report);
    this.#inBackground(refreshed.then(() => this.#refreshing.delete(key)));
  }

  async #refresh(key: string, stale: Buffer): Promise<void> {
    const { redis, hardTtlMs } = this.#options;
    const token = randomBytes(16).toString('hex');
    const keys = [entryKey(key), lockKey(key)] as const;
    const locked = await this.#soon(redis.eval(LOCK, 2, ...keys, stale, token, lockTtlMs(this.#options)));
    if (locked !== 1) return;
    const bytes = await this.#load(key);
    const stored = bytes
      ? redis.eval(STORE, 2, ...keys, token, hardTtlMs, bytes)
      : redis.eval(REMOVE, 2, ...keys, token);
    await this.#soon(stored);
  }

  async #load(key: string): Promise<Buffer | null> {
    const { load, loadDeadlineMs, now = Date.now } = this.#options;
    const controller = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const error = new LoadTimeoutError(key, loadDeadlineMs);
        controller.abort(error);
        reject(error);
      }, loadDeadlineMs);
    });
    try {
      const value = await Promise.race([load(key, controller.signal), late]);
      return value === undefined ? null : encode({ value, storedAt: now() });
    } finally {
      clearTimeout(timer);
    }
  }

  #inBackground(work: Promise<unknown>): void {
    const ended: Promise<unknown> = work.catch(() => {}).then(() => this.#background.delete(ended));
    this.#background.add(ended);
  }

  readonly #report = (error: unknown): void => this.#options.onError?.(error);

  async #soon<T>(command: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('Redis is too slow')), this.#options.cacheDeadlineMs);
    });
    return Promise.race([command, late]).finally(() => clearTimeout(timer));
  }
}
