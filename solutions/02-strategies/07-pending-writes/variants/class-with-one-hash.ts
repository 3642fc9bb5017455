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
} from '../given';

/** All of a view in one hash: row:COLUMN and row:until, write:ID, mark:COLUMN, and the count of what is pending. */
const viewKey = (id: number) => `{products}:view:${id}`;

const ACCEPT = `
  local id = redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
  redis.call('HSET', KEYS[2], 'write:' .. id, ARGV[1])
  redis.call('HINCRBY', KEYS[2], 'count', 1)
  redis.call('PERSIST', KEYS[2])`;

/** With the time: whether the copy of the row is too old is decided by the clock of Redis. */
const LOOK = `
  local time = redis.call('TIME')
  return {time[1] * 1000 + math.floor(time[2] / 1000), redis.call('HGETALL', KEYS[1])}`;

const FILL = `
  local marks = redis.call('HMGET', KEYS[1], 'mark:price', 'mark:stock')
  if (marks[1] or '') ~= ARGV[2] or (marks[2] or '') ~= ARGV[3] then return end
  local time = redis.call('TIME')
  local ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
  redis.call('HSET', KEYS[1], 'row:until', string.format('%d', ends), unpack(ARGV, 4))
  if redis.call('HGET', KEYS[1], 'count') == false then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end`;

const FINISH = `
  if redis.call('HDEL', KEYS[1], 'write:' .. ARGV[1]) == 0 then return end
  for at = 4, #ARGV, 2 do
    local mark = 'mark:' .. ARGV[at]
    if ARGV[2] > (redis.call('HGET', KEYS[1], mark) or '') then
      redis.call('HSET', KEYS[1], mark, ARGV[2], 'row:' .. ARGV[at], ARGV[at + 1])
    end
  end
  if redis.call('HINCRBY', KEYS[1], 'count', -1) > 0 then return end
  redis.call('HDEL', KEYS[1], 'count')
  redis.call('PEXPIRE', KEYS[1], ARGV[3])`;

export function createPendingWrites(options: {
  redis: Redis;
  db: Pool;
  viewTtlMs?: number;
  deadlineMs?: number;
}) {
  return new PendingWrites(options);
}

class PendingWrites {
  readonly #redis: Redis;
  readonly #db: Pool;
  readonly #ttlMs: number;
  readonly #deadlineMs: number;

  constructor({
    redis,
    db,
    viewTtlMs = VIEW_TTL_MS,
    deadlineMs = DEADLINE_MS,
  }: Parameters<typeof createPendingWrites>[0]) {
    this.#redis = redis;
    this.#db = db;
    this.#ttlMs = viewTtlMs;
    this.#deadlineMs = deadlineMs;
  }

  async accept(id: number, changes: Changes): Promise<void> {
    await this.#run(ACCEPT, [STREAM, viewKey(id)], JSON.stringify(changes), ...streamFields(id, changes));
  }

  async read(id: number): Promise<Product | null> {
    const [now, fields] = (await this.#run(LOOK, [viewKey(id)])) as [number, string[]];
    const view = toRecord(fields);
    if (Number(view['row:until'] ?? 0) > now) return this.#overlay(rowOf(id, view), view);
    const row = await selectProduct(this.#db, id);
    if (!row) return null;
    const columns = Object.entries(row).flatMap(([column, value]) => [`row:${column}`, value]);
    const marks = [view['mark:price'] ?? '', view['mark:stock'] ?? ''];
    await this.#run(FILL, [viewKey(id)], this.#ttlMs, ...marks, ...columns);
    return this.#overlay(row, view);
  }

  async committed({ id, product, changes }: Write): Promise<void> {
    const values = Object.entries(changes).flat();
    await this.#run(FINISH, [viewKey(product)], id, sortable(id), this.#ttlMs, ...values);
  }

  async refused({ id, product }: Write): Promise<void> {
    await this.#run(FINISH, [viewKey(product)], id, sortable(id), this.#ttlMs);
  }

  #overlay(row: Product, view: Record<string, string>): Product {
    const newest: Record<string, { at: string; value: unknown }> = {};
    for (const [field, changes] of Object.entries(view)) {
      if (!field.startsWith('write:')) continue;
      const at = sortable(field.slice('write:'.length));
      for (const [column, value] of Object.entries(JSON.parse(changes))) {
        if (at > (newest[column]?.at ?? view[`mark:${column}`] ?? '')) newest[column] = { at, value };
      }
    }
    const values = Object.entries(newest).map(([column, { value }]) => [column, value]);
    return { ...row, ...Object.fromEntries(values) };
  }

  #run(script: string, keys: string[], ...args: (string | number)[]): Promise<unknown> {
    return withDeadline(this.#redis.eval(script, keys.length, ...keys, ...args), this.#deadlineMs);
  }
}

const rowOf = (id: number, view: Record<string, string>): Product =>
  toProduct(id, { name: view['row:name'], price: view['row:price'], stock: view['row:stock'] });
