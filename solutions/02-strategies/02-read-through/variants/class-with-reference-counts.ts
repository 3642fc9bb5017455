import { type Args, decode, encode, LoadTimeoutError, type Options } from '../given';

export function cacheKey(name: string, args: Args): string {
  const names = Object.keys(args).sort();
  // The length before each text says where it ends.
  const parts = names.map((each) => {
    const text = String(args[each]);
    return `${each.length}:${each}=${typeof args[each]}:${text.length}:${text}`;
  });
  return [name, ...parts].join('/');
}

export const createReadThrough = <A extends Args, V>(options: Options<A, V>) => new ReadThrough(options);

interface Load {
  readonly value: Promise<Buffer>;
  readonly controller: AbortController;
  readonly callers: Set<symbol>;
  isOvertaken: boolean;
}

/** A class. The fill is not awaited, and an invalidation counts instead of making a symbol. */
class ReadThrough<A extends Args, V> {
  readonly #options: Options<A, V>;
  readonly #loads = new Map<string, Load>();
  readonly #pending = new Map<string, { readonly number: number; readonly since: number }>();
  #invalidations = 0;

  constructor(options: Options<A, V>) {
    this.#options = options;
  }

  get(args: A, { signal }: { readonly signal?: AbortSignal } = {}): Promise<V> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const key = cacheKey(this.#options.name, args);
      const load = this.#loads.get(key) ?? this.#start(key, args);
      const caller = Symbol();
      load.callers.add(caller);
      const leave = () => {
        reject(signal?.reason);
        load.callers.delete(caller);
        if (load.callers.size === 0) this.#drop(key, load);
      };
      signal?.addEventListener('abort', leave);
      load.value
        .then((bytes) => resolve(decode<V>(bytes)))
        .catch(reject)
        .finally(() => signal?.removeEventListener('abort', leave));
    });
  }

  async invalidate(args: A): Promise<void> {
    const key = cacheKey(this.#options.name, args);
    const load = this.#loads.get(key);
    if (load) load.isOvertaken = true;
    this.#loads.delete(key);
    this.#pending.set(key, { number: ++this.#invalidations, since: Date.now() });
    await this.#delete(key);
    this.#sweep();
  }

  #start(key: string, args: A): Load {
    const controller = new AbortController();
    const load: Load = {
      value: Promise.resolve().then(() => this.#run(key, args, load)),
      controller,
      callers: new Set(),
      isOvertaken: false,
    };
    this.#loads.set(key, load);
    load.value.catch(() => {}).then(() => this.#forget(key, load));
    return load;
  }

  #forget(key: string, load: Load): void {
    if (this.#loads.get(key) === load) this.#loads.delete(key);
  }

  #drop(key: string, load: Load): void {
    this.#forget(key, load);
    load.controller.abort();
  }

  async #run(key: string, args: A, load: Load): Promise<Buffer> {
    const { redis, ttlMs, onCacheError = () => {} } = this.#options;
    const [found] = await Promise.allSettled([this.#read(key)]);
    if (found.status === 'rejected') onCacheError(found.reason);
    else if (found.value) return found.value;
    if (load.controller.signal.aborted) throw load.controller.signal.reason;
    const bytes = encode(await this.#load(key, args, load));
    if (found.status === 'fulfilled' && !load.isOvertaken) {
      this.#soon(redis.psetex(key, ttlMs, bytes)).catch(onCacheError);
    }
    return bytes;
  }

  async #load(key: string, args: A, { controller }: Load): Promise<V> {
    const { load, loadDeadlineMs } = this.#options;
    const late = AbortSignal.timeout(loadDeadlineMs);
    let abort = () => {};
    const ended = new Promise<never>((_, reject) => {
      abort = () => {
        const reason = late.aborted ? new LoadTimeoutError(key, loadDeadlineMs) : controller.signal.reason;
        controller.abort(reason);
        reject(reason);
      };
    });
    late.addEventListener('abort', abort);
    controller.signal.addEventListener('abort', abort);
    try {
      return await Promise.race([load(args, controller.signal), ended]);
    } finally {
      late.removeEventListener('abort', abort);
      controller.signal.removeEventListener('abort', abort);
    }
  }

  async #read(key: string): Promise<Buffer | undefined> {
    const { redis, onCacheError = () => {} } = this.#options;
    this.#sweep();
    if (this.#pending.has(key)) await this.#delete(key);
    const bytes = await this.#soon(redis.getBuffer(key));
    try {
      if (bytes) decode(bytes);
    } catch (error) {
      onCacheError(error);
      return undefined;
    }
    return bytes ?? undefined;
  }

  async #delete(key: string): Promise<void> {
    const number = this.#pending.get(key)?.number;
    await this.#soon(this.#options.redis.unlink(key));
    if (this.#pending.get(key)?.number === number) this.#pending.delete(key);
  }

  /** The Map keeps its order, so the oldest come first. */
  #sweep(): void {
    for (const [key, { since }] of this.#pending) {
      if (Date.now() - since < this.#options.ttlMs) return;
      this.#pending.delete(key);
    }
  }

  #soon<T>(command: Promise<T>): Promise<T> {
    const { cacheDeadlineMs } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('Redis is too slow')), cacheDeadlineMs);
    });
    return Promise.race([command, late]).finally(() => clearTimeout(timer));
  }
}
