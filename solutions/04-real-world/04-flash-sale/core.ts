import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { transaction } from '#kit/given';
import { change, gateKey, insertOrder, type Outcome, ordersDue, type Request, readStock } from './given';

/** KEYS: gate. @returns the units that are left, -1: sold out, nil: no gate */
const TAKE = `
  local units = redis.call('GET', KEYS[1])
  if not units then return nil end
  if tonumber(units) < 1 then return -1 end
  return redis.call('DECR', KEYS[1])`;

/** The version for an interview. Each step trusts the steps before it. */
// #region core
export function createSale({ redis, db, gateMs = 5_000 }: { redis: Redis; db: Pool; gateMs?: number }) {
  async function take(itemId: number): Promise<boolean> {
    let left = await redis.eval(TAKE, 1, gateKey(itemId));
    while (left === null) {
      await redis.set(gateKey(itemId), await readStock(db, itemId), 'PX', gateMs, 'NX');
      left = await redis.eval(TAKE, 1, gateKey(itemId));
    }
    return left !== -1;
  }

  async function reserve(request: Request): Promise<Outcome> {
    const { itemId } = request;
    if (!(await take(itemId))) return { kind: 'sold out' };
    try {
      return await transaction(db, async (connection) => {
        const sql = 'UPDATE sale_items SET stock = stock - 1 WHERE id = ? AND stock >= 1';
        if ((await change(connection, sql, [itemId])) === 0) return { kind: 'sold out' };
        return { kind: 'reserved', orderId: await insertOrder(connection, request) };
      });
    } catch (error) {
      await redis.incr(gateKey(itemId));
      throw error;
    }
  }

  async function expire(): Promise<number> {
    const due = await ordersDue(db);
    for (const { orderId, itemId } of due) {
      await db.query("UPDATE sale_orders SET status = 'expired' WHERE id = ?", [orderId]);
      await db.query('UPDATE sale_items SET stock = stock + 1 WHERE id = ?', [itemId]);
      await redis.incr(gateKey(itemId));
    }
    return due.length;
  }

  return { reserve, expire };
}
// #endregion
