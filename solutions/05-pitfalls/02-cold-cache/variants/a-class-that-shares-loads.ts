import { InFlight, withDeadline } from '#kit/given';
import type { Options, ProductCache } from '../cold-cache';
import {
  decode,
  encode,
  FAILURES_TO_OPEN,
  OPEN_MS,
  OverloadedError,
  type Product,
  productKey,
  REDIS_DEADLINE_MS,
  TTL_MS,
} from '../given';

/** One class: one load for all readers of a product, and the newest waiting reader first. */
class SharedProducts implements ProductCache {
  readonly #options: Required<Options>;
  readonly #inFlight = new InFlight<Product>();
  readonly #stack: { deadline: number; settle(error?: Error): void }[] = [];
  #free: number;
  #state: 'closed' | 'open' | 'trying' = 'closed';
  #failed = 0;
  #openedAt = 0;

  constructor(options: Required<Options>) {
    this.#options = options;
    this.#free = options.limit;
  }

  async get(id: number, deadline = Number.MAX_VALUE): Promise<Product> {
    let found: Product | undefined;
    try {
      found = decode(await withDeadline(this.#options.redis.getBuffer(productKey(id)), REDIS_DEADLINE_MS));
    } catch {
      // As a miss.
    }
    return found ?? (await this.#inFlight.run(String(id), () => this.#load(id, deadline)));
  }

  async warm(ids: readonly number[]): Promise<void> {
    for (const id of ids) {
      try {
        await this.get(id);
      } catch {
        // Its first reader loads it.
      }
    }
  }

  async #load(id: number, deadline: number): Promise<Product> {
    const { load, now, openMs, failuresToOpen, redis } = this.#options;
    if (this.#state === 'trying' || (this.#state === 'open' && now() - this.#openedAt < openMs)) {
      throw new OverloadedError('the breaker is open');
    }
    if (this.#free === 0) await this.#wait(deadline);
    else this.#free--;
    const before = this.#state;
    if (before === 'open') this.#state = 'trying';
    try {
      const product = await load(id);
      this.#failed = 0;
      this.#state = 'closed';
      const storing = redis.set(productKey(id), encode(product), 'PX', TTL_MS);
      await withDeadline(storing, REDIS_DEADLINE_MS).catch(() => {});
      return product;
    } catch (error) {
      this.#failed++;
      if (before === 'open' || this.#failed >= failuresToOpen) {
        this.#state = 'open';
        this.#openedAt = now();
      }
      throw error;
    } finally {
      this.#passOn();
    }
  }

  #wait(deadline: number): Promise<void> {
    const stack = this.#stack;
    if (stack.length >= this.#options.maxWaiting) return Promise.reject(new OverloadedError());
    return new Promise((resolve, reject) => {
      stack.push({ deadline, settle: (error) => (error ? reject(error) : resolve()) });
    });
  }

  #passOn(): void {
    let next = this.#stack.pop();
    while (next && next.deadline < this.#options.now()) {
      next.settle(new OverloadedError('too late'));
      next = this.#stack.pop();
    }
    if (next) next.settle();
    else this.#free++;
  }
}

export const createProductCache = (options: Options): ProductCache =>
  new SharedProducts({
    maxWaiting: 0,
    failuresToOpen: FAILURES_TO_OPEN,
    openMs: OPEN_MS,
    now: () => performance.now(),
    ...options,
  });
