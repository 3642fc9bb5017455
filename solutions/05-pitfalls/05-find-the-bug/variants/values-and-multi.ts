import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { InFlight, transaction } from '#kit/given';
import {
  CALLS_A_MINUTE,
  type Customer,
  HOLD_MS,
  keyOf,
  PRICE_CHANGED,
  type Product,
  type Visitor,
} from '../given';

// 1. Stock

/** At most a minute old. `count` asks the warehouse. */
export async function stockOf(
  redis: Redis,
  productId: number,
  count: (productId: number) => Promise<number>,
): Promise<number> {
  const key = keyOf('stock', productId);
  const cached = Number((await redis.get(key)) ?? Number.NaN);
  if (!Number.isNaN(cached)) return cached;

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
    if (!isMember) return { ...product, price: { ...product.price }, badges: [...product.badges] };
    const cents = Math.round(product.price.cents * 0.9);
    return { ...product, price: { ...product.price, cents }, badges: [...product.badges, 'member price'] };
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
  #day = newDay();
  readonly #request: (currency: string) => Promise<number>;

  constructor(request: (currency: string) => Promise<number>) {
    this.#request = request;
  }

  async rateOf(currency: string): Promise<number> {
    // A request that ends after midnight belongs to the day on which it began.
    const { rates, inFlight } = this.#day;
    const known = rates.get(currency);
    if (known !== undefined) return known;

    return inFlight.run(currency, async () => {
      const rate = await this.#request(currency);
      rates.set(currency, rate);
      return rate;
    });
  }

  /** Called at midnight. */
  startDay(): void {
    this.#day = newDay();
  }
}

const newDay = () => ({ rates: new Map<string, number>(), inFlight: new InFlight<number>() });

// 4. Account pages

/** A page of the visitor's account, rendered once a minute at most. */
export async function accountPage(
  redis: Redis,
  visitor: Visitor,
  path: string,
  render: (visitor: Visitor, path: string) => Promise<string>,
): Promise<string> {
  const key = keyOf('page', path, JSON.stringify([visitor.tenant, visitor.userId, visitor.locale]));
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

const CHANGE = `
  local left = redis.call('PTTL', KEYS[1])
  if left <= 0 then return 0 end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', left)
  return 1`;

/** Replaces the seats of a hold. @returns false when the hold has ended */
export async function changeSeats(
  redis: Redis,
  customerId: string,
  seats: readonly string[],
): Promise<boolean> {
  const changed = await redis.eval(CHANGE, 1, keyOf('seats', customerId), JSON.stringify(seats));
  return changed === 1;
}

// 6. Calls

/** A user's minute begins with their first call. @returns whether the call is allowed */
export async function allowCall(redis: Redis, userId: string): Promise<boolean> {
  const key = keyOf('calls', userId);
  const results = await redis.multi().set(key, 0, 'EX', 60, 'NX').incr(key).exec();
  const calls = Number(results?.[1]?.[1]);
  return calls <= CALLS_A_MINUTE;
}

// 7. Reports

/** Optimistic: WATCH needs a connection of its own. */
async function release(redis: Redis, lock: string, owner: string): Promise<void> {
  const own = redis.duplicate();
  try {
    await own.watch(lock);
    if ((await own.get(lock)) === owner) await own.multi().del(lock).exec();
  } finally {
    own.disconnect();
  }
}

/** @returns undefined when another process runs this report */
export async function runReport<T>(
  redis: Redis,
  name: string,
  report: () => Promise<T>,
  leaseMs = 30_000,
): Promise<T | undefined> {
  const lock = keyOf('report', name);
  const owner = `${process.pid}:${randomUUID()}`;
  const taken = await redis.set(lock, owner, 'PX', leaseMs, 'NX');
  if (taken === null) return undefined;

  try {
    return await report();
  } finally {
    await release(redis, lock, owner);
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
  });
  await redis.unlink(keyOf('price', productId));
}

// 9. Brand pages

async function generationOf(redis: Redis, brand: string): Promise<string> {
  const fresh = randomUUID();
  // Redis 7: GET gives the generation that was there.
  return (await redis.set(keyOf('generation', brand), fresh, 'NX', 'GET')) ?? fresh;
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
  #listening = false;

  /** @param subscriber a second connection, which connects again when it breaks */
  constructor(redis: Redis, subscriber: Redis) {
    this.#redis = redis;
    this.#subscriber = subscriber;
    subscriber.on('close', () => this.#listen(false));
    subscriber.on('ready', () => void this.start().catch(() => {}));
    subscriber.on('message', (_channel, productId) => {
      this.#changes++;
      this.#prices.delete(productId);
    });
  }

  async start(): Promise<void> {
    await this.#subscriber.subscribe(PRICE_CHANGED);
    this.#listen(true);
  }

  /** What is read while nobody listens is not kept. */
  #listen(listening: boolean): void {
    this.#listening = listening;
    this.#changes++;
    this.#prices.clear();
  }

  async priceOf(productId: string): Promise<string | null> {
    const known = this.#prices.get(productId);
    if (known !== undefined) return known;

    const changes = this.#changes;
    const price = await this.#redis.get(keyOf('near', productId));
    // If a price has changed while Redis answered, this one may be old.
    if (price !== null && this.#listening && changes === this.#changes) this.#prices.set(productId, price);
    return price;
  }
}
