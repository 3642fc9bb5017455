import type { Redis } from 'ioredis';
import type { Pool, PoolConnection, ResultSetHeader } from 'mysql2/promise';
import { backoffMs, transaction, withDeadline } from '#kit/given';
import {
  BusyError,
  gateKey,
  insertOrder,
  isTransient,
  LIMIT_PER_BUYER,
  type Outcome,
  ordersDue,
  ordersOf,
  type Request,
  readStock,
  requestKey,
  TRIES,
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  readonly gateMs?: number;
  readonly redisMs?: number;
  readonly mysqlMs?: number;
  readonly maxUngated?: number;
  readonly onGateError?: (error: unknown) => void;
}

const REMEMBERED_S = 3_600;

const TAKE = `
  local units = redis.call('GET', KEYS[1])
  if not units then return -2 end
  if tonumber(units) <= 0 then return -1 end
  return redis.call('DECR', KEYS[1])`;

/** Locks the row first, notes the request before it takes a unit, and deletes the gate whenever it may be too low or too high. */
class Sale {
  readonly #filling = new Map<number, Promise<void>>();
  #ungated = 0;

  constructor(
    readonly redis: Redis,
    readonly db: Pool,
    readonly gateMs: number,
    readonly redisMs: number,
    readonly mysqlMs: number,
    readonly maxUngated: number,
    readonly onGateError: (error: unknown) => void,
  ) {}

  async reserve(request: Request): Promise<Outcome> {
    const way = await this.#enter(request);
    if (way === 'closed') return { kind: 'sold out' };
    if (way === 'ungated' && this.#ungated >= this.maxUngated) throw new BusyError(this.maxUngated);
    if (way === 'ungated') this.#ungated++;
    let isReserved = false;
    try {
      const outcome = await this.#again(() =>
        transaction(this.db, (connection) => this.#order(connection, request), this.mysqlMs),
      );
      isReserved = outcome.kind === 'reserved';
      return outcome;
    } finally {
      if (way === 'ungated') this.#ungated--;
      if (way === 'gated' && !isReserved) await this.#forget(gateKey(request.itemId));
    }
  }

  async expire(): Promise<number> {
    const expired = await this.#again(() =>
      transaction(
        this.db,
        async (connection) => {
          const due = await ordersDue(connection);
          const ours: Request[] = [];
          for (const order of due) {
            const [{ affectedRows }] = await connection.query<ResultSetHeader>(
              `UPDATE sale_orders o JOIN sale_items i ON i.id = o.item_id
               SET o.status = 'expired', i.stock = i.stock + 1 WHERE o.id = ? AND o.status = 'reserved'`,
              [order.orderId],
            );
            if (affectedRows > 0) ours.push(order);
          }
          return ours;
        },
        this.mysqlMs,
      ),
    );
    for (const { itemId } of expired) await this.#forget(gateKey(itemId));
    return expired.length;
  }

  async #order(connection: PoolConnection, request: Request): Promise<Outcome> {
    const [rows] = await connection.query<never[]>('SELECT stock FROM sale_items WHERE id = ? FOR UPDATE', [
      request.itemId,
    ]);
    const { stock = 0 } = Object(rows[0]) as { stock?: number };
    const orders = await ordersOf(connection, request);
    const same = orders.find(({ requestId }) => requestId === request.requestId);
    if (same) return { kind: 'reserved', orderId: same.orderId };
    if (stock < 1) return { kind: 'sold out' };
    if (orders.filter(({ isExpired }) => !isExpired).length >= LIMIT_PER_BUYER)
      return { kind: 'over the limit' };
    await connection.query('UPDATE sale_items SET stock = stock - 1 WHERE id = ?', [request.itemId]);
    return { kind: 'reserved', orderId: await insertOrder(connection, request) };
  }

  async #take(itemId: number): Promise<boolean> {
    let left = await this.#ask(this.redis.eval(TAKE, 1, gateKey(itemId)));
    if (left === -2) {
      await this.#fill(itemId);
      left = await this.#ask(this.redis.eval(TAKE, 1, gateKey(itemId)));
    }
    return Number(left) >= 0;
  }

  async #fill(itemId: number): Promise<void> {
    const running = this.#filling.get(itemId);
    if (running) return running;
    const filling = (async () => {
      const stock = await withDeadline(readStock(this.db, itemId), this.mysqlMs);
      await this.#ask(this.redis.set(gateKey(itemId), stock, 'PX', this.gateMs, 'NX'));
    })();
    this.#filling.set(itemId, filling);
    try {
      await filling;
    } finally {
      this.#filling.delete(itemId);
    }
  }

  async #enter(request: Request): Promise<'gated' | 'known' | 'closed' | 'ungated'> {
    try {
      const noted = await this.#ask(this.redis.set(requestKey(request), '', 'EX', REMEMBERED_S, 'NX'));
      if (noted === null) return 'known';
      if (await this.#take(request.itemId)) return 'gated';
      await this.#forget(requestKey(request));
      return 'closed';
    } catch (error) {
      this.onGateError(error);
      return 'ungated';
    }
  }

  async #forget(key: string): Promise<void> {
    await this.#ask(this.redis.del(key)).catch(this.onGateError);
  }

  #ask<T>(answer: Promise<T>): Promise<T> {
    return withDeadline(answer, this.redisMs);
  }

  async #again<T>(work: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await work();
      } catch (error) {
        if (tries === TRIES || !isTransient(error)) throw error;
        await new Promise((resolve) => setTimeout(resolve, backoffMs(tries)));
      }
    }
  }
}

export const createSale = ({
  redis,
  db,
  gateMs = 5_000,
  redisMs = 100,
  mysqlMs = 2_000,
  maxUngated = 10,
  onGateError = () => {},
}: Options) => new Sale(redis, db, gateMs, redisMs, mysqlMs, maxUngated, onGateError);
