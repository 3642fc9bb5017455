import { setTimeout as sleep } from 'node:timers/promises';
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
  TRIES,
} from '../given';

const REMEMBERED_MS = 3_600_000;
const ER_DUP_ENTRY = 1062;

const winnersKey = (itemId: number) => `${gateKey(itemId)}:winners`;
const memberOf = ({ buyerId, requestId }: Request) => `${buyerId} ${requestId}`;

/** KEYS: gate, winners. ARGV: request, ms. @returns a word */
const ENTER = `
  if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 'known' end
  local units = redis.call('GET', KEYS[1])
  if not units then return 'lost' end
  if tonumber(units) < 1 then return 'closed' end
  redis.call('DECR', KEYS[1])
  redis.call('SADD', KEYS[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return 'entered'`;

/** KEYS: gate. */
const LEAVE = `
  local units = redis.call('GET', KEYS[1])
  if units then redis.call('SET', KEYS[1], units + 1, 'KEEPTTL') end`;

/** The row is changed last, so that its lock is held for one statement and the COMMIT. */
async function order(connection: PoolConnection, request: Request): Promise<Outcome> {
  const orderId = await insertOrder(connection, request);
  const [{ affectedRows }] = await connection.query<ResultSetHeader>(
    'UPDATE sale_items SET stock = stock - 1 WHERE id = ? AND stock > 0',
    [request.itemId],
  );
  const orders = (await ordersOf(connection, request)).filter(({ isExpired }) => !isExpired);
  if (affectedRows === 1 && orders.length <= LIMIT_PER_BUYER) return { kind: 'reserved', orderId };
  await connection.rollback();
  return { kind: affectedRows === 1 ? 'over the limit' : 'sold out' };
}

export function createSale({
  redis,
  db,
  gateMs = 5_000,
  redisMs = 100,
  mysqlMs = 2_000,
  maxUngated = 10,
  onGateError = () => {},
}: {
  redis: Redis;
  db: Pool;
  gateMs?: number;
  redisMs?: number;
  mysqlMs?: number;
  maxUngated?: number;
  onGateError?: (error: unknown) => void;
}) {
  let ungated = 0;
  const filling = new Map<number, Promise<unknown>>();

  async function retry<T>(work: (connection: PoolConnection) => Promise<T>): Promise<T> {
    let attempt = 0;
    while (true) {
      try {
        return await transaction(db, work, mysqlMs);
      } catch (error) {
        attempt++;
        if (!isTransient(error) || attempt >= TRIES) throw error;
        await sleep(backoffMs(attempt));
      }
    }
  }

  const enter = (request: Request) => {
    const keys = [gateKey(request.itemId), winnersKey(request.itemId)] as const;
    return withDeadline(redis.eval(ENTER, 2, ...keys, memberOf(request), REMEMBERED_MS), redisMs);
  };
  const leave = ({ itemId }: Request) =>
    withDeadline(redis.eval(LEAVE, 1, gateKey(itemId)), redisMs).catch(onGateError);

  async function fill(itemId: number): Promise<void> {
    let filled = filling.get(itemId);
    if (!filled) {
      filled = withDeadline(readStock(db, itemId), mysqlMs)
        .then((stock) => withDeadline(redis.set(gateKey(itemId), stock, 'PX', gateMs, 'NX'), redisMs))
        .finally(() => filling.delete(itemId));
      filling.set(itemId, filled);
    }
    await filled;
  }

  async function write(request: Request): Promise<Outcome> {
    try {
      return await retry((connection) => order(connection, request));
    } catch (error) {
      if (Object(error).errno !== ER_DUP_ENTRY) throw error;
      const orders = await withDeadline(ordersOf(db, request), mysqlMs);
      const same = orders.find(({ requestId }) => requestId === request.requestId);
      if (!same) throw error;
      return { kind: 'reserved', orderId: same.orderId };
    }
  }

  async function reserve(request: Request): Promise<Outcome> {
    let entry: unknown;
    try {
      entry = await enter(request);
      if (entry === 'lost') {
        await fill(request.itemId);
        entry = await enter(request);
      }
    } catch (error) {
      onGateError(error);
    }
    if (entry === 'closed') return { kind: 'sold out' };
    if (entry === 'known') return write(request);
    if (entry === 'entered') {
      const written = await Promise.allSettled([write(request)]);
      const [result] = written;
      if (result.status === 'rejected') {
        await leave(request);
        throw result.reason;
      }
      const { kind } = result.value;
      if (kind !== 'reserved') await leave(request);
      if (kind === 'sold out')
        await withDeadline(redis.del(gateKey(request.itemId)), redisMs).catch(onGateError);
      return result.value;
    }
    if (ungated === maxUngated) throw new BusyError(maxUngated);
    ungated += 1;
    return write(request).finally(() => {
      ungated -= 1;
    });
  }

  async function expire(): Promise<number> {
    const due = await withDeadline(ordersDue(db), mysqlMs);
    let count = 0;
    for (const request of due) {
      const done = await retry(async (connection) => {
        const [changed] = await connection.query<ResultSetHeader>(
          `UPDATE sale_orders SET status = 'expired' WHERE id = ? AND status = 'reserved'`,
          [request.orderId],
        );
        if (changed.affectedRows === 1) {
          await connection.query('UPDATE sale_items SET stock = stock + 1 WHERE id = ?', [request.itemId]);
        }
        return changed.affectedRows === 1;
      });
      if (done) count++;
      if (done) await leave(request);
    }
    return count;
  }

  return { reserve, expire };
}
