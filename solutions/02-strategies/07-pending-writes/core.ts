import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  type Changes,
  type Product,
  STREAM,
  selectProduct,
  streamFields,
  toProduct,
  VIEW_TTL_MS,
  type Write,
} from './given';

const rowKey = (id: number) => `view:${id}:row`;
/** One field for each pending write: its stream id. Redis removes the hash with its last field. */
const pendingKey = (id: number) => `view:${id}:pending`;

// #region scripts
/** KEYS: stream, pending. ARGV: the changes, then the fields of the entry. */
const ACCEPT = `
  local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
  redis.call('HSET', KEYS[2], id, ARGV[1])`;

/** KEYS: row, pending. ARGV: the write's id, the TTL, then columns and values. */
const COMMITTED = `
  redis.call('HDEL', KEYS[2], ARGV[1])
  if redis.call('EXISTS', KEYS[1]) == 0 then return end
  redis.call('HSET', KEYS[1], unpack(ARGV, 3))
  redis.call('PEXPIRE', KEYS[1], ARGV[2])`;
// #endregion

/** The version for an interview: one worker, which reports each write once. */
// #region core
export function createPendingWrites({
  redis,
  db,
  viewTtlMs = VIEW_TTL_MS,
}: {
  redis: Redis;
  db: Pool;
  viewTtlMs?: number;
}) {
  return {
    async accept(id: number, changes: Changes): Promise<void> {
      const fields = streamFields(id, changes);
      await redis.eval(ACCEPT, 2, STREAM, pendingKey(id), JSON.stringify(changes), ...fields);
    },

    async read(id: number): Promise<Product | null> {
      // Pending first: a write that is committed between the two is then seen twice, and not missed.
      const pending = await redis.hgetall(pendingKey(id));
      const cached = await redis.hgetall(rowKey(id));
      const row = cached.name === undefined ? await selectProduct(db, id) : toProduct(id, cached);
      if (!row) return null;
      if (cached.name === undefined) {
        await redis.multi().hset(rowKey(id), row).pexpire(rowKey(id), viewTtlMs).exec();
      }
      const writes = Object.entries(pending).sort(([a], [b]) => (a < b ? -1 : 1));
      return Object.assign({ ...row }, ...writes.map(([, changes]) => JSON.parse(changes)));
    },

    async committed({ id, product, changes }: Write): Promise<void> {
      const values = Object.entries(changes).flat();
      await redis.eval(COMMITTED, 2, rowKey(product), pendingKey(product), id, viewTtlMs, ...values);
    },

    async refused({ id, product }: Write): Promise<void> {
      await redis.hdel(pendingKey(product), id);
    },
  };
}
// #endregion
