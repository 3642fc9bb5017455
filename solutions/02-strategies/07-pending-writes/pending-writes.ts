import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { toRecord, withDeadline } from '#kit/given';
import {
  type Changes,
  DEADLINE_MS,
  type Product,
  STREAM,
  selectProduct,
  sortable,
  streamFields,
  toProduct,
  VIEW_TTL_MS,
  type Write,
} from './given';

// #region keys
/** A view's keys. They share the tag of the stream, so a cluster keeps all of them in one slot. */
const keysOf = (id: number) => ({
  /** A copy of the whole row, or nothing. Its TTL counts from the fill. */
  row: `{products}:${id}:row`,
  /** One field for each pending write: its stream id. Redis removes the hash with its last field. */
  pending: `{products}:${id}:pending`,
  /** For each column: the newest committed write. No TTL while a write is pending. */
  marks: `{products}:${id}:marks`,
});
// #endregion

// #region accept
/** KEYS: stream, pending, marks. ARGV: the changes, then the fields of the entry. */
const ACCEPT = `
  local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
  redis.call('HSET', KEYS[2], id, ARGV[1])
  redis.call('PERSIST', KEYS[3])`;
// #endregion

// #region read
/** KEYS: row, pending, marks. All three at one moment: a commit moves a write from one to the others. */
const LOOK = `
  return {redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3])}`;

/** KEYS: row, marks. ARGV: the TTL, the reader's marks of price and stock, then the row. */
const FILL = `
  local price, stock = unpack(redis.call('HMGET', KEYS[2], 'price', 'stock'))
  -- A write was committed after the reader looked: its row may be older.
  if (price or '') ~= ARGV[2] or (stock or '') ~= ARGV[3] then return end
  redis.call('HSET', KEYS[1], unpack(ARGV, 4))
  redis.call('PEXPIRE', KEYS[1], ARGV[1])`;
// #endregion

// #region finish
/** KEYS: row, pending, marks. ARGV: the write's id, the same to sort by, the TTL, then what was committed. */
const FINISH = `
  if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return end -- it was reported before
  for at = 4, #ARGV, 2 do
    local column, value = ARGV[at], ARGV[at + 1]
    if ARGV[2] > (redis.call('HGET', KEYS[3], column) or '') then
      redis.call('HSET', KEYS[3], column, ARGV[2])
      if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], column, value) end
    end
  end
  if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('PEXPIRE', KEYS[3], ARGV[3]) end`;
// #endregion

export interface PendingWrites {
  /** Puts the write into the stream and into the product's view, and resolves. */
  accept(id: number, changes: Changes): Promise<void>;
  /**
   * The product with every accepted write that MySQL did not refuse; null when MySQL has no such row. The view keeps a
   * copy of the row. In production: rejects when Redis does not answer.
   */
  read(id: number): Promise<Product | null>;
  /**
   * The worker calls it when MySQL has committed the write. In production: it may be called twice, and an older write may
   * be committed after a newer one.
   */
  committed(write: Write): Promise<void>;
  /** The worker calls it when MySQL has refused the write. In production: it may be called twice. */
  refused(write: Write): Promise<void>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** How long a copy of the row lives, counted from its fill (ms). */
  readonly viewTtlMs?: number;
  /** In production: how long one Redis command may take (ms). */
  readonly deadlineMs?: number;
}

/**
 * Reads that see accepted writes before MySQL has them. The keys of a view are yours. When nothing is pending, each of
 * them has a TTL.
 */
export function createPendingWrites({
  redis,
  db,
  viewTtlMs = VIEW_TTL_MS,
  deadlineMs = DEADLINE_MS,
}: Options): PendingWrites {
  const run = (script: string, keys: readonly string[], ...args: (string | number)[]): Promise<unknown> =>
    withDeadline(redis.eval(script, keys.length, ...keys, ...args), deadlineMs);

  async function finish({ id, product }: Write, committed: Changes): Promise<void> {
    const { row, pending, marks } = keysOf(product);
    const values = Object.entries(committed).flat();
    await run(FINISH, [row, pending, marks], id, sortable(id), viewTtlMs, ...values);
  }

  // #region view
  return {
    async accept(id, changes) {
      const { pending, marks } = keysOf(id);
      await run(ACCEPT, [STREAM, pending, marks], JSON.stringify(changes), ...streamFields(id, changes));
    },

    async read(id) {
      const { row, pending, marks } = keysOf(id);
      const found = (await run(LOOK, [row, pending, marks])) as string[][];
      const [cached = {}, writes = {}, newest = {}] = found.map(toRecord);
      if (cached.name !== undefined) return overlay(toProduct(id, cached), writes, newest);
      const loaded = await selectProduct(db, id);
      if (!loaded) return null;
      const seen = [newest.price ?? '', newest.stock ?? ''];
      await run(FILL, [row, marks], viewTtlMs, ...seen, ...Object.entries(loaded).flat());
      return overlay(loaded, writes, newest);
    },

    committed: (write) => finish(write, write.changes),
    refused: (write) => finish(write, {}),
  };
  // #endregion
}

// #region overlay
/** The row, and over it what is pending, oldest first. A column that a newer write has committed is left out. */
function overlay(row: Product, pending: Record<string, string>, marks: Record<string, string>): Product {
  const writes = Object.entries(pending)
    .map(([id, changes]) => ({ at: sortable(id), changes: JSON.parse(changes) as Changes }))
    .sort((a, b) => (a.at < b.at ? -1 : 1));
  const newer = writes.flatMap(({ at, changes }) =>
    Object.entries(changes).filter(([column]) => at > (marks[column] ?? '')),
  );
  return { ...row, ...Object.fromEntries(newer) };
}
// #endregion
