import { randomBytes } from 'node:crypto';
import {
  decode,
  type Entry,
  encode,
  entryKey,
  type Load,
  LoadTimeoutError,
  lockKey,
  lockTtlMs,
  type Options,
} from '../given';

interface Roll {
  readonly now: number;
  readonly expiresAt: number;
  readonly deltaMs: number;
  readonly beta: number;
  readonly random: () => number;
}

/** By the logarithm of random() itself; 0 is the one value that has none. */
export function shouldRefresh({ now, expiresAt, deltaMs, beta, random }: Roll): boolean {
  const lead = -Math.log(random() || 1) * deltaMs * beta;
  return expiresAt - now <= lead;
}

/** Takes the lock only if the entry is still the one whose hit fired: no second look is needed. */
const LOCK = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  return redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3], 'NX') and 1 or 0`;

const STORE = `
  if redis.call('GET', KEYS[2]) == ARGV[1] then
    redis.call('PSETEX', KEYS[1], ARGV[2], ARGV[3])
    redis.call('DEL', KEYS[2])
  end`;

export const createEarlyCache = (options: Options) => new EarlyCache(options);

/** A class with private methods. The fill after a miss is not awaited. */
class EarlyCache {
  readonly #options: Options;
  readonly #refreshing = new Set<string>();
  readonly #loading = new Map<string, Promise<string>>();

  constructor(options: Options) {
    this.#options = options;
  }

  async get<V>(key: string, load: Load<V>): Promise<V> {
    const { redis, beta = 1, random = Math.random } = this.#options;
    let bytes: Buffer | null;
    try {
      bytes = await redis.getBuffer(entryKey(key));
    } catch (error) {
      this.#report(error);
      return this.#join(key, load, false);
    }
    const entry = bytes && this.#read<V>(bytes);
    if (!bytes || !entry || entry.expiresAt <= this.#now()) return this.#join(key, load, true);
    if (shouldRefresh({ ...entry, now: this.#now(), beta, random })) this.#startRefresh(key, load, bytes);
    return entry.value;
  }

  async #join<V>(key: string, load: Load<V>, isStored: boolean): Promise<V> {
    const place = `${isStored} ${key}`;
    let loading = this.#loading.get(place);
    if (!loading) {
      loading = this.#load(key, load);
      this.#loading.set(place, loading);
      if (isStored) loading.then((text) => this.#fill(key, text)).catch(() => {});
      const end = () => this.#loading.delete(place);
      loading.then(end, end);
    }
    return JSON.parse(await loading).value;
  }

  async #fill(key: string, text: string): Promise<void> {
    const { redis, ttlMs } = this.#options;
    await redis.psetex(entryKey(key), ttlMs, text).catch(this.#report);
  }

  #startRefresh(key: string, load: Load<unknown>, seen: Buffer): void {
    if (this.#refreshing.has(key)) return;
    this.#refreshing.add(key);
    this.#refresh(key, load, seen)
      .catch(this.#report)
      .finally(() => this.#refreshing.delete(key));
  }

  async #refresh(key: string, load: Load<unknown>, seen: Buffer): Promise<void> {
    const { redis, ttlMs, loadDeadlineMs } = this.#options;
    const token = randomBytes(16).toString('hex');
    const keys = [entryKey(key), lockKey(key)] as const;
    if ((await redis.eval(LOCK, 2, ...keys, seen, token, lockTtlMs(loadDeadlineMs))) !== 1) return;
    await redis.eval(STORE, 2, ...keys, token, ttlMs, await this.#load(key, load));
  }

  async #load(key: string, load: Load<unknown>): Promise<string> {
    const { ttlMs, loadDeadlineMs: ms } = this.#options;
    const signal = AbortSignal.timeout(ms);
    const late = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(new LoadTimeoutError(key, ms)));
    });
    late.catch(() => {});
    const startedAt = this.#now();
    const value = await Promise.race([new Promise((resolve) => resolve(load(signal))), late]);
    const deltaMs = this.#now() - startedAt;
    return encode({ value, deltaMs, expiresAt: startedAt + ttlMs });
  }

  #read<V>(bytes: Buffer): Entry<V> | undefined {
    try {
      return decode<V>(bytes);
    } catch (error) {
      this.#report(error);
      return undefined;
    }
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  readonly #report = (error: unknown): void => this.#options.onError?.(error);
}
