import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { withDeadline } from '#kit/given';
import {
  type Changes,
  DEADLINE_MS,
  type Product,
  STREAM,
  selectProduct,
  sortable,
  streamFields,
  VIEW_TTL_MS,
  type Write,
} from '../given';

/** A commit deletes the copy of the row, as cache-aside does, and a read need not wait for its fill. */
export function createPendingWrites({
  redis,
  db,
  viewTtlMs = VIEW_TTL_MS,
  deadlineMs = DEADLINE_MS,
}: {
  redis: Redis;
  db: Pool;
  viewTtlMs?: number;
  deadlineMs?: number;
}) {
  const inTime = <T>(answer: Promise<T>) => withDeadline(answer, deadlineMs);
  const key = (id: number, part: string) => `${STREAM}:${id}:${part}`;

  async function read(id: number): Promise<Product | null> {
    // In this order: what a commit moves between two of them is then seen twice, and not missed.
    const pending = await inTime(redis.hgetall(key(id, 'pending')));
    const marks = await inTime(redis.hgetall(key(id, 'marks')));
    const text = await inTime(redis.get(key(id, 'row')));
    const row: Product | null = text === null ? await selectProduct(db, id) : JSON.parse(text);
    if (!row) return null;
    if (text === null) {
      const keys = [key(id, 'row'), key(id, 'marks')];
      redis.eval(FILL, 2, ...keys, marks.generation ?? '', JSON.stringify(row), viewTtlMs).catch(() => {});
    }
    const writes = Object.entries(pending).map(([at, changes]) => ({ at: sortable(at), changes }));
    writes.sort((a, b) => a.at.localeCompare(b.at));
    const laid = writes.map(({ at, changes }) => {
      const columns = Object.entries(JSON.parse(changes) as Changes);
      return Object.fromEntries(columns.filter(([column]) => at > (marks[column] ?? '')));
    });
    return Object.assign({ ...row }, ...laid);
  }

  async function finish({ id, product }: Write, columns: string[]): Promise<void> {
    const keys = ['row', 'pending', 'marks'].map((part) => key(product, part));
    await inTime(redis.eval(FINISH, 3, ...keys, id, sortable(id), viewTtlMs, ...columns));
  }

  return {
    async accept(id: number, changes: Changes): Promise<void> {
      const keys = [STREAM, key(id, 'pending'), key(id, 'marks')];
      const fields = streamFields(id, changes);
      await inTime(redis.eval(ACCEPT, 3, ...keys, JSON.stringify(changes), ...fields));
    },
    read,
    committed: (write: Write) => finish(write, Object.keys(write.changes)),
    refused: (write: Write) => finish(write, []),
  };
}

const ACCEPT = `
  redis.call('HSET', KEYS[2], redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2)), ARGV[1])
  redis.call('PERSIST', KEYS[3])`;

const FILL = `
  if (redis.call('HGET', KEYS[2], 'generation') or '') == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  end`;

const FINISH = `
  if redis.call('HDEL', KEYS[2], ARGV[1]) == 1 and ARGV[4] then
    redis.call('DEL', KEYS[1])
    -- The id of a stream never comes again, so a generation does not either.
    redis.call('HSET', KEYS[3], 'generation', ARGV[1])
    for at = 4, #ARGV do
      if ARGV[2] > (redis.call('HGET', KEYS[3], ARGV[at]) or '') then redis.call('HSET', KEYS[3], ARGV[at], ARGV[2]) end
    end
  end
  if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('PEXPIRE', KEYS[3], ARGV[3]) end`;
