import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import type { Pool, PoolConnection } from 'mysql2/promise';
import { backoffMs, InFlight, transaction, withDeadline } from '#kit/given';
import {
  BusyError,
  change,
  gateKey,
  insertOrder,
  isTransient,
  LIMIT_PER_BUYER,
  type Outcome,
  ordersDue,
  ordersOf,
  REMEMBER_MS,
  type Request,
  readStock,
  requestKey,
  TRIES,
} from './given';

export interface Sale {
  /**
   * Takes a unit at the gate, then one from the row, and writes the order. A gate that Redis does not hold is filled from the
   * row.
   */
  reserve(request: Request): Promise<Outcome>;
  /** In production: puts back the units of orders that were not paid in time. @returns how many */
  expire(): Promise<number>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** How long the gate lives after its fill (ms). */
  readonly gateMs?: number;
  /** In production: how long Redis may take for each answer (ms). */
  readonly redisMs?: number;
  /** In production: how long a transaction may take (ms). Then the call rejects with the DeadlineError of `#kit/given`. */
  readonly mysqlMs?: number;
  /** In production: how many calls at once may ask MySQL without the gate. One more rejects with BusyError. */
  readonly maxUngated?: number;
  /** In production: called with each failure of Redis. `reserve` and `expire` do not reject because of it. */
  readonly onGateError?: (error: unknown) => void;
}

// #region gate
/** KEYS: gate, request. ARGV: how long the request is remembered (ms). */
const TAKE = `
  if redis.call('EXISTS', KEYS[2]) == 1 then return 'again' end
  local units = tonumber(redis.call('GET', KEYS[1]))
  if not units then return 'lost' end
  if units < 1 then return 'sold out' end
  redis.call('DECR', KEYS[1])
  redis.call('SET', KEYS[2], '', 'PX', ARGV[1])
  return 'taken'`;

/** KEYS: gate. A lost gate stays lost: the row, from which it is filled, has the unit already. */
const GIVE_BACK = `
  if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('INCR', KEYS[1]) end`;

/** `again`: this request was let in before. `ungated`: Redis could not be asked. */
type Admission = 'taken' | 'again' | 'sold out' | 'lost' | 'ungated';
// #endregion

// #region order
/** Ends a transaction that must change nothing. */
class Undone extends Error {
  constructor(readonly outcome: Outcome) {
    super(outcome.kind);
  }
}

async function order(connection: PoolConnection, request: Request): Promise<Outcome> {
  const taken = 'UPDATE sale_items SET stock = stock - 1 WHERE id = ? AND stock >= 1';
  const isTaken = (await change(connection, taken, [request.itemId])) > 0;
  // After the UPDATE: the row is locked, and the snapshot holds all orders of those who had the lock before.
  const orders = await ordersOf(connection, request);
  const same = orders.find(({ requestId }) => requestId === request.requestId);
  if (same) throw new Undone({ kind: 'reserved', orderId: same.orderId });
  if (!isTaken) return { kind: 'sold out' };
  const standing = orders.filter(({ isExpired }) => !isExpired);
  if (standing.length >= LIMIT_PER_BUYER) throw new Undone({ kind: 'over the limit' });
  return { kind: 'reserved', orderId: await insertOrder(connection, request) };
}
// #endregion

// #region expire
async function expireOrder(connection: PoolConnection, orderId: number, itemId: number): Promise<boolean> {
  const expired = `UPDATE sale_orders SET status = 'expired' WHERE id = ? AND status = 'reserved'`;
  if ((await change(connection, expired, [orderId])) === 0) return false;
  await change(connection, 'UPDATE sale_items SET stock = stock + 1 WHERE id = ?', [itemId]);
  return true;
}
// #endregion

export function createSale({
  redis,
  db,
  gateMs = 5_000,
  redisMs = 100,
  mysqlMs = 2_000,
  maxUngated = 10,
  onGateError = () => {},
}: Options): Sale {
  const fills = new InFlight<unknown>();
  let ungated = 0;
  const inTime = <T>(answer: Promise<T>) => withDeadline(answer, redisMs);

  // #region admit
  async function take(request: Request): Promise<Admission> {
    const taking = redis.eval(TAKE, 2, gateKey(request.itemId), requestKey(request), REMEMBER_MS);
    return (await inTime(taking)) as Admission;
  }

  async function fill(itemId: number): Promise<void> {
    const stock = await withDeadline(readStock(db, itemId), mysqlMs);
    // NX: a late fill must not replace a gate that others have used meanwhile.
    await inTime(redis.set(gateKey(itemId), stock, 'PX', gateMs, 'NX'));
  }

  async function admit(request: Request): Promise<Admission> {
    try {
      const admission = await take(request);
      if (admission !== 'lost') return admission;
      await fills.run(String(request.itemId), () => fill(request.itemId));
      return await take(request);
    } catch (error) {
      onGateError(error);
      return 'ungated';
    }
  }

  // Neither forgets the request: after an error, its order may stand.
  const giveBack = (itemId: number) => inTime(redis.eval(GIVE_BACK, 1, gateKey(itemId))).catch(onGateError);

  const closeGate = (itemId: number) => inTime(redis.del(gateKey(itemId))).catch(onGateError);
  // #endregion

  // #region retry
  async function inTransaction<T>(work: (connection: PoolConnection) => Promise<T>): Promise<T> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await transaction(db, work, mysqlMs);
      } catch (error) {
        if (!isTransient(error) || attempt + 1 >= TRIES) throw error;
        await sleep(backoffMs(attempt));
      }
    }
  }
  // #endregion

  // #region reserve
  const ask = (request: Request) =>
    inTransaction((connection) => order(connection, request)).catch((error: unknown) => {
      if (error instanceof Undone) return error.outcome;
      throw error;
    });

  async function askUngated(request: Request): Promise<Outcome> {
    if (ungated >= maxUngated) throw new BusyError(maxUngated);
    ungated++;
    return ask(request).finally(() => {
      ungated--;
    });
  }

  async function reserve(request: Request): Promise<Outcome> {
    const admission = await admit(request);
    if (admission === 'sold out') return { kind: 'sold out' };
    if (admission === 'again') return ask(request);
    if (admission !== 'taken') return askUngated(request);
    const outcome = await ask(request).catch(async (error: unknown) => {
      await giveBack(request.itemId);
      throw error;
    });
    if (outcome.kind === 'over the limit') await giveBack(request.itemId);
    if (outcome.kind === 'sold out') await closeGate(request.itemId);
    return outcome;
  }
  // #endregion

  // #region worker
  async function expire(): Promise<number> {
    let expired = 0;
    for (const { orderId, itemId } of await withDeadline(ordersDue(db), mysqlMs)) {
      if (!(await inTransaction((connection) => expireOrder(connection, orderId, itemId)))) continue;
      expired++;
      await giveBack(itemId);
    }
    return expired;
  }
  // #endregion

  return { reserve, expire };
}
