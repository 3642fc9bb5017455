import { randomUUID } from 'node:crypto';
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

// #region stock
/** At most a minute old. `count` asks the warehouse. */
export async function stockOf(
  redis: Redis,
  productId: number,
  count: (productId: number) => Promise<number>,
): Promise<number> {
  const key = keyOf('stock', productId);
  const cached = await redis.get(key);
  if (cached !== null) return Number(cached);

  const counted = await count(productId);
  await redis.set(key, counted, 'EX', 60);
  return counted;
}
// #endregion

// 2. Offers

// #region offers
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

  /** A copy: its owner may change it. */
  async #find(productId: number): Promise<Product> {
    const known = this.#products.get(productId);
    if (known) return structuredClone(known);

    const product = await this.#load(productId);
    this.#products.set(productId, product);
    return structuredClone(product);
  }
}
// #endregion

// 3. Exchange rates

// #region rates
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
    rate.catch(() => {
      // At midnight another request may have taken its place.
      if (this.#rates.get(currency) === rate) this.#rates.delete(currency);
    });
    return rate;
  }

  /** Called at midnight. */
  startDay(): void {
    this.#rates.clear();
  }
}
// #endregion

// 4. Account pages

// #region pages
/** A page of the visitor's account, rendered once a minute at most. */
export async function accountPage(
  redis: Redis,
  visitor: Visitor,
  path: string,
  render: (visitor: Visitor, path: string) => Promise<string>,
): Promise<string> {
  const key = keyOf('page', visitor.tenant, visitor.userId, path, visitor.locale);
  const cached = await redis.get(key);
  if (cached !== null) return cached;

  const page = await render(visitor, path);
  await redis.set(key, page, 'EX', 60);
  return page;
}
// #endregion

// 5. Seats

// #region seats
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
  const changed = await redis.set(keyOf('seats', customerId), JSON.stringify(seats), 'KEEPTTL', 'XX');
  return changed !== null;
}
// #endregion

// 6. Calls

// #region calls
/** A script runs as a whole. A key that has lost its TTL gets a new one. */
const COUNT = `
  local calls = redis.call('INCR', KEYS[1])
  if redis.call('TTL', KEYS[1]) < 0 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
  return calls`;

/** A user's minute begins with their first call. @returns whether the call is allowed */
export async function allowCall(redis: Redis, userId: string): Promise<boolean> {
  const key = keyOf('calls', userId);
  const calls = Number(await redis.eval(COUNT, 1, key, 60));
  return calls <= CALLS_A_MINUTE;
}
// #endregion

// 7. Reports

// #region reports
/** After the lease, the lock may be that of another process. */
const RELEASE = `if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end`;

/** @returns undefined when another process runs this report */
export async function runReport<T>(
  redis: Redis,
  name: string,
  report: () => Promise<T>,
  leaseMs = 30_000,
): Promise<T | undefined> {
  const lock = keyOf('report', name);
  const token = randomUUID();
  const taken = await redis.set(lock, token, 'PX', leaseMs, 'NX');
  if (taken === null) return undefined;

  try {
    return await report();
  } finally {
    await redis.eval(RELEASE, 1, lock, token);
  }
}
// #endregion

// 8. Prices

// #region prices
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
  });
  // Before the commit, a reader would cache the old price again.
  await redis.del(keyOf('price', productId));
}
// #endregion

// 9. Brand pages

// #region brands
/** One that is missing was evicted, and no generation ever comes back. */
async function generationOf(redis: Redis, brand: string): Promise<string> {
  const key = keyOf('generation', brand);
  const current = await redis.get(key);
  if (current !== null) return current;

  const fresh = randomUUID();
  await redis.set(key, fresh, 'NX');
  // Another process may have been faster.
  return (await redis.get(key)) ?? fresh;
}

/** Rendered once an hour at most. */
export async function brandPage(
  redis: Redis,
  brand: string,
  path: string,
  render: (path: string) => Promise<string>,
): Promise<string> {
  const generation = await generationOf(redis, brand);
  const key = keyOf('brand', brand, generation, path);
  const cached = await redis.get(key);
  if (cached !== null) return cached;

  const page = await render(path);
  await redis.set(key, page, 'EX', 3600);
  return page;
}

/** All pages of the brand are rendered again. */
export async function refreshBrand(redis: Redis, brand: string): Promise<void> {
  await redis.set(keyOf('generation', brand), randomUUID());
}
// #endregion

// 10. Prices near the code

// #region near
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
    subscriber.on('ready', () => {
      // What was published before this SUBSCRIBE was answered has reached nobody.
      subscriber.subscribe(PRICE_CHANGED).then(
        () => this.#forgetAll(),
        () => {},
      );
    });
  }

  async start(): Promise<void> {
    await this.#subscriber.subscribe(PRICE_CHANGED);
  }

  #forgetAll(): void {
    this.#changes++;
    this.#prices.clear();
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
// #endregion
