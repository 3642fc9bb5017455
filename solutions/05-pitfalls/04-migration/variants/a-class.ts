import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDeadline } from '#kit/given';
import {
  CacheError,
  entryKey,
  MAX_COMPARISONS,
  RECHECK_MS,
  requireSettings,
  type Settings,
  type Side,
} from '../given';
import type { Options, Rollout } from '../migration';

const OFF: Settings = { mode: 'off', rampPercent: 0, epoch: -1 };

export const createRollout = <T>(options: Options<T>): Rollout<T> => new GradualCache(options);

/** Waits for its SET; the GET of a shadow runs beside the load; the epoch is four bytes; all DELs are one MULTI. */
class GradualCache<T> implements Rollout<T> {
  readonly #options: Options<T>;
  readonly #comparing = new Set<symbol>();

  constructor(options: Options<T>) {
    this.#options = options;
  }

  async get(id: string, user: string, load: () => Promise<T>): Promise<T> {
    const begin = this.#settings();
    switch (begin.mode) {
      case 'off':
        return load();
      case 'shadow': {
        const value = await load();
        if (this.#isStill(begin)) this.#try(id, value, load, begin);
        return value;
      }
      case 'on':
        return this.#isInside(user, begin) ? this.#serve(id, user, load, begin) : load();
    }
  }

  async invalidate(id: string): Promise<void> {
    const { redis, name, codec, otherVersions = [] } = this.#options;
    const multi = redis.multi();
    for (const version of new Set([codec.version, ...otherVersions])) {
      for (const side of ['live', 'shadow'] as const) multi.del(entryKey(name, side, version, id));
    }
    const deleting = this.#redis('del', async () => {
      for (const [error] of (await multi.exec()) ?? []) if (error) throw error;
    });
    if (this.#settings().mode === 'on') return deleting;
    deleting.catch((error) => this.#options.onError?.(error));
  }

  async #serve(id: string, user: string, load: () => Promise<T>, begin: Settings): Promise<T> {
    const { onOutcome, onError, codec } = this.#options;
    let isMiss = false;
    try {
      const cached = await this.#read('live', id, begin);
      if (this.#isStill(begin) && this.#isInside(user, this.#settings())) {
        onOutcome?.('on', cached ? 'hit' : 'miss');
        if (cached) return cached.value;
        isMiss = true;
      }
    } catch (error) {
      onError?.(error);
    }
    const value = await load();
    if (isMiss && this.#isStill(begin)) {
      try {
        await this.#write('live', id, codec.encode(value), begin);
      } catch (error) {
        onError?.(error instanceof CacheError ? error : new CacheError('encode', error));
      }
    }
    return value;
  }

  #try(id: string, value: T, load: () => Promise<T>, begin: Settings): void {
    const { onOutcome, onError } = this.#options;
    if (this.#comparing.size >= MAX_COMPARISONS) {
      onOutcome?.('shadow', 'skipped');
      return;
    }
    const slot = Symbol();
    this.#comparing.add(slot);
    const copy = structuredClone(value);
    this.#compare(id, copy, load, begin)
      .then((outcome) => onOutcome?.('shadow', outcome))
      .catch((error) => onError?.(error instanceof CacheError ? error : new CacheError('load', error)))
      .finally(() => this.#comparing.delete(slot));
  }

  async #compare(id: string, value: T, load: () => Promise<T>, begin: Settings) {
    const { codec, recheckMs = RECHECK_MS, deadlineMs = 50 } = this.#options;
    const cached = await this.#read('shadow', id, begin);
    if (!cached) {
      if (this.#isStill(begin)) await this.#write('shadow', id, codec.encode(value), begin);
      return 'miss';
    }
    if (codec.equal(value, cached.value)) return 'hit';
    await sleep(recheckMs);
    const [fresh, again] = await Promise.all([
      withDeadline(load(), deadlineMs),
      this.#read('shadow', id, begin),
    ]);
    return again && !codec.equal(fresh, again.value) ? 'mismatch' : 'hit';
  }

  async #read(side: Side, id: string, { epoch }: Settings): Promise<{ value: T } | undefined> {
    const { redis, name, codec, onError } = this.#options;
    const bytes = await this.#redis('get', () => redis.getBuffer(entryKey(name, side, codec.version, id)));
    if (!bytes) return undefined;
    try {
      return bytes.readInt32BE() === epoch ? { value: codec.decode(bytes.subarray(4)) } : undefined;
    } catch (error) {
      onError?.(new CacheError('decode', error));
      return undefined;
    }
  }

  async #write(side: Side, id: string, bytes: Buffer, { epoch }: Settings): Promise<void> {
    const { redis, name, codec, ttlMs } = this.#options;
    const entry = Buffer.alloc(4 + bytes.length);
    entry.writeInt32BE(epoch);
    bytes.copy(entry, 4);
    await this.#redis('set', () => redis.psetex(entryKey(name, side, codec.version, id), ttlMs, entry));
  }

  async #redis<R>(step: 'get' | 'set' | 'del', command: () => Promise<R>): Promise<R> {
    try {
      return await withDeadline(command(), this.#options.deadlineMs ?? 50);
    } catch (error) {
      throw new CacheError(step, error);
    }
  }

  #settings(): Settings {
    try {
      return requireSettings(this.#options.settings());
    } catch (error) {
      this.#options.onError?.(new CacheError('settings', error));
      return OFF;
    }
  }

  #isStill(begin: Settings): boolean {
    const { mode, epoch } = this.#settings();
    return mode === begin.mode && epoch === begin.epoch;
  }

  #isInside(user: string, { rampPercent }: Settings): boolean {
    const digest = createHash('md5').update(`${user}@${this.#options.name}`).digest();
    return digest.readUIntBE(0, 6) % 10_000 < rampPercent * 100;
  }
}
