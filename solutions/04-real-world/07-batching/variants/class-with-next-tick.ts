import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { withDeadline } from '#kit/given';
import {
  ABSENT_TTL_MS,
  DEADLINE_MS,
  decode,
  encode,
  InvalidIdError,
  MAX_BATCH,
  PRODUCT_TTL_MS,
  type Product,
  type ProductRow,
  productKey,
  requireId,
  SELECT_PRODUCTS,
} from '../given';

interface Options {
  redis: Redis;
  db: Pool;
  onCacheError?: (error: unknown) => void;
}

/** An answer for each id, read by one batch; as in DataLoader, the batch is a promise that its loads share. */
type Answers = Map<number, Product | null | Error>;

class ProductLoader {
  #options: Options;
  #batch: { ids: Set<number>; answers: Promise<Answers> } | undefined;
  #cache = new Map<number, Promise<Product | null>>();
  #redisIsAway = false;

  constructor(options: Options) {
    this.#options = options;
  }

  load(id: number): Promise<Product | null> {
    try {
      requireId(id);
    } catch (error) {
      return Promise.reject(error instanceof Error ? error : new InvalidIdError(id));
    }
    let product = this.#cache.get(id);
    if (!product) {
      product = this.#enqueue(id);
      this.#cache.set(id, product);
    }
    // Each caller gets an object of its own.
    return product.then((own) => own && { ...own });
  }

  clear(id: number): void {
    this.#cache.delete(id);
  }

  async #enqueue(id: number): Promise<Product | null> {
    let batch = this.#batch;
    if (!batch || batch.ids.size === MAX_BATCH) {
      const ids = new Set<number>();
      batch = { ids, answers: this.#afterThisTick().then(() => this.#read(ids)) };
      this.#batch = batch;
    }
    batch.ids.add(id);
    const answer = (await batch.answers).get(id);
    if (!(answer instanceof Error)) return answer ?? null;
    this.#cache.delete(id);
    throw answer;
  }

  /** After the promises of this tick: those that they resolve too. */
  #afterThisTick(): Promise<void> {
    return Promise.resolve().then(() => new Promise((resolve) => process.nextTick(resolve)));
  }

  async #read(batch: Set<number>): Promise<Answers> {
    if (this.#batch?.ids === batch) this.#batch = undefined;
    const ids = [...batch];
    const { db, onCacheError } = this.#options;
    const promises = new Map(ids.map((id) => [id, this.#cache.get(id)]));
    const answers: Answers = new Map();
    const texts = await this.#texts(ids);
    for (const id of ids) {
      const text = texts.get(id);
      if (typeof text !== 'string') continue;
      try {
        answers.set(id, decode(text));
      } catch (error) {
        onCacheError?.(error);
      }
    }
    const missing = ids.filter((id) => !answers.has(id));
    if (missing.length === 0) return answers;
    try {
      const [rows] = await db.query<ProductRow[]>(SELECT_PRODUCTS, [missing]);
      for (const id of missing) answers.set(id, null);
      for (const row of rows) answers.set(row.id, { ...row });
      const fresh = missing.filter((id) => this.#cache.get(id) === promises.get(id));
      if (!this.#redisIsAway) this.#store(fresh, answers).catch(onCacheError);
    } catch (error) {
      for (const id of missing) answers.set(id, error instanceof Error ? error : new Error(String(error)));
    }
    return answers;
  }

  async #texts(ids: number[]): Promise<Map<number, string | null | undefined>> {
    if (this.#redisIsAway) return new Map();
    try {
      const texts = await withDeadline(this.#options.redis.mget(...ids.map(productKey)), DEADLINE_MS);
      return new Map(ids.map((id, at) => [id, texts[at]]));
    } catch (error) {
      this.#redisIsAway = true;
      this.#options.onCacheError?.(error);
      return new Map();
    }
  }

  /** All or none: MULTI rejects when Redis refuses one of them. */
  async #store(ids: number[], answers: Answers): Promise<void> {
    if (ids.length === 0) return;
    const commands = ids.map((id) => {
      const product = answers.get(id);
      if (product && !(product instanceof Error))
        return ['set', productKey(id), encode(product), 'PX', PRODUCT_TTL_MS];
      return ['set', productKey(id), encode(null), 'PX', ABSENT_TTL_MS];
    });
    await this.#options.redis.multi(commands).exec();
  }
}

export const createProductLoader = (options: Options) => new ProductLoader(options);
