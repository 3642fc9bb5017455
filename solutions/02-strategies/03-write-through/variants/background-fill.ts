import type { Redis } from 'ioredis';
import type { Pool, PoolConnection } from 'mysql2/promise';
import {
  CACHE_DEADLINE_MS,
  decode,
  encode,
  InvalidChangeError,
  InvalidIdError,
  insertUser,
  selectUser,
  USER_TTL_MS,
  type User,
  type UserData,
  userKey,
  WRITABLE,
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  readonly cacheDeadlineMs?: number;
  readonly onCacheError?: (error: unknown) => void;
}

/** An entry of the same version is replaced: a damaged one need not be deleted. Compares the length, then the text. */
const SET_UNLESS_OLDER = `
  local held = redis.call('HMGET', KEYS[1], 'digits', 'version')
  local digits = #ARGV[1]
  if held[1] then
    local heldDigits = tonumber(held[1])
    if heldDigits > digits or (heldDigits == digits and held[2] > ARGV[1]) then return 0 end
  end
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'digits', digits, 'version', ARGV[1], 'row', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return 1`;

/** A reader does not wait for its fill. The transactions are written out. */
export function createUsers({
  redis,
  db,
  cacheDeadlineMs = CACHE_DEADLINE_MS,
  onCacheError = () => {},
}: Options) {
  const inTime = <T>(command: Promise<T>): Promise<T> => {
    const late = new Promise<never>((_, reject) => {
      const timer = setTimeout(() => reject(new Error('Redis is late')), cacheDeadlineMs);
      command.finally(() => clearTimeout(timer)).catch(() => {});
    });
    return Promise.race([command, late]);
  };
  const send = (user: User) =>
    inTime(redis.eval(SET_UNLESS_OLDER, 1, userKey(user.id), user.version, encode(user), USER_TTL_MS));
  const del = (id: number) => inTime(redis.del(userKey(id))).catch(onCacheError);

  async function find(id: number): Promise<User | null> {
    checkId(id);
    let answered = false;
    try {
      const row = await inTime(redis.hgetBuffer(userKey(id), 'row'));
      answered = true;
      if (row) return decode(row.toString());
    } catch (error) {
      onCacheError(error);
    }
    const user = await selectUser(db, id);
    if (user && answered) send(user).catch(onCacheError);
    return user;
  }

  async function create(data: UserData): Promise<User> {
    const user = await write((connection) => insertUser(connection, data));
    if (user === null) throw new Error('not inserted');
    return user;
  }

  async function update(id: number, changes: Partial<UserData>): Promise<User | null> {
    checkId(id);
    const rest = new Map(Object.entries(changes));
    const columns = WRITABLE.filter((column) => rest.delete(column));
    const bad = [...rest.keys(), ...columns.filter((column) => typeof changes[column] !== 'string')][0];
    if (bad !== undefined) throw new InvalidChangeError(bad);
    return write(async (connection) => {
      const set = columns.map((column) => `${column} = ?, `).join('');
      await connection.execute(`UPDATE users SET ${set} version = version + 1 WHERE id = ?`, [
        ...columns.map((column) => changes[column] ?? ''),
        id,
      ]);
      return id;
    }, id);
  }

  async function write(
    change: (connection: PoolConnection) => Promise<number>,
    id?: number,
  ): Promise<User | null> {
    const connection = await db.getConnection();
    let user: User | null;
    try {
      await connection.query('START TRANSACTION');
      user = await selectUser(connection, await change(connection));
      await connection.query('COMMIT');
      connection.release();
    } catch (error) {
      connection.destroy();
      if (id !== undefined) await del(id);
      throw error;
    }
    if (user === null) return null;
    try {
      await send(user);
    } catch (error) {
      onCacheError(error);
      await del(user.id);
    }
    return user;
  }

  return { find, create, update };
}

function checkId(id: number): void {
  if (!Number.isSafeInteger(id) || id < 1) throw new InvalidIdError(id);
}
