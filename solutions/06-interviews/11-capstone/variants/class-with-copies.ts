import { setTimeout as sleep } from 'node:timers/promises';
import { backoffMs, DeadlineError } from '#kit/given';
import {
  type Cache,
  type Cached,
  createLocal,
  createOutbox,
  DEFAULTS,
  decode,
  type Entry,
  entryOf,
  type Found,
  type Load,
  loadBytes,
  type Options,
  openChannel,
  openStore,
  type Policy,
  tagKey,
  valueKey,
} from '../given';

/** Each caller gets a copy, in bytes from the load and by structuredClone from L1; each waits by itself. */
class SharedCache implements Cache {
  readonly #options;
  readonly #local;
  readonly #channel;
  readonly #store;
  readonly #outbox;
  readonly #loads = new Map<string, Promise<Buffer>>();
  readonly #direct = new Map<string, Promise<Buffer>>();

  constructor(options: Options) {
    this.#options = { ...DEFAULTS, ...options };
    this.#local = createLocal(this.#options.maxKeys);
    this.#channel = openChannel(this.#local, this.#options);
    this.#store = openStore(this.#options);
    this.#outbox = createOutbox(this.#store.remove, this.#options);
  }

  async get<V>(key: string, load: Load<V>, policy: Policy): Promise<Cached<V>> {
    const entry = entryOf(this.#options.name, key, policy);
    const isTrusted = this.#channel.isLive() && !this.#outbox.covers([entry.value, ...entry.tags]);
    const local = isTrusted ? this.#local.get(valueKey(this.#options.name, key)) : undefined;
    return structuredClone(local === undefined ? await this.#read(entry, load) : local) as Cached<V>;
  }

  async invalidate(key: string): Promise<void> {
    await this.#invalidate(valueKey(this.#options.name, key));
  }

  async invalidateTag(tag: string): Promise<void> {
    await this.#invalidate(tagKey(this.#options.name, tag));
  }

  async close(): Promise<void> {
    this.#channel.close();
    try {
      await this.#outbox.close();
    } finally {
      this.#store.close();
    }
  }

  async #invalidate(redisKey: string): Promise<void> {
    this.#local.drop(redisKey);
    this.#direct.clear();
    await this.#outbox.send(redisKey);
  }

  async #read(entry: Entry, load: Load<unknown>): Promise<unknown> {
    const giveUpAt = performance.now() + this.#options.loadDeadlineMs;
    for (let attempt = 0; performance.now() < giveUpAt; attempt++) {
      if (this.#outbox.covers([entry.value, ...entry.tags])) return this.#loadDirect(entry, load);
      const keep = this.#channel.isLive() ? this.#local.begin(entry) : () => {};
      const askedAt = performance.now();
      const found = await this.#store.look(entry);
      if (found.kind === 'fresh') keep(found.value, askedAt + found.freshMs);
      switch (found.kind) {
        case 'unanswered':
          return this.#loadDirect(entry, load);
        case 'refresh':
          this.#fill(entry, load, found).catch(this.#options.onError);
          return found.value;
        case 'fresh':
        case 'stale':
          return found.value;
        case 'granted':
          return decode(await this.#fill(entry, load, found));
      }
      const loading = this.#loads.get(found.lease);
      if (loading) return decode(await loading);
      await sleep(backoffMs(attempt));
    }
    throw new DeadlineError(this.#options.loadDeadlineMs);
  }

  #fill(entry: Entry, load: Load<unknown>, { kind, lease }: Extract<Found, { lease: string }>) {
    const filling = loadBytes(load, this.#options.loadDeadlineMs).then(
      async (bytes) => {
        await this.#store.finish(entry, lease, bytes);
        return bytes;
      },
      async (error: unknown) => {
        if (kind === 'granted') await this.#store.finish(entry, lease);
        throw error;
      },
    );
    const done = () => this.#loads.delete(lease);
    this.#loads.set(lease, filling);
    filling.then(done, done);
    return filling;
  }

  async #loadDirect({ value }: Entry, load: Load<unknown>): Promise<unknown> {
    const running = this.#direct.get(value) ?? loadBytes(load, this.#options.loadDeadlineMs);
    this.#direct.set(value, running);
    const done = () => this.#direct.get(value) === running && this.#direct.delete(value);
    running.then(done, done);
    return decode(await running);
  }
}

export const createCache = (options: Options): Cache => new SharedCache(options);
