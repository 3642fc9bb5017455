import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { transaction } from '#kit/given';
import {
  CALLS_A_MINUTE,
  type Customer,
  HOLD_MS,
  keyOf,
  PRICE_CHANGED,
  type Product,
  type Visitor,
} from './given';

// 1. Stock

/** At most a minute old. `count` asks the warehouse. */
export async function stockOf(
  redis: Redis,
  productId: number,
  count: (productId: number) => Promise<number>,
): Promise<number> {
  const key = keyOf('stock', productId);
  const cached = Number(await redis.get(key));
  if (cached) return cached;

  const counted = await count(productId);
  await redis.set(key, counted, 'EX', 60);
  return counted;
}

// 2. Offers

/** Products change at a deploy only. Members pay 10 % less. */
export class Catalogue {
  readonly #products = new Map<number, Product>();
  readonly #load: (productId: number) => Promise<Product>;

  constructor(load: (productId: number) => Promise<Product>) {
    this.#load = load;
  }

  async offer(productId: number, { isMember }: Customer): Promise<Product> {
    const product = await this.#find(productId);
    if (isMember) {
      product.price.cents = Math.round(product.price.cents * 0.9);
      product.badges.push('member price');
    }
    return product;
  }

  async #find(productId: number): Promise<Product> {
    const known = this.#products.get(productId);
    if (known) return known;

    const product = await this.#load(productId);
    this.#products.set(productId, product);
    return product;
  }
}

// 3. Exchange rates

/** The rates of today. Calls at the same time share a request. */
export class ExchangeRates {
  readonly #rates = new Map<string, Promise<number>>();
  readonly #request: (currency: string) => Promise<number>;

  constructor(request: (currency: string) => Promise<number>) {
    this.#request = request;
  }

  rateOf(currency: string): Promise<number> {
    const known = this.#rates.get(currency);
    if (known) return known;

    const rate = this.#request(currency);
    this.#rates.set(currency, rate);
    return rate;
  }

  /** Called at midnight. */
  startDay(): void {
    this.#rates.clear();
  }
}

// 4. Account pages

/** A page of the visitor's account, rendered once a minute at most. */
export async function accountPage(
  redis: Redis,
  visitor: Visitor,
  path: string,
  render: (visitor: Visitor, path: string) => Promise<string>,
): Promise<string> {
  const key = keyOf('page', path, visitor.locale);
  const cached = await redis.get(key);
  if (cached !== null) return cached;

  const page = await render(visitor, path);
  await redis.set(key, page, 'EX', 60);
  return page;
}

// 5. Seats

/** Holds seats for {@link HOLD_MS}. */
export async function holdSeats(redis: Redis, customerId: string, seats: readonly string[]): Promise<void> {
  await redis.set(keyOf('seats', customerId), JSON.stringify(seats), 'PX', HOLD_MS);
}

/** Replaces the seats of a hold. @returns false when the hold has ended */
export async function changeSeats(
  redis: Redis,
  customerId: string,
  seats: readonly string[],
): Promise<boolean> {
  const changed = await redis.set(keyOf('seats', customerId), JSON.stringify(seats), 'XX');
  return changed !== null;
}

// 6. Calls

/** A user's minute begins with their first call. @returns whether the call is allowed */
export async function allowCall(redis: Redis, userId: string): Promise<boolean> {
  const key = keyOf('calls', userId);
  const calls = await redis.incr(key);
  if (calls === 1) await redis.expire(key, 60);
  return calls <= CALLS_A_MINUTE;
}

// 7. Reports

/** @returns undefined when another process runs this report */
export async function runReport<T>(
  redis: Redis,
  name: string,
  report: () => Promise<T>,
  leaseMs = 30_000,
): Promise<T | undefined> {
  const lock = keyOf('report', name);
  const taken = await redis.set(lock, process.pid, 'PX', leaseMs, 'NX');
  if (taken === null) return undefined;

  try {
    return await report();
  } finally {
    await redis.del(lock);
  }
}

// 8. Prices

export async function priceOf(db: Pool, redis: Redis, productId: number): Promise<string | undefined> {
  const key = keyOf('price', productId);
  const cached = await redis.get(key);
  if (cached !== null) return cached;

  const [rows] = await db.execute<RowDataPacket[]>('SELECT price FROM products WHERE id = ?', [productId]);
  const price: string | undefined = rows[0]?.price;
  if (price !== undefined) await redis.set(key, price, 'EX', 3600);
  return price;
}

/** Changes the price, and adds an event to the history. */
export async function changePrice(
  db: Pool,
  redis: Redis,
  productId: number,
  price: string,
  userId: number,
): Promise<void> {
  await transaction(db, async (connection) => {
    await connection.execute('UPDATE products SET price = ? WHERE id = ?', [price, productId]);
    await connection.execute(
      "INSERT INTO events (user_id, product_id, kind, amount, created_at) VALUES (?, ?, 'price', ?, NOW(3))",
      [userId, productId, price],
    );
    await redis.del(keyOf('price', productId));
  });
}

// 9. Brand pages

/** Rendered once an hour at most. */
export async function brandPage(
  redis: Redis,
  brand: string,
  path: string,
  render: (path: string) => Promise<string>,
): Promise<string> {
  const generation = (await redis.get(keyOf('generation', brand))) ?? '0';
  const key = keyOf('brand', brand, generation, path);
  const cached = await redis.get(key);
  if (cached !== null) return cached;

  const page = await render(path);
  await redis.set(key, page, 'EX', 3600);
  return page;
}

/** All pages of the brand are rendered again. */
export async function refreshBrand(redis: Redis, brand: string): Promise<void> {
  await redis.incr(keyOf('generation', brand));
}

// 10. Prices near the code

/** Stores the price, and tells all processes. */
export async function publishPrice(redis: Redis, productId: string, price: string): Promise<void> {
  await redis.multi().set(keyOf('near', productId), price).publish(PRICE_CHANGED, productId).exec();
}

/** The prices in Redis, kept in this process too. */
export class NearPrices {
  readonly #prices = new Map<string, string>();
  readonly #redis: Redis;
  readonly #subscriber: Redis;
  #changes = 0;

  /** @param subscriber a second connection, which connects again when it breaks */
  constructor(redis: Redis, subscriber: Redis) {
    this.#redis = redis;
    this.#subscriber = subscriber;
    subscriber.on('message', (_channel, productId) => {
      this.#changes++;
      this.#prices.delete(productId);
    });
  }

  async start(): Promise<void> {
    await this.#subscriber.subscribe(PRICE_CHANGED);
  }

  async priceOf(productId: string): Promise<string | null> {
    const known = this.#prices.get(productId);
    if (known !== undefined) return known;

    const changes = this.#changes;
    const price = await this.#redis.get(keyOf('near', productId));
    // If a price has changed while Redis answered, this one may be old.
    if (price !== null && changes === this.#changes) this.#prices.set(productId, price);
    return price;
  }
}
