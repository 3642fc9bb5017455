import type { Redis } from 'ioredis';
import { withDeadline } from '#kit/given';
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
} from './given';

export interface Options {
  readonly redis: Redis;
  /** One query of the database. It rejects when the query fails, or takes too long. */
  readonly load: (id: number) => Promise<Product>;
  /** How many loads may run at once. */
  readonly limit: number;
  /** In production: how many reads may wait for a load to end; 0 if absent. */
  readonly maxWaiting?: number;
  /** In production: how many failed loads in a row open the breaker; FAILURES_TO_OPEN if absent. */
  readonly failuresToOpen?: number;
  /** In production: how long it then stays open (ms); OPEN_MS if absent. */
  readonly openMs?: number;
  /** In production: the clock (ms); performance.now if absent. */
  readonly now?: () => number;
}

export interface ProductCache {
  /**
   * The product: from Redis, else loaded once and stored for TTL_MS.
   * @param deadline in production: when the reader leaves (ms, by `now`)
   * @throws an OverloadedError at once if the product is not in Redis and may not be loaded now; the error of `load`
   */
  get(id: number, deadline?: number): Promise<Product>;
  /**
   * In production: puts products into Redis, a few at a time. Resolves when it has tried all of them.
   * @param ids the hottest first
   */
  warm(ids: readonly number[]): Promise<void>;
}

// #region cache
export function createProductCache({
  redis,
  load,
  limit,
  maxWaiting = 0,
  failuresToOpen = FAILURES_TO_OPEN,
  openMs = OPEN_MS,
  now = () => performance.now(),
}: Options): ProductCache {
  const places = new Places(limit, maxWaiting, now);
  const breaker = new Breaker(failuresToOpen, openMs, now);

  async function get(id: number, deadline = Number.POSITIVE_INFINITY): Promise<Product> {
    const cached = await find(redis, id);
    if (cached) return cached;
    breaker.requireClosed();
    await places.take(deadline);
    try {
      const product = await breaker.run(() => load(id));
      store(redis, product);
      return product;
    } finally {
      places.free();
    }
  }

  return {
    get,
    async warm(ids) {
      const remaining = ids.values();
      const worker = async () => {
        // A product that is not loaded now is loaded by its first reader.
        for (const id of remaining) await get(id).catch(() => {});
      };
      const workers = Math.max(1, Math.floor(limit / 2));
      await Promise.all(Array.from({ length: workers }, worker));
    },
  };
}

/** Without Redis a read is a miss like any other, and loads within the limit. */
async function find(redis: Redis, id: number): Promise<Product | undefined> {
  const reading = redis.getBuffer(productKey(id));
  return decode(await withDeadline(reading, REDIS_DEADLINE_MS).catch(() => null));
}

/** Nobody waits for it: the reader has its product. */
function store(redis: Redis, product: Product): void {
  redis.set(productKey(product.id), encode(product), 'PX', TTL_MS).catch(() => {});
}
// #endregion

// #region places
interface Waiting {
  readonly deadline: number;
  go(): void;
  leave(): void;
}

/** At most `limit` loads at once, and a short queue before them. */
class Places {
  #underWay = 0;
  #waiting: Waiting[] = [];

  constructor(
    readonly limit: number,
    readonly maxWaiting: number,
    readonly now: () => number,
  ) {}

  async take(deadline: number): Promise<void> {
    if (this.#underWay < this.limit) {
      this.#underWay++;
      return;
    }
    this.#skipDead();
    if (this.#waiting.length >= this.maxWaiting) throw new OverloadedError();
    await new Promise<void>((go, reject) => {
      this.#waiting.push({ deadline, go, leave: () => reject(new OverloadedError('the reader has left')) });
    });
  }

  /** The place goes to the next reader that is still there. */
  free(): void {
    this.#skipDead();
    const next = this.#waiting.shift();
    if (next) next.go();
    else this.#underWay--;
  }

  #skipDead(): void {
    const isDead = ({ deadline }: Waiting) => deadline <= this.now();
    for (const reader of this.#waiting.filter(isDead)) reader.leave();
    this.#waiting = this.#waiting.filter((reader) => !isDead(reader));
  }
}
// #endregion

// #region breaker
/** Counts failed loads in a row. Its state is what they and the clock say. */
class Breaker {
  #failures = 0;
  #openUntil = 0;
  #probing = false;

  constructor(
    readonly failuresToOpen: number,
    readonly openMs: number,
    readonly now: () => number,
  ) {}

  requireClosed(): void {
    if (this.#failures < this.failuresToOpen) return;
    if (this.#probing || this.now() < this.#openUntil) throw new OverloadedError('the database has failed');
  }

  async run<T>(load: () => Promise<T>): Promise<T> {
    // It may have opened while this reader waited.
    this.requireClosed();
    // Half-open: this load is the only one until it has ended.
    const isProbe = this.#failures >= this.failuresToOpen;
    if (isProbe) this.#probing = true;
    try {
      const value = await load();
      this.#failures = 0;
      return value;
    } catch (error) {
      this.#failures++;
      this.#openUntil = this.now() + this.openMs;
      throw error;
    } finally {
      if (isProbe) this.#probing = false;
    }
  }
}
// #endregion
